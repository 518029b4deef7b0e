//! The store in a PostgreSQL database, on which several Lease Managers run side by side.
//!
//! A transaction is as isolated as PostgreSQL does by itself (*read committed*): each statement sees what was committed before
//! it. So whatever is read in order to be changed is locked by reading it, and rows are locked in one order everywhere: the
//! lease, its server, its power order.

use super::StoreError;
use super::backend::{Backend, migrate};
use super::location::{Location, PostgresLocation};
use super::transaction::Tx;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AnyPool};
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");
/// Connections of one Lease Manager; PostgreSQL allows 100 in all unless it is told otherwise.
const CONNECTIONS: u32 = 16;
/// How long a connection is waited for, when all are busy or the database is away.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A Lease Manager that stands still in a transaction must not stop the others.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; SET default_transaction_isolation = 'read committed'";

pub(super) struct Postgres {
    pool: AnyPool,
}

/// Connects, and brings the tables to this version; of several that try, one does.
pub(super) async fn open(place: &PostgresLocation) -> Result<(AnyPool, Postgres), StoreError> {
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
    Ok((pool.clone(), Postgres { pool }))
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SETTINGS).execute(connection).await.map(drop)
}

impl Backend for Postgres {
    fn begin(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        async { Ok(Tx::alone(self.pool.begin().await?)) }.boxed()
    }

    fn hold_lease(&self) -> &'static str {
        "SELECT version FROM leases WHERE id = $1 FOR UPDATE"
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
