//! The whole store as one text that either back end can read: what `leaseboot-lm backup` writes and `restore` takes.
//!
//! One JSON value to a line. The first says what this is and which version the tables have; each of the rest is a row, and the last
//! is the number of rows, so that a text that was cut short is found out before anything is kept.
//!
//! ```text
//! {"store":"leaseboot-lm","tables":5}
//! {"table":"servers","row":{"name":"r1s1","custody":"free",…}}
//! {"rows":1}
//! ```
//!
//! It is written from one snapshot of the database while the Lease Manager serves. The tables and their columns are those that the
//! database says it has, so a new table is in the next backup without a word here.

use super::backend::Backend;
use super::transaction::Tx;
use super::{Location, Store, StoreError, content, failed, postgres, sqlite};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

const NAME: &str = "leaseboot-lm";
/// The one table that has a row before anybody has used the store.
const MADE_BY_MIGRATION: &str = "audit_head";

/// A backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The text cannot be written.
    #[error("cannot write the backup")]
    Write(#[source] std::io::Error),
    /// The text cannot be read.
    #[error("cannot read the backup")]
    Read(#[source] std::io::Error),
    /// The text is not a backup.
    #[error("line {line} of the backup: {problem}; nothing was restored")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The tables of the backup are not these.
    #[error(
        "the backup has tables of version {backup}, and this store has version {store}: restore it with the Lease Manager that wrote it, and upgrade that"
    )]
    Version {
        /// Of the backup.
        backup: i64,
        /// Of the store.
        store: i64,
    },
    /// There is something in the store.
    #[error("the store is not empty: {rows} rows are in it; to lose them, say --replace")]
    NotEmpty {
        /// How many.
        rows: u64,
    },
    /// A Lease Manager has it open.
    #[error("the store is in use: stop every Lease Manager that runs on it")]
    InUse,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Head { store: String, tables: i64 },
    Row { table: String, row: Map<String, Value> },
    End { rows: u64 },
}

/// Columns by table, `true` for those that hold numbers.
type Tables = BTreeMap<String, BTreeMap<String, bool>>;

impl Store {
    /// Writes everything as it is at one moment; gives the number of rows.
    ///
    /// # Errors
    /// [`DumpError`].
    pub async fn dump(&self, out: &mut (dyn Write + Send)) -> Result<u64, DumpError> {
        let attempted = "read the whole store";
        let mut tx = self.backend.snapshot().await.map_err(failed(attempted))?;
        let head = Line::Head {
            store: NAME.to_owned(),
            tables: version(&mut tx).await?,
        };
        write(out, &head)?;
        let mut rows = 0;
        for (table, columns) in tables(&*self.backend, &mut tx).await? {
            let found = sqlx::query(AssertSqlSafe(format!("SELECT {} FROM {table}", list(&columns))))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed(attempted))?;
            for row in found {
                let (table, row) = (table.clone(), read(&row, &columns)?);
                write(out, &Line::Row { table, row })?;
                rows += 1;
            }
        }
        write(out, &Line::End { rows })?;
        out.flush().map_err(DumpError::Write)?;
        Ok(rows)
    }

    /// Takes a backup into the store at `place`, in one transaction; gives the number of rows. What is in the store is lost, if
    /// `replace` allows it.
    ///
    /// # Errors
    /// [`DumpError`]; then the store is as it was.
    pub async fn restore(
        place: &Location,
        text: &mut (dyn BufRead + Send),
        replace: bool,
    ) -> Result<u64, DumpError> {
        sqlx::any::install_default_drivers();
        let in_use = match place {
            Location::Sqlite(path) => sqlite::in_use(path)
                .await
                .map_err(failed("look whether anybody uses it"))?,
            Location::Postgres(database) => postgres::in_use(database).await?,
        };
        if in_use {
            return Err(DumpError::InUse);
        }
        let store = Self::open(place).await?;
        let loaded = store.load(text, replace).await;
        store.close().await;
        loaded
    }

    async fn load(&self, text: &mut (dyn BufRead + Send), replace: bool) -> Result<u64, DumpError> {
        let attempted = "restore the store";
        let mut tx = self.write(attempted).await?;
        let tables = tables(&*self.backend, &mut tx).await?;
        empty(&mut tx, &tables, replace).await?;
        let rows = fill(&mut tx, &tables, text).await?;
        for statement in self.backend.after_load() {
            sqlx::query(*statement)
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
        }
        tx.commit().await.map_err(failed(attempted))?;
        Ok(rows)
    }
}

async fn version(tx: &mut Tx) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut **tx)
        .await
        .map_err(failed("find the version of the tables"))
}

