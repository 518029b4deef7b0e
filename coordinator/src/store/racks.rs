//! When servers of a rack were switched on lately, whichever Lease Manager did it.

use super::{Store, StoreError, failed, from_json, to_json};
use crate::power::RackLimit;
use leaseboot_protocol::timestamp::Timestamp;

impl Store {
    /// Lets one server of the rack be switched on now, and remembers that; or gives the time at which there is room again. The same for all Lease Managers of
    /// this store, as far as their clocks agree.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn admit_start(
        &self,
        rack: &str,
        limit: RackLimit,
        now: Timestamp,
    ) -> Result<Result<(), Timestamp>, StoreError> {
        let attempted = "ask for room in a rack";
        let mut tx = self.write(attempted).await?;
        // Holds the rack's row: two Lease Managers at once must not both find the last place free.
        let lately: String = sqlx::query_scalar(
            "INSERT INTO racks (name, starts) VALUES ($1, '[]')
             ON CONFLICT (name) DO UPDATE SET starts = racks.starts RETURNING starts",
        )
        .bind(rack)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        let mut lately: Vec<Timestamp> = from_json("a rack's starts", &lately)?;
        let admitted = limit.admit(&mut lately, now);
        if admitted.is_err() {
            tx.leave().await.map_err(failed(attempted))?;
            return Ok(admitted);
        }
        sqlx::query("UPDATE racks SET starts = $1 WHERE name = $2")
            .bind(to_json("a rack's starts", &lately)?)
            .bind(rack)
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Scratch, on_both_back_ends};
    use super::*;
    use std::num::NonZeroU32;

    on_both_back_ends!(a_rack_bears_what_it_bears_whoever_asks_and_after_a_restart);

    async fn a_rack_bears_what_it_bears_whoever_asks_and_after_a_restart(mut scratch: Scratch) {
        let limit = RackLimit {
            starts: NonZeroU32::new(3).unwrap(),
            within_s: NonZeroU32::new(10).unwrap(),
        };
        let asks = (0..8).map(|_| scratch.store.admit_start("r1", limit, Timestamp(1_000)));
        let answers = futures_util::future::join_all(asks).await;
        let admitted = answers.iter().filter(|answer| matches!(answer, Ok(Ok(()))));
        assert_eq!(admitted.count(), 3, "{answers:?}");
        scratch.reopen().await;
        let store = &scratch.store;
        let again = store.admit_start("r1", limit, Timestamp(2_000)).await.unwrap();
        assert_eq!(again, Err(Timestamp(11_000)));
        assert_eq!(
            store.admit_start("r2", limit, Timestamp(2_000)).await.unwrap(),
            Ok(()),
            "racks do not wait for each other"
        );
        assert_eq!(
            store.admit_start("r1", limit, Timestamp(11_000)).await.unwrap(),
            Ok(())
        );
    }
}
