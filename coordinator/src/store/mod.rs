//! Everything that the Lease Manager must not forget. SQL stands only here.
//!
//! There is one store over two back ends ([`Location`]): an SQLite file, or a PostgreSQL database that several Lease Managers share.
//! The statements are the same text for both; in what they differ is [`backend`], a short trait. See `docs/decisions/` for why.
//!
//! Each change of a lease is one transaction: the new state, its events, and what must happen outside (power orders, revoked
//! tokens, the server's custody). [`Store::commit`] checks that nobody changed the lease in between, so it may be called from
//! anywhere, also from several Lease Managers at once.
//!
//! Tables (`coordinator/migrations/`): `servers`, `leases`, `events`, `kickstarts`, `boot_tokens`, `sessions`, `power_orders`,
//! `strangers`, `erasures`, `tenants`, `tenant_certificates`, `invitations`, `audit`, `audit_head`,
//! `idempotency_keys`, `handovers`, `boot_logs`, `server_rescues`,
//! `lease_rescues`, `console_calls`, `remains`. The text that a server is given stands in `kickstarts.merged`; no digest of it is kept, so a text that is
//! changed by hand is served as it is and refused by the agent, whose digest comes from the enterprise.
//!
//! **To add a table**: a pair of migrations `migrations/{sqlite,postgres}/NNNN_subject.sql`, and a file here with its statements.
//! Whoever writes asks [`Store::write`] or [`Store::execute`]; `pool` is for reading, and on SQLite cannot do more.
//! Placeholders are `$1, $2, …`; columns are `TEXT` and `INTEGER`/`BIGINT` (`i64`); what exists is replaced by `ON CONFLICT … DO UPDATE`; a `sum` is `CAST(sum(x) AS BIGINT)`. A test of the store runs on both back ends by `on_both_back_ends!`.

mod audit;
mod backend;
mod boot_logs;
mod changes;
mod counts;
mod dump;
mod effects;
mod erasures;
mod fleet;
mod group;
mod handovers;
mod idempotency;
mod kickstarts;
mod leases;
mod location;
mod notices;
mod pages;
mod postgres;
mod power;
mod racks;
mod rescues;
mod servers;
mod several;
mod sqlite;
mod tenants;
mod tokens;
mod transaction;

pub use boot_logs::{BootLogPiece, BootName};
pub use changes::Following;
pub use counts::Counts;
pub use dump::DumpError;
pub use fleet::{Baseline, DeclareError, FleetRow, LabelChanges};
pub use handovers::model;
pub use idempotency::{Claim, KeptAnswer};
pub use kickstarts::KickstartRecord;
pub use leases::{Change, LeaseRecord, NewLease, Taken};
pub use location::{Location, LocationError, PasswordError, PostgresLocation};
pub use power::PowerRow;
pub use rescues::{Remains, TenantsWord};
pub use servers::{Custody, ServerRecord, StrangerRecord};
pub use tenants::{NewInvitation, Redemption, TenantRecord};
pub use tokens::{BootTicket, DriverSet, NewBootToken, Redeemed, SessionRecord};

use backend::Backend;
use changes::Changes;
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyPool};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use transaction::Tx;

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    /// For reading. Writing goes through [`Store::write`].
    pool: AnyPool,
    backend: Arc<dyn Backend>,
    place: Arc<str>,
    /// Told of each change, here or at another Lease Manager.
    changes: Changes,
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened.
    #[error(
        "cannot open the store {place}: the folder of a file must be writable and the file a store; a database must be there and let us in"
    )]
    Open {
        /// The file or the database.
        place: String,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// The password of the database cannot be read.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A newer Lease Manager wrote it.
    #[error(
        "the store {place} has tables of version {found}, and this Lease Manager knows versions up to {known}: a newer one has used it; run that one, or restore a backup of before"
    )]
    Newer {
        /// The file or the database.
        place: String,
        /// The version that is not known.
        found: i64,
        /// The newest that is.
        known: i64,
    },
    /// The tables cannot be brought to this version.
    #[error("cannot bring the tables of {place} to this version")]
    Migrate {
        /// The file or the database.
        place: String,
        /// Why it failed.
        source: sqlx::migrate::MigrateError,
    },
    /// A query failed.
    #[error("cannot {attempted} in the store")]
    Query {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// No random numbers.
    #[error("cannot get random numbers from the kernel")]
    Random(#[source] getrandom::Error),
    /// A row does not hold what it should.
    #[error("cannot understand {what} in the store: {problem}")]
    Content {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Store {
    /// Opens the store, makes a file if need be, and brings the tables to this version.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Password`], [`StoreError::Newer`], [`StoreError::Migrate`].
    pub async fn open(place: &Location) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let changes = Changes::default();
        let (pool, backend): (_, Arc<dyn Backend>) = match place {
            Location::Sqlite(path) => {
                let (pool, backend) = sqlite::open(path).await?;
                (pool, Arc::new(backend))
            }
            Location::Postgres(database) => {
                let (pool, backend) = postgres::open(database, changes.clone()).await?;
                (pool, Arc::new(backend))
            }
        };
        Ok(Self {
            pool,
            backend,
            place: place.to_string().into(),
            changes,
        })
    }

    /// Changes when somebody may have to act: see [`Store::announce`]. It is a hint: what there is to do is to be read.
    pub fn work(&self) -> watch::Receiver<u64> {
        self.changes.work()
    }

    /// Waits for changes of one lease, whichever Lease Manager changes it.
    pub fn follow(&self, lease: &LeaseId) -> Following {
        self.changes.follow(lease)
    }

    /// Says that a lease changed, to all who follow it, here and at the other Lease Managers; and, with `work`, that somebody may have to act.
    pub fn announce(&self, lease: &LeaseId, work: bool) {
        self.changes.tell_of(lease);
        if work {
            self.changes.tell_of_work();
        }
        self.backend.announce(Some(lease), work);
    }

    /// Says here only that somebody may have to act: the others see the same by themselves.
    pub fn call_to_work(&self) {
        self.changes.tell_of_work();
    }

    /// Says that somebody may have to act, whatever lease it is about.
    pub fn announce_work(&self) {
        self.changes.tell_of_work();
        self.backend.announce(None, true);
    }

    /// Closes all connections; what was committed stays.
    pub async fn close(&self) {
        self.backend.close().await;
        self.pool.close().await;
    }

    /// A transaction that may write from its first statement.
    async fn write(&self, attempted: &'static str) -> Result<Tx, StoreError> {
        self.backend.begin().await.map_err(failed(attempted))
    }

    /// One statement as a transaction of its own; gives the number of rows that it changed.
    async fn execute(
        &self,
        attempted: &'static str,
        statement: Query<'_, Any, AnyArguments>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.write(attempted).await?;
        let done = statement.execute(&mut *tx).await.map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(done.rows_affected())
    }
}

/// Without the pool, whose options know the password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.place).finish()
    }
}

/// For `map_err`: a failed query with what was attempted.
fn failed(attempted: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { attempted, source }
}

fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| content(what, error))
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| content(what, error))
}

fn content(what: &'static str, problem: impl fmt::Display) -> StoreError {
    StoreError::Content {
        what,
        problem: problem.to_string(),
    }
}

/// A point in time as a column holds it.
fn column(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn timestamp(column: i64) -> Timestamp {
    Timestamp(u64::try_from(column).unwrap_or_default())
}

#[cfg(test)]
mod tests;
