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

pub(super) struct Sqlite {
    group: Group,
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
    Ok((readers, Sqlite { group }))
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

impl Backend for Sqlite {
    fn begin(&self) -> BoxFuture<'_, Result<Tx, sqlx::Error>> {
        async { Ok(Tx::member(self.group.join().await?)) }.boxed()
    }

    fn hold_lease(&self) -> &'static str {
        // There is only one writer: whoever reads here, holds.
        "SELECT version FROM leases WHERE id = $1"
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.group.close().boxed()
    }
}
