//! The store in a PostgreSQL database, on which several Lease Managers run side by side.
//!
//! A transaction is as isolated as PostgreSQL does by itself (*read committed*): each statement sees what was committed before
//! it. So whatever is read in order to be changed is locked by reading it, and rows are locked in one order everywhere: the
//! lease, its server, its power order.

use super::StoreError;
use super::backend::{Backend, migrate};
use super::changes::Changes;
use super::location::{Location, PostgresLocation};
use super::notices::Notices;
use super::transaction::Tx;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use leaseboot_protocol::ids::LeaseId;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AnyPool};
use std::time::Duration;
use tokio::time::Instant;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");
/// Connections of one Lease Manager; PostgreSQL allows 100 in all unless it is told otherwise.
const CONNECTIONS: u32 = 16;
/// How long a connection is waited for, when all are busy or the database is away.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A Lease Manager that stands still in a transaction must not stop the others.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; SET default_transaction_isolation = 'read committed'";

/// What the database says of its tables.
const COLUMNS: &str = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns
    JOIN information_schema.tables USING (table_schema, table_name) WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
    AND table_name <> '_sqlx_migrations' AND column_name <> 'changed' ORDER BY table_name, ordinal_position";

/// Numbers that the database gives go on after those that were put in.
const NUMBER_ON: &str = "DO $$ DECLARE made record; BEGIN
    FOR made IN SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES' LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM %I',
            made.table_name, made.column_name, made.column_name, made.table_name);
    END LOOP; END $$";

/// Others that are connected and call themselves as we do.
const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'leaseboot-lm' AND pid <> pg_backend_pid()";

/// PostgreSQL knows a connection for a moment longer than the one who closed it.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_LOOK: Duration = Duration::from_millis(50);

pub(super) struct Postgres {
    pool: AnyPool,
    name: String,
    notices: Notices,
}

/// Connects, and brings the tables to this version; of several that try, one does. `changes` are told of what others tell.
pub(super) async fn open(
    place: &PostgresLocation,
    changes: Changes,
) -> Result<(AnyPool, Postgres), StoreError> {
    let name = Location::Postgres(place.clone()).to_string();
    let password = place.password()?;
    let failed = |source| StoreError::Open {
        place: name.clone(),
        source,
    };
    let options = place.options(password.as_ref()).map_err(failed)?;
    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT_TIME)
        .after_connect(|connection, _| prepare(connection).boxed())
        .connect_with(options)
        .await
        .map_err(failed)?;
    migrate(&pool, &MIGRATIONS, &name).await?;
    let number = getrandom::u64().map_err(StoreError::Random)?;
    let us = format!("{}-{number:016x}", std::process::id());
    let notices = Notices::start(place, password.as_ref(), pool.clone(), &us, changes).map_err(failed)?;
    let backend = Postgres {
        pool: pool.clone(),
        name: us,
        notices,
    };
    Ok((pool, backend))
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SETTINGS).execute(connection).await.map(drop)
}

/// Whether a Lease Manager is connected.
pub(super) async fn in_use(place: &PostgresLocation) -> Result<bool, StoreError> {
    let name = place.url().to_owned();
    let failed = |source| StoreError::Open {
        place: name.clone(),
        source,
    };
    let password = place.password()?;
    let options = place.options(password.as_ref()).map_err(failed)?;
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIME)
        .connect_with(options)
        .await
        .map_err(failed)?;
    let others = others_stay(&pool).await;
    pool.close().await;
    others.map_err(failed)
}

/// Whether others are connected, now and for the whole of [`FAREWELL`].
async fn others_stay(pool: &AnyPool) -> Result<bool, sqlx::Error> {
    let deadline = Instant::now() + FAREWELL;
    loop {
        let others: i64 = sqlx::query_scalar(OTHERS).fetch_one(pool).await?;
        if others == 0 || Instant::now() >= deadline {
            return Ok(others > 0);
        }
        tokio::time::sleep(FAREWELL_LOOK).await;
    }
}

impl Backend for Postgres {
    fn begin(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        async { Ok(Tx::alone(self.pool.begin().await?)) }.boxed()
    }

    fn hold_lease(&self) -> &'static str {
        "SELECT version FROM leases WHERE id = $1 FOR UPDATE"
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        async {
            let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
            Ok(Tx::alone(self.pool.begin_with(begin).await?))
        }
        .boxed()
    }

    fn columns(&self) -> &'static str {
        COLUMNS
    }

    fn after_load(&self) -> &'static [&'static str] {
        &[NUMBER_ON]
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn announce(&self, lease: Option<&LeaseId>, work: bool) {
        self.notices.announce(lease, work);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.notices.stop();
        std::future::ready(()).boxed()
    }
}
