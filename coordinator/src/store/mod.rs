//! Everything that the Lease Manager must not forget, in one SQLite file. SQL stands only here.
//!
//! Each change of a lease is one transaction: the new state, its events, and what must happen outside (power
//! orders, revoked
//! tokens, the server's custody). [`Store::commit`] checks that nobody changed the lease in between, so it may
//! be called from
//! anywhere; a second back end (PostgreSQL) would keep the same methods.
//!
//! Tables (`coordinator/migrations/`): `servers`, `leases`, `events`, `kickstarts`, `boot_tokens`, `sessions`,
//! `power_orders`, `strangers`, `erasures`. The
//! text that a server is given stands in `kickstarts.merged`; no digest of it is kept, so a text that is
//! changed by hand is served
//! as it is and refused by the agent, whose digest comes from the enterprise.

mod counts;
mod effects;
mod erasures;
mod leases;
mod power;
mod servers;
mod tokens;

pub use counts::Counts;
pub use leases::{Change, KickstartRecord, LeaseRecord, NewLease, Taken};
pub use power::PowerRow;
pub use servers::{Custody, NewServer, ServerRecord, StrangerRecord};
pub use tokens::{BootTicket, NewBootToken, Redeemed, SessionRecord};

use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer waits for another: longer than any transaction here takes.
const BUSY_TIME: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 4;

/// The open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error(
        "cannot open the store {path}: its folder must be writable and its file a store of this or an older version"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// The tables cannot be brought to this version.
    #[error("cannot bring the tables of {path} to this version: it may have been used by a newer one")]
    Migrate {
        /// The file.
        path: PathBuf,
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
    /// Opens the file, makes it if need be, and brings its tables to this version.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIME);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open {
                path: path.to_owned(),
                source,
            })?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(|source| StoreError::Migrate {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { pool })
    }

    /// Closes all connections; what was committed stays.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that may write from its first statement, so that two of them wait for each other instead
    /// of failing.
    async fn write(&self, attempted: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|source| StoreError::Query { attempted, source })
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

fn content(what: &'static str, problem: impl std::fmt::Display) -> StoreError {
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
