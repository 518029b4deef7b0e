//! Leases of a group: taken all at once, or none.

use super::leases::{LeaseRecord, NewLease, TakenOne, take_one};
use super::{Store, StoreError, failed};
use crate::tenants::OverQuota;
use leaseboot_protocol::timestamp::Timestamp;

impl Store {
    /// Takes every server, if all are free, and writes their leases, in one transaction. `None`, and nothing is changed, when one of the servers is not
    /// free any more, or one of the requests has its lease already. `Err` inside when the tenant would have more than it was granted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_all(
        &self,
        mut new: Vec<NewLease>,
        at: Timestamp,
    ) -> Result<Result<Option<Vec<LeaseRecord>>, OverQuota>, StoreError> {
        let attempted = "write the leases of a group";
        // Whoever takes several servers takes them in one order, so that two groups never wait for each other.
        new.sort_by(|a, b| a.first.lease.server.cmp(&b.first.lease.server));
        let mut tx = self.write(attempted).await?;
        let mut written = Vec::with_capacity(new.len());
        for new in new {
            match take_one(&mut tx, new, at).await? {
                TakenOne::New(lease) => written.push(*lease),
                TakenOne::ServerGone | TakenOne::RequestKnown => {
                    tx.leave().await.map_err(failed(attempted))?;
                    return Ok(Ok(None));
                }
                TakenOne::OverQuota(over) => {
                    tx.leave().await.map_err(failed(attempted))?;
                    return Ok(Err(over));
                }
            }
        }
        tx.commit().await.map_err(failed(attempted))?;
        written.sort_by(|a, b| a.request_id.cmp(&b.request_id));
        Ok(Ok(Some(written)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Scratch, new_lease, on_both_back_ends};
    use super::*;
    use crate::store::Taken;

    on_both_back_ends!(a_group_is_taken_whole_or_not_at_all);

    const NOW: Timestamp = Timestamp(1_000);

    async fn a_group_is_taken_whole_or_not_at_all(scratch: Scratch) {
        let group = |first: &str, second: &str| vec![new_lease("g#0001", first), new_lease("g#0002", second)];
        assert!(matches!(scratch.take("one", "b").await, Taken::New(_)));
        assert!(
            scratch
                .store
                .take_all(group("a", "b"), NOW)
                .await
                .unwrap()
                .unwrap()
                .is_none()
        );
        // The other server is still free, and no lease was left.
        assert_eq!(scratch.store.leases().await.unwrap().len(), 1);
        assert!(matches!(scratch.take("two", "a").await, Taken::New(_)));
    }
}
