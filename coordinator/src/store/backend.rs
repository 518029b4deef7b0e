//! In what the back ends differ. Everything else is one text of SQL for both: numbered placeholders, `TEXT` and 64-bit numbers,
//! `ON CONFLICT … DO UPDATE`.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | who writes | one transaction after the other | many at once; a lease's row is locked by whoever changes it |
//! | where | a file of this machine | a server that several Lease Managers share |

use super::StoreError;
use super::transaction::Tx;
use futures_util::future::BoxFuture;
use leaseboot_protocol::ids::LeaseId;
use sqlx::AnyPool;
use sqlx::migrate::{MigrateError, Migrator};

/// What a back end does in its own way.
pub(super) trait Backend: Send + Sync {
    /// Begins a transaction that may write from its first statement, so that two of them wait for each other instead of failing.
    fn begin(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>>;

    /// Reads the version of the lease `$1` and keeps others from changing the lease until the transaction ends.
    fn hold_lease(&self) -> &'static str;

    /// Begins a transaction that only reads, and sees the store as it is at one moment.
    fn snapshot(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>>;

    /// Tables, their columns and those columns' types, but not what each back end counts in its own way: the migrations and the changes of
    /// the fleet.
    fn columns(&self) -> &'static str;

    /// What must be done after rows were put in with the numbers that they had elsewhere.
    fn after_load(&self) -> &'static [&'static str];

    /// Who we are among the Lease Managers of the store: the same after a restart where there can be only one.
    fn name(&self) -> &str;

    /// Tells the other Lease Managers that a lease changed, or that somebody must act.
    fn announce(&self, lease: Option<&LeaseId>, work: bool);

    /// Ends what is not a connection of the pool.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Brings the tables to the version of `migrator`, unless they are newer.
pub(super) async fn migrate(pool: &AnyPool, migrator: &Migrator, place: &str) -> Result<(), StoreError> {
    let known = migrator.iter().map(|migration| migration.version).max();
    migrator.run(pool).await.map_err(|source| match source {
        MigrateError::VersionMissing(found) => StoreError::Newer {
            place: place.to_owned(),
            found,
            known: known.unwrap_or_default(),
        },
        source => StoreError::Migrate {
            place: place.to_owned(),
            source,
        },
    })
}
