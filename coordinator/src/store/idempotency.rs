//! Idempotency keys: which requests of a tenant were carried out, and how they were answered. A key that is claimed and has no answer
//! is a request under way, or one that a crash left behind; its claim runs out.

use super::{Store, StoreError, column, failed};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;

/// Keys of one tenant, at most; the ones that run out first make room.
const MOST_KEYS: i64 = 10_000;

/// What a key is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Carry the request out.
    New,
    /// It was carried out, with this answer.
    Answered(KeptAnswer),
    /// It is being carried out.
    UnderWay,
    /// The key belongs to another request.
    Other,
}

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, in JSON.
    pub body: String,
}

type KeyRow = (String, Option<i64>, Option<String>);

impl Store {
    /// Claims a key for the request with this digest until `until`, unless the key is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(
        &self,
        tenant: &TenantId,
        key: &str,
        digest: &Sha256,
        now: Timestamp,
        time: Duration,
    ) -> Result<Claim, StoreError> {
        let attempted = "claim an idempotency key";
        let mut tx = self.write(attempted).await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE expires <= $1")
            .bind(column(now))
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        let made = sqlx::query(
            "INSERT INTO idempotency_keys (tenant, name, digest, expires) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant, name) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(key)
        .bind(digest.to_string())
        .bind(column(now + time))
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if made.rows_affected() == 1 {
            tx.commit().await.map_err(failed(attempted))?;
            return Ok(Claim::New);
        }
        let row: Option<KeyRow> = sqlx::query_as(
            "SELECT digest, status, body FROM idempotency_keys WHERE tenant = $1 AND name = $2",
        )
        .bind(tenant.as_str())
        .bind(key)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(match row {
            Some((known, ..)) if known != digest.to_string() => Claim::Other,
            Some((_, Some(status), Some(body))) => Claim::Answered(KeptAnswer {
                status: u16::try_from(status).unwrap_or(200),
                body,
            }),
            _ => Claim::UnderWay,
        })
    }

    /// Keeps the answer to a claimed request until `expires`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_answer(
        &self,
        tenant: &TenantId,
        key: &str,
        answer: &KeptAnswer,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "keep the answer to an idempotent request";
        let mut tx = self.write(attempted).await?;
        sqlx::query(
            "UPDATE idempotency_keys SET status = $1, body = $2, expires = $3 WHERE tenant = $4 AND name = $5",
        )
        .bind(i64::from(answer.status))
        .bind(&answer.body)
        .bind(column(expires))
        .bind(tenant.as_str())
        .bind(key)
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        sqlx::query(
            "DELETE FROM idempotency_keys WHERE tenant = $1 AND status IS NOT NULL AND name NOT IN
             (SELECT name FROM idempotency_keys WHERE tenant = $1 ORDER BY expires DESC LIMIT $2)",
        )
        .bind(tenant.as_str())
        .bind(MOST_KEYS)
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// Gives a claim up whose request was not carried out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_claim(&self, tenant: &TenantId, key: &str) -> Result<(), StoreError> {
        let attempted = "give an idempotency key up";
        let mut tx = self.write(attempted).await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE tenant = $1 AND name = $2 AND status IS NULL")
            .bind(tenant.as_str())
            .bind(key)
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))
    }
}
