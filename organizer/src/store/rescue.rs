//! What the enterprise wants of rescue mode, and who had a console.

use super::{Store, StoreError, statement};
use crate::borrowing::BorrowingId;
use leaseboot_protocol::rescue::RescueView;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// A console that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleRecord {
    /// By whom.
    pub who: String,
    /// When.
    pub opened: Timestamp,
    /// Until when; none while it is open, or where the daemon was killed.
    pub closed: Option<Timestamp>,
    /// How it ended, and how much passed.
    pub words: String,
}

fn column(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn time(column: i64) -> Timestamp {
    Timestamp(u64::try_from(column).unwrap_or(0))
}

impl Store {
    /// Keeps what was ordered and agreed to, as the lender confirmed it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_rescue(&self, id: &BorrowingId, view: &RescueView) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rescue (borrowing, until, lender_console) VALUES (?1, ?2, ?3)
             ON CONFLICT (borrowing) DO UPDATE SET until = ?2, lender_console = ?3",
        )
        .bind(id.as_str())
        .bind(view.stay_until.map(column))
        .bind(view.lender_console)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(statement("keep what is wanted of rescue mode"))
    }

    /// Until when the agent of a borrowed server is to stay, and whether the lender may have a console.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rescue(&self, id: &BorrowingId) -> Result<(Option<Timestamp>, bool), StoreError> {
        let row: Option<(Option<i64>, bool)> =
            sqlx::query_as("SELECT until, lender_console FROM rescue WHERE borrowing = ?")
                .bind(id.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(statement("read what is wanted of rescue mode"))?;
        Ok(row.map_or((None, false), |(until, consent)| (until.map(time), consent)))
    }

    /// Writes down that somebody opens a console; gives its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_opened(
        &self,
        id: &BorrowingId,
        who: &str,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        sqlx::query_scalar(
            "INSERT INTO console (borrowing, sequence, who, opened, words)
             SELECT ?1, COALESCE(MAX(sequence), 0) + 1, ?2, ?3, '' FROM console WHERE borrowing = ?1 RETURNING sequence",
        )
        .bind(id.as_str())
        .bind(who)
        .bind(column(at))
        .fetch_one(&self.pool)
        .await
        .map_err(statement("write down who opens a console"))
    }

    /// Writes down how it ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_closed(
        &self,
        id: &BorrowingId,
        sequence: i64,
        words: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE console SET closed = ?3, words = ?4 WHERE borrowing = ?1 AND sequence = ?2")
            .bind(id.as_str())
            .bind(sequence)
            .bind(column(at))
            .bind(words)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(statement("write down how a console ended"))
    }

    /// Who had a console of a borrowed server, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn consoles(&self, id: &BorrowingId) -> Result<Vec<ConsoleRecord>, StoreError> {
        let rows: Vec<(String, i64, Option<i64>, String)> = sqlx::query_as(
            "SELECT who, opened, closed, words FROM console WHERE borrowing = ? ORDER BY sequence",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(statement("read who had a console"))?;
        let record = |(who, opened, closed, words): (String, i64, Option<i64>, String)| ConsoleRecord {
            who,
            opened: time(opened),
            closed: closed.map(time),
            words,
        };
        Ok(rows.into_iter().map(record).collect())
    }
}
