//! The audit log's rows. What an entry is, and why, stands in [`crate::audit`].
//!
//! The head is one row that every writer changes first, so writers come one after the other also on PostgreSQL, and the chain has no forks.

use super::{Store, StoreError, Tx, column, content, failed, timestamp};
use crate::audit::{Deed, Entry, Head};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::timestamp::Timestamp;

type EntryRow = (
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    String,
    String,
);

/// Writes a deed down as part of what was done.
pub(super) async fn append(tx: &mut Tx, deed: &Deed, at: Timestamp) -> Result<(), StoreError> {
    const ATTEMPT: &str = "write the audit log";
    // Takes the row, before it is read.
    sqlx::query("UPDATE audit_head SET sequence = sequence + 1 WHERE id = 1")
        .execute(&mut **tx)
        .await
        .map_err(failed(ATTEMPT))?;
    let (sequence, sha256): (i64, String) =
        sqlx::query_as("SELECT sequence, sha256 FROM audit_head WHERE id = 1")
            .fetch_one(&mut **tx)
            .await
            .map_err(failed(ATTEMPT))?;
    let entry = Entry::after(&head(sequence - 1, &sha256)?, at, deed);
    sqlx::query(
        "INSERT INTO audit (sequence, at, actor, action, lease, server, detail, previous, sha256)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(sequence)
    .bind(column(entry.at))
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.lease)
    .bind(&entry.server)
    .bind(&entry.detail)
    .bind(entry.previous.to_string())
    .bind(entry.sha256.to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed(ATTEMPT))?;
    sqlx::query("UPDATE audit_head SET sha256 = $1 WHERE id = 1")
        .bind(entry.sha256.to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed(ATTEMPT))?;
    Ok(())
}

fn head(sequence: i64, sha256: &str) -> Result<Head, StoreError> {
    Ok(Head {
        sequence: u64::try_from(sequence).map_err(|error| content("the audit log's length", error))?,
        sha256: digest(sha256)?,
    })
}

fn digest(text: &str) -> Result<Sha256, StoreError> {
    text.parse()
        .map_err(|error| content("a digest of the audit log", error))
}

fn entry(row: EntryRow) -> Result<Entry, StoreError> {
    let (sequence, at, actor, action, lease, server, detail, previous, sha256) = row;
    Ok(Entry {
        sequence: u64::try_from(sequence).map_err(|error| content("an entry's number", error))?,
        at: timestamp(at),
        actor,
        action,
        lease,
        server,
        detail,
        previous: digest(&previous)?,
        sha256: digest(&sha256)?,
    })
}

impl Store {
    /// Writes down a deed that is done already, or that has no transaction of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write_audit(&self, deed: &Deed, at: Timestamp) -> Result<(), StoreError> {
        let attempted = "write the audit log";
        let mut tx = self.write(attempted).await?;
        append(&mut tx, deed, at).await?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// At most `most` entries with a number above `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_entries(&self, after: u64, most: u32) -> Result<Vec<Entry>, StoreError> {
        let rows: Vec<EntryRow> = sqlx::query_as(
            "SELECT sequence, at, actor, action, lease, server, detail, previous, sha256 FROM audit
             WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        )
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the audit log"))?;
        rows.into_iter().map(entry).collect()
    }

    /// Where the log ends, as it was written with the last entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        let (sequence, sha256): (i64, String) =
            sqlx::query_as("SELECT sequence, sha256 FROM audit_head WHERE id = 1")
                .fetch_one(&self.pool)
                .await
                .map_err(failed("read the end of the audit log"))?;
        head(sequence, &sha256)
    }
}
