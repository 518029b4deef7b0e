//! The store in one file: nothing to set up, nobody to ask, and one Lease Manager.
//!
//! The journal is a write-ahead log that is forced to the disk at each commit (`synchronous=FULL`): readers never wait for the
//! writer, and what was committed outlives `kill -9` and a loss of power.

use super::StoreError;
use super::backend::{Backend, migrate};
use super::group::Group;
use super::transaction::Tx;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use leaseboot_protocol::ids::LeaseId;
use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str::FromStr as _;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
const READERS: u32 = 4;

/// The first waits for a writer in another process (`leaseboot-lm servers`) longer than any transaction here takes.
const WRITER: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
/// Who would write past the group is told so at once.
const READER: &str = "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON;";

/// What the database says of its tables.
const COLUMNS: &str = "SELECT tables.name, columns.name, columns.type FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite~_%' ESCAPE '~' AND tables.name NOT IN ('_sqlx_migrations', 'fleet_clock')
    AND columns.name <> 'changed'
    ORDER BY tables.name, columns.cid";

pub(super) struct Sqlite {
    group: Group,
    readers: AnyPool,
}

/// Opens the file, makes it if need be, and brings its tables to this version. The pool is for reading.
pub(super) async fn open(path: &Path) -> Result<(AnyPool, Sqlite), StoreError> {
    let place = path.display().to_string();
    let failed = |source| StoreError::Open {
        place: place.clone(),
        source,
    };
    // The writer first: it makes the file.
    let writer = connect(path, 1, WRITER).await.map_err(failed)?;
    migrate(&writer, &MIGRATIONS, &place).await?;
    let readers = connect(path, READERS, READER).await.map_err(failed)?;
    let group = Group::start(writer);
    Ok((readers.clone(), Sqlite { group, readers }))
}

async fn connect(path: &Path, connections: u32, pragmas: &'static str) -> Result<AnyPool, sqlx::Error> {
    let path = std::path::absolute(path)?;
    AnyPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            async move { sqlx::raw_sql(pragmas).execute(connection).await.map(drop) }.boxed()
        })
        .connect_with(AnyConnectOptions::from_str(&url(&path))?)
        .await
}

/// The path as an address, every byte that could mean something else escaped.
fn url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                url.push(char::from(*byte))
            }
            other => write!(url, "%{other:02X}").expect("a String takes everything"),
        }
    }
    url + "?mode=rwc"
}

/// Whether another process has the file open, by asking for it alone: whoever reads or writes holds a lock on it.
pub(super) async fn in_use(path: &Path) -> Result<bool, sqlx::Error> {
    if !path.exists() {
        return Ok(false);
    }
    let alone = "PRAGMA busy_timeout = 100; PRAGMA locking_mode = EXCLUSIVE;";
    let pool = connect(path, 1, alone).await?;
    let asked = pool.begin_with("BEGIN EXCLUSIVE").await;
    let busy = match asked {
        Ok(transaction) => transaction.rollback().await.map(|()| false),
        Err(error) if error.to_string().contains("locked") => Ok(true),
        Err(error) => Err(error),
    };
    pool.close().await;
    busy
}

impl Backend for Sqlite {
    fn begin(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        async { Ok(Tx::member(self.group.join().await?)) }.boxed()
    }

    fn hold_lease(&self) -> &'static str {
        // There is only one writer: whoever reads here, holds.
        "SELECT version FROM leases WHERE id = $1"
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        // The first statement fixes what is seen.
        async { Ok(Tx::alone(self.readers.begin().await?)) }.boxed()
    }

    fn columns(&self) -> &'static str {
        COLUMNS
    }

    fn after_load(&self) -> &'static [&'static str] {
        // AUTOINCREMENT goes on after the largest number that it has seen.
        &[]
    }

    fn name(&self) -> &str {
        "the only one"
    }

    fn announce(&self, _lease: Option<&LeaseId>, _work: bool) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        self.group.close().boxed()
    }
}