/// What the database says that it has.
async fn tables(backend: &dyn Backend, tx: &mut Tx) -> Result<Tables, StoreError> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(backend.columns())
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("list the tables"))?;
    let mut tables = Tables::new();
    for (table, column, kind) in rows {
        let number = match kind.to_ascii_lowercase().as_str() {
            "integer" | "bigint" => true,
            "text" => false,
            other => {
                return Err(content(
                    "a column",
                    format!("{table}.{column} is of the type {other}"),
                ));
            }
        };
        tables.entry(table).or_default().insert(column, number);
    }
    Ok(tables)
}

fn list(columns: &BTreeMap<String, bool>) -> String {
    columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn read(row: &AnyRow, columns: &BTreeMap<String, bool>) -> Result<Map<String, Value>, StoreError> {
    let mut values = Map::new();
    for (index, (column, number)) in columns.iter().enumerate() {
        let value = if *number {
            row.try_get::<Option<i64>, _>(index).map(Value::from)
        } else {
            row.try_get::<Option<String>, _>(index).map(Value::from)
        };
        values.insert(column.clone(), value.map_err(failed("read a row"))?);
    }
    Ok(values)
}

fn write(out: &mut (dyn Write + Send), line: &Line) -> Result<(), DumpError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| DumpError::Write(error.into()))?;
    out.write_all(b"\n").map_err(DumpError::Write)
}

/// Empties every table. What a migration itself put in is not counted: it is in an unused store, too.
async fn empty(tx: &mut Tx, tables: &Tables, replace: bool) -> Result<(), DumpError> {
    let mut rows = 0;
    for table in tables.keys() {
        let removed = sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
            .execute(&mut **tx)
            .await
            .map_err(failed("empty a table"))?;
        if table != MADE_BY_MIGRATION {
            rows += removed.rows_affected();
        }
    }
    match rows {
        0 => Ok(()),
        _ if replace => Ok(()),
        // The transaction is dropped, and the rows stay.
        rows => Err(DumpError::NotEmpty { rows }),
    }
}

async fn fill(tx: &mut Tx, tables: &Tables, text: &mut (dyn BufRead + Send)) -> Result<u64, DumpError> {
    let ours = version(tx).await?;
    let (mut rows, mut number, mut ended, mut begun) = (0, 0, false, false);
    let mut words = String::new();
    while text.read_line(&mut words).map_err(DumpError::Read)? > 0 {
        number += 1;
        let wrong = |problem: String| DumpError::Line {
            line: number,
            problem,
        };
        let line: Line = serde_json::from_str(&words).map_err(|error| wrong(error.to_string()))?;
        words.clear();
        match line {
            Line::Head {
                store,
                tables: theirs,
            } if number == 1 && store == NAME => {
                if theirs != ours {
                    return Err(DumpError::Version {
                        backup: theirs,
                        store: ours,
                    });
                }
                begun = true;
            }
            Line::Row { table, row } if begun && !ended => {
                let columns = tables
                    .get(&table)
                    .ok_or_else(|| wrong(format!("there is no table {table}")))?;
                insert(tx, &table, columns, row).await?.map_err(wrong)?;
                rows += 1;
            }
            Line::End { rows: theirs } if begun && !ended && theirs == rows => ended = true,
            _ => return Err(wrong("it is not what a backup has here".to_owned())),
        }
    }
    match ended {
        true => Ok(rows),
        false => Err(DumpError::Line {
            line: number,
            problem: "the backup ends before its last line: it was cut short".to_owned(),
        }),
    }
}

/// `Err` inside is what is wrong with the row.
async fn insert(
    tx: &mut Tx,
    table: &str,
    columns: &BTreeMap<String, bool>,
    mut row: Map<String, Value>,
) -> Result<Result<(), String>, StoreError> {
    let places: Vec<_> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    let statement = format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        list(columns),
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (column, number) in columns {
        query = match (row.remove(column), number) {
            (Some(Value::Null), true) => query.bind(None::<i64>),
            (Some(Value::Null), false) => query.bind(None::<String>),
            (Some(Value::String(text)), false) => query.bind(text),
            (Some(Value::Number(value)), true) if value.is_i64() => query.bind(value.as_i64()),
            _ => {
                return Ok(Err(format!(
                    "the column {table}.{column} is missing or of another type"
                )));
            }
        };
    }
    if let Some(column) = row.keys().next() {
        return Ok(Err(format!("there is no column {table}.{column}")));
    }
    query.execute(&mut **tx).await.map_err(failed("restore a row"))?;
    Ok(Ok(()))
}
