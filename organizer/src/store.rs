//! What a restarted PO must know, in SQLite. Every change is one transaction, and there is one writer: the pool has one connection,
//! which is plenty for the few changes of a transfer and leaves no room for two borrowings to get the same address.
//!
//! The only files with SQL: this one and those of its folder.

mod announced;
mod boot_logs;
mod policies;
mod rescue;

pub use boot_logs::BootLogPiece;
pub use policies::HearError;
pub use rescue::ConsoleRecord;

use crate::borrowing::machine::State;
use crate::borrowing::{BorrowingId, Heard, Order};
use crate::policy::WantKey;
use crate::progress::{Note, Progress};
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file is of another version.
    #[error("cannot bring the store {} to this version: use the leaseboot-po that made it", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("the store cannot {what}: is the disk full?")]
    Statement {
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row makes no sense.
    #[error("the store holds a {what} that this version cannot read")]
    Content {
        /// What kind of row.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Why no borrowing was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Every address is given out.
    #[error(
        "all {0} addresses of the tunnel's network are given out; release a server, or widen `tunnel` in po.toml"
    )]
    NoAddress(usize),
    /// The name is taken.
    #[error("the name {0} is taken by another borrowing; release that one, or choose another --hostname")]
    NameTaken(Hostname),
    /// The pattern has no free name.
    #[error(
        "every name that the profile's pattern makes is taken; release a server, or write {{n}} into the pattern"
    )]
    NoName,
    /// The policy's want has its borrowing, or is closed.
    #[error("the server {0} is not wanted any more")]
    NotWanted(WantKey),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A borrowing as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: BorrowingId,
    /// When it began.
    pub created: Timestamp,
    /// When its state changed last.
    pub since: Timestamp,
    /// What was ordered.
    pub order: Order,
    /// Where it stands.
    pub state: State,
    /// What the lender was heard to say.
    pub heard: Heard,
    /// The lender that was asked last, where there are several.
    pub lender: Option<String>,
}

/// The store.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// A place for a new borrowing.
pub struct Place {
    /// An address that nobody has.
    pub address: Ipv4Addr,
    /// A name that nobody has.
    pub hostname: Hostname,
}

fn statement(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { what, source }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a stored type is JSON")
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Content { what, source })
}

/// SQLite's integers are signed; times and sequences stay far below the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

