//! What a borrowed server said on its console, through the tunnel: bounded for each borrowing, the last bytes of it.

use super::{Store, StoreError, from_json, statement, to_json};
use crate::borrowing::BorrowingId;
use leaseboot_protocol::boot_log::{KEPT_BYTES, LogLines, LogSource};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Lines that came together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootLogPiece {
    /// When they came.
    pub at: Timestamp,
    /// Who said them.
    pub source: LogSource,
    /// The lines, each with its end.
    pub text: String,
}

impl Store {
    /// Adds lines to the log of a borrowing; the oldest make room.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_boot_log(
        &self,
        id: &BorrowingId,
        lines: &LogLines,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let what = statement("keep what a server said");
        let text = lines.text();
        if text.is_empty() {
            return Ok(());
        }
        // One statement each, over one connection: what a crash leaves between the two is a log that is a little long.
        sqlx::query(
            "INSERT INTO boot_log (borrowing, sequence, at, source, text)
             SELECT ?1, COALESCE(MAX(sequence), 0) + 1, ?2, ?3, ?4 FROM boot_log WHERE borrowing = ?1",
        )
        .bind(id.as_str())
        .bind(i64::try_from(at.0).unwrap_or(i64::MAX))
        .bind(to_json(&lines.source))
        .bind(text)
        .execute(&self.pool)
        .await
        .map_err(what)?;
        sqlx::query(
            "DELETE FROM boot_log WHERE borrowing = ?1 AND sequence <= (
                 SELECT sequence FROM (
                     SELECT sequence, SUM(length(text)) OVER (ORDER BY sequence DESC) AS kept FROM boot_log WHERE borrowing = ?1
                 ) WHERE kept > ?2 ORDER BY sequence DESC LIMIT 1)",
        )
        .bind(id.as_str())
        .bind(i64::try_from(KEPT_BYTES).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await
        .map_err(statement("make room in a server's log"))?;
        Ok(())
    }

    /// What a borrowed server said, in the order in which it came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boot_log(&self, id: &BorrowingId) -> Result<Vec<BootLogPiece>, StoreError> {
        let rows: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT at, source, text FROM boot_log WHERE borrowing = ? ORDER BY sequence")
                .bind(id.as_str())
                .fetch_all(&self.pool)
                .await
                .map_err(statement("read what a server said"))?;
        let piece = |(at, source, text): (i64, String, String)| {
            Ok(BootLogPiece {
                at: Timestamp(u64::try_from(at).unwrap_or(0)),
                source: from_json("source of a log", &source)?,
                text,
            })
        };
        rows.into_iter().map(piece).collect()
    }
}
