//! The signed records of erasures. One is written once and never changed: a report that comes again finds the lease gone on.

use super::{Store, StoreError, Tx, failed};
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::ids::LeaseId;

/// Keeps the record of a lease.
pub(super) async fn keep(tx: &mut Tx, lease: &LeaseId, signed: &SignedErasure) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO erasures (lease, record, signature, public_key) VALUES ($1, $2, $3, $4) ON CONFLICT (lease) DO NOTHING",
    )
    .bind(lease.as_str())
    .bind(&signed.record)
    .bind(&signed.signature)
    .bind(&signed.public_key)
    .execute(&mut **tx)
    .await
    .map_err(failed("keep an erasure record"))?;
    Ok(())
}

impl Store {
    /// The signed record of a lease's erasure.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure(&self, lease: &LeaseId) -> Result<Option<SignedErasure>, StoreError> {
        let row: Option<(String, String, String)> =
            sqlx::query_as("SELECT record, signature, public_key FROM erasures WHERE lease = $1")
                .bind(lease.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("find an erasure record"))?;
        Ok(row.map(|(record, signature, public_key)| SignedErasure {
            record,
            signature,
            public_key,
        }))
    }
}