impl Store {
    /// Opens the file, and makes it when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Open`] and [`StoreError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open {
                path: path.to_owned(),
                source,
            })?;
        let migrated = sqlx::migrate!().run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { pool })
    }

    /// Creates a borrowing with a free address of `pool` and a free name; `order` completes it once both are known.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is given out then.
    pub async fn create(
        &self,
        pool: impl Iterator<Item = Ipv4Addr>,
        name: impl FnOnce(&dyn Fn(&Hostname) -> bool) -> Result<Hostname, CreateError>,
        order: impl FnOnce(Place) -> Order,
        at: Timestamp,
    ) -> Result<Record, CreateError> {
        self.create_for(None, pool, name, order, at).await
    }

    /// As [`Store::create`], for what a policy wants: the want has its borrowing in the same transaction, and has one only.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is given out then.
    pub async fn create_for(
        &self,
        want: Option<&WantKey>,
        pool: impl Iterator<Item = Ipv4Addr>,
        name: impl FnOnce(&dyn Fn(&Hostname) -> bool) -> Result<Hostname, CreateError>,
        order: impl FnOnce(Place) -> Order,
        at: Timestamp,
    ) -> Result<Record, CreateError> {
        let failed = || statement("create a borrowing");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        let addresses = column(&mut transaction, "SELECT address FROM address").await?;
        let names = column(&mut transaction, "SELECT hostname FROM borrowing WHERE over = 0").await?;
        let mut known = 0;
        let address = pool
            .inspect(|_| known += 1)
            .find(|address| !addresses.contains(&address.to_string()));
        let address = address.ok_or(CreateError::NoAddress(known))?;
        let hostname = name(&|name| names.contains(name.as_str()))?;
        let order = order(Place { address, hostname });
        let record = Record {
            id: BorrowingId::generate(),
            created: at,
            since: at,
            order,
            state: State::Searching,
            heard: Heard::default(),
            lender: None,
        };
        sqlx::query(
            r#"INSERT INTO borrowing (id, created, since, hostname, "order", state) VALUES (?, ?, ?, ?, ?, ?)"#,
        )
        .bind(record.id.as_str())
        .bind(signed(at.0))
        .bind(signed(at.0))
        .bind(record.order.settings.hostname.as_str())
        .bind(to_json(&record.order))
        .bind(to_json(&record.state))
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        sqlx::query("INSERT INTO address (address, borrowing) VALUES (?, ?)")
            .bind(address.to_string())
            .bind(record.id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        if let Some(want) = want {
            policies::fulfil(&mut transaction, want, &record).await?;
        }
        let created = Note::Created {
            profile: record.order.settings.profile.clone(),
            hostname: record.order.settings.hostname.clone(),
            address: record.order.address(),
        };
        append(&mut transaction, &record.id, at, &[created]).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(record)
    }

    /// Writes down how a borrowing went on; when it is over, its address and name are free again. Gives the last note's position.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    pub async fn advance(
        &self,
        id: &BorrowingId,
        state: &State,
        heard: Heard,
        notes: &[Note],
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let failed = || statement("write down how a borrowing goes on");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        sqlx::query(
            "UPDATE borrowing SET since = CASE WHEN state = ?1 THEN since ELSE ?2 END, state = ?1, \
             lease = ?3, cursor = ?4, over = ?5, expires = ?6, ends_soon = ?7 WHERE id = ?8",
        )
        .bind(to_json(state))
        .bind(signed(at.0))
        .bind(state.lease().map(|lease| lease.as_str().to_owned()))
        .bind(signed(heard.cursor))
        .bind(state.is_over())
        .bind(heard.expires.map(|at| signed(at.0)))
        .bind(heard.ends_soon)
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
        if state.is_announced() {
            announced::owe(&mut transaction, id).await?;
        }
        if state.is_over() {
            sqlx::query("DELETE FROM address WHERE borrowing = ?")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        let last = append(&mut transaction, id, at, notes).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(last)
    }

    /// Writes down which lender is asked, or that another one must be found. Gives the note's position.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    pub async fn choose(
        &self,
        id: &BorrowingId,
        lender: Option<&str>,
        note: Note,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let failed = || statement("write down which lender is asked");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        sqlx::query("UPDATE borrowing SET lender = ? WHERE id = ?")
            .bind(lender)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        let last = append(&mut transaction, id, at, &[note]).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(last)
    }

    /// All borrowings, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all(&self) -> Result<Vec<Record>, StoreError> {
        let rows = sqlx::query(
            r#"SELECT id, created, since, "order", state, cursor, expires, ends_soon, lender FROM borrowing ORDER BY created, id"#,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(statement("list the borrowings"))?;
        let record = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Record {
                id: BorrowingId::from_text(row.get::<String, _>("id")),
                created: Timestamp(unsigned(row.get("created"))),
                since: Timestamp(unsigned(row.get("since"))),
                order: from_json("order", row.get("order"))?,
                state: from_json("state", row.get("state"))?,
                heard: Heard {
                    cursor: unsigned(row.get("cursor")),
                    expires: row
                        .get::<Option<i64>, _>("expires")
                        .map(|at| Timestamp(unsigned(at))),
                    ends_soon: row.get("ends_soon"),
                },
                lender: row.get("lender"),
            })
        };
        rows.iter().map(record).collect()
    }

    /// At most `most` notes after position `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn progress(
        &self,
        id: &BorrowingId,
        after: u64,
        most: u32,
    ) -> Result<Vec<Progress>, StoreError> {
        let rows = sqlx::query(
            "SELECT sequence, at, note FROM progress WHERE borrowing = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        )
        .bind(id.as_str())
        .bind(signed(after))
        .bind(most)
        .fetch_all(&self.pool)
        .await
        .map_err(statement("read a borrowing's history"))?;
        let progress = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Progress {
                sequence: unsigned(row.get("sequence")),
                at: Timestamp(unsigned(row.get("at"))),
                note: from_json("note", row.get("note"))?,
            })
        };
        rows.iter().map(progress).collect()
    }

    /// Waits until everything is on disk and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn column(
    connection: &mut SqliteConnection,
    query: &'static str,
) -> Result<BTreeSet<String>, StoreError> {
    let values: Vec<String> = sqlx::query_scalar(query)
        .fetch_all(connection)
        .await
        .map_err(statement("look for what is given out"))?;
    Ok(values.into_iter().collect())
}

async fn append(
    connection: &mut SqliteConnection,
    id: &BorrowingId,
    at: Timestamp,
    notes: &[Note],
) -> Result<u64, StoreError> {
    let failed = || statement("write down what happened");
    let last: i64 = sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM progress WHERE borrowing = ?")
        .bind(id.as_str())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?;
    let mut sequence = last;
    for note in notes {
        sequence += 1;
        sqlx::query("INSERT INTO progress (borrowing, sequence, at, note) VALUES (?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(sequence)
            .bind(signed(at.0))
            .bind(to_json(note))
            .execute(&mut *connection)
            .await
            .map_err(failed())?;
    }
    Ok(unsigned(sequence))
}
