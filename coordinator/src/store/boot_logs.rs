//! What boots said on their consoles: bounded for each boot, the last bytes of it; what the lender's serial line said has a room of its own.

use super::{Store, StoreError, column, content, failed, from_json, timestamp, to_json};
use leaseboot_protocol::boot_log::{KEPT_BYTES, LogLines, LogSource};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::timestamp::Timestamp;

/// Which boot it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootName {
    /// The lease that it served.
    pub lease: LeaseId,
    /// The server, which may change during a lease.
    pub server: ServerId,
    /// The how many-th boot of the lease on that server.
    pub attempt: u32,
}

/// Lines that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootLogPiece {
    /// The boot.
    pub boot: BootName,
    /// When they came.
    pub at: Timestamp,
    /// Who said them.
    pub source: LogSource,
    /// The lines, each with its end.
    pub text: String,
}

impl Store {
    /// Adds lines to the log of a boot; the oldest make room.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_boot_log(
        &self,
        boot: &BootName,
        lines: &LogLines,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "keep what a boot said";
        let text = lines.text();
        if text.is_empty() {
            return Ok(());
        }
        let attempt = i64::from(boot.attempt);
        let mut tx = self.write(attempted).await?;
        let source = to_json("the source of a log", &lines.source)?;
        let serial = to_json("the source of a log", &LogSource::Serial)?;
        let known: Vec<(i64, i64, String)> = sqlx::query_as(
            "SELECT sequence, CAST(length(text) AS BIGINT), source FROM boot_logs
             WHERE lease = $1 AND server = $2 AND attempt = $3 ORDER BY sequence DESC",
        )
        .bind(boot.lease.as_str())
        .bind(boot.server.as_str())
        .bind(attempt)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        let last = known.first().map_or(0, |(sequence, ..)| *sequence);
        let is_serial = lines.source == LogSource::Serial;
        let same_room: Vec<_> = known
            .into_iter()
            .filter(|(_, _, source)| (*source == serial) == is_serial)
            .map(|(sequence, length, _)| (sequence, length))
            .collect();
        if let Some(oldest) = without_room(&same_room, text.chars().count()) {
            sqlx::query(
                "DELETE FROM boot_logs WHERE lease = $1 AND server = $2 AND attempt = $3 AND sequence <= $4
                 AND CASE WHEN source = $5 THEN 1 ELSE 0 END = $6",
            )
            .bind(boot.lease.as_str())
            .bind(boot.server.as_str())
            .bind(attempt)
            .bind(oldest)
            .bind(&serial)
            .bind(i64::from(is_serial))
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        }
        sqlx::query(
            "INSERT INTO boot_logs (lease, server, attempt, sequence, at, source, text)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(boot.lease.as_str())
        .bind(boot.server.as_str())
        .bind(attempt)
        .bind(last + 1)
        .bind(column(at))
        .bind(source)
        .bind(text)
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// Forgets what was said before `before`; gives the number of pieces that are gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_boot_logs(&self, before: Timestamp) -> Result<u64, StoreError> {
        let statement = sqlx::query("DELETE FROM boot_logs WHERE at < $1").bind(column(before));
        self.execute("forget old boot logs", statement).await
    }

    /// What the boots of a lease said, in the order in which it came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boot_log(&self, lease: &LeaseId) -> Result<Vec<BootLogPiece>, StoreError> {
        let rows: Vec<(String, i64, i64, String, String)> = sqlx::query_as(
            "SELECT server, attempt, at, source, text FROM boot_logs WHERE lease = $1 ORDER BY at, sequence",
        )
        .bind(lease.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read what a lease's boots said"))?;
        let piece = |(server, attempt, at, source, text): (String, i64, i64, String, String)| {
            Ok(BootLogPiece {
                boot: BootName {
                    lease: lease.clone(),
                    server: server
                        .parse()
                        .map_err(|error| content("a server's name", error))?,
                    attempt: u32::try_from(attempt).map_err(|error| content("a boot's number", error))?,
                },
                at: timestamp(at),
                source: from_json("the source of a log", &source)?,
                text,
            })
        };
        rows.into_iter().map(piece).collect()
    }
}

/// The newest piece that has to go, with all before it, so that `more` fits; the pieces come newest first.
fn without_room(known: &[(i64, i64)], more: usize) -> Option<i64> {
    let mut left = KEPT_BYTES.saturating_sub(more);
    for (sequence, length) in known {
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return Some(*sequence),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let size = i64::try_from(KEPT_BYTES / 4).unwrap();
        let known = [(4, size), (3, size), (2, size)];
        assert_eq!(without_room(&known, KEPT_BYTES / 4), None);
        assert_eq!(without_room(&known, KEPT_BYTES / 2), Some(2));
        assert_eq!(without_room(&known, KEPT_BYTES * 2), Some(4));
    }
}
