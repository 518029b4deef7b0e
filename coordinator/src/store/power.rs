//! Power orders that are not yet carried out. They are written with the state that needs them and deleted with its answer, so a restart
//! finds exactly what is left to do.

use super::{Store, StoreError, Tx, column, content, failed, timestamp};
use crate::power::PowerOrder;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::timestamp::Timestamp;

/// An order that is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerRow {
    /// Names this order among all.
    pub id: i64,
    /// The server.
    pub server: ServerId,
    /// What its power shall do.
    pub order: PowerOrder,
    /// The lease that wants to know how it went.
    pub lease: Option<LeaseId>,
    /// Not to be carried out before.
    pub not_before: Timestamp,
}

fn name(order: PowerOrder) -> &'static str {
    match order {
        PowerOrder::On => "on",
        PowerOrder::Off => "off",
        PowerOrder::Cycle => "cycle",
        PowerOrder::NetworkBootOnce => "network-boot",
    }
}

fn parse(text: &str) -> Result<PowerOrder, StoreError> {
    [
        PowerOrder::On,
        PowerOrder::Off,
        PowerOrder::Cycle,
        PowerOrder::NetworkBootOnce,
    ]
    .into_iter()
    .find(|order| name(*order) == text)
    .ok_or_else(|| content("a power order", text))
}

/// Orders that are due by `$3` and claimed by nobody any more, or by us (`$1`) until before `$2`.
const CLAIMABLE: &str = "SELECT count(*) FROM power_orders
    WHERE not_before <= $3 AND (claimant IS NULL OR claimed_until <= $3 OR (claimant = $1 AND claimed_until <= $2))";
const CLAIM: &str = "UPDATE power_orders SET claimant = $1, claimed_until = $4
    WHERE not_before <= $3 AND (claimant IS NULL OR claimed_until <= $3 OR (claimant = $1 AND claimed_until <= $2))";

type Row = (i64, String, String, Option<String>, i64);

fn record(row: Row) -> Result<PowerRow, StoreError> {
    let (id, server, order, lease, not_before) = row;
    Ok(PowerRow {
        id,
        server: server
            .parse()
            .map_err(|error| content("a server's name", error))?,
        order: parse(&order)?,
        lease: lease
            .map(|id| id.parse().map_err(|error| content("a lease's name", error)))
            .transpose()?,
        not_before: timestamp(not_before),
    })
}

/// Names an order among all that there were. Random, because several Lease Managers make them.
fn new_id() -> Result<i64, StoreError> {
    let number = getrandom::u64().map_err(StoreError::Random)?;
    Ok(i64::from_ne_bytes(number.to_ne_bytes()))
}

/// Replaces what was ordered for the server before.
pub(super) async fn order(
    tx: &mut Tx,
    server: &ServerId,
    order: PowerOrder,
    lease: Option<&LeaseId>,
    not_before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO power_orders (id, server, power, lease, not_before) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (server) DO UPDATE SET id = excluded.id, power = excluded.power, lease = excluded.lease,
         not_before = excluded.not_before, claimant = NULL, claimed_until = NULL",
    )
    .bind(new_id()?)
    .bind(server.as_str())
    .bind(name(order))
    .bind(lease.map(LeaseId::as_str))
    .bind(column(not_before))
    .execute(&mut **tx)
    .await
    .map_err(failed("write a power order"))?;
    Ok(())
}

/// Removes an order; `false` when another has taken its place.
pub(super) async fn remove(tx: &mut Tx, id: i64) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM power_orders WHERE id = $1")
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(failed("remove a power order"))?;
    Ok(removed.rows_affected() == 1)
}

impl Store {
    /// What this Lease Manager is to carry out by now, oldest first: what is due and nobody else has claimed. The claim must be renewed
    /// by asking again before `until`; then another takes the order over, as it does when we are killed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_power_orders(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<PowerRow>, StoreError> {
        // A third of the time may pass before a claim of ours is written again.
        let renew = column(now + until.since(now) * 2 / 3);
        let claimable: i64 = sqlx::query_scalar(CLAIMABLE)
            .bind(self.backend.name())
            .bind(renew)
            .bind(column(now))
            .fetch_one(&self.pool)
            .await
            .map_err(failed("look for power orders"))?;
        // This is asked at each change of any lease, so the writer is left alone when there is nothing to write.
        if claimable > 0 {
            let statement = sqlx::query(CLAIM)
                .bind(self.backend.name())
                .bind(renew)
                .bind(column(now))
                .bind(column(until));
            self.execute("claim power orders", statement).await?;
        }
        let ours = "SELECT id, server, power, lease, not_before FROM power_orders WHERE claimant = $1 ORDER BY not_before, id";
        let rows: Vec<Row> = sqlx::query_as(ours)
            .bind(self.backend.name())
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list the claimed power orders"))?;
        rows.into_iter().map(record).collect()
    }

    /// Gives up what was claimed and not answered, so that others need not wait for the claims to end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_power_orders(&self) -> Result<(), StoreError> {
        let statement =
            sqlx::query("UPDATE power_orders SET claimant = NULL, claimed_until = NULL WHERE claimant = $1")
                .bind(self.backend.name());
        self.execute("release power orders", statement).await.map(drop)
    }

    /// When the next order is due, or a claim of another Lease Manager ends unless it is renewed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_power_order(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT min(CASE WHEN not_before > $1 THEN not_before ELSE claimed_until END) FROM power_orders
             WHERE not_before > $1 OR claimant <> $2",
        )
        .bind(column(now))
        .bind(self.backend.name())
        .fetch_one(&self.pool)
        .await
        .map_err(failed("find the next power order"))?;
        Ok(next.map(timestamp))
    }

    /// All that is to be carried out, oldest first, whoever does it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn power_orders(&self) -> Result<Vec<PowerRow>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, server, power, lease, not_before FROM power_orders ORDER BY not_before, id",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list the power orders"))?;
        rows.into_iter().map(record).collect()
    }

    /// Removes an inventory's order. When it was not carried out, `again_at` is when the inventory is due
    /// again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answer_inventory(
        &self,
        id: i64,
        server: &ServerId,
        again_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let attempted = "remove an inventory's power order";
        let mut tx = self.write(attempted).await?;
        if let Some(again_at) = again_at {
            // The server before its order, as everywhere.
            sqlx::query("UPDATE servers SET inventory_deadline = $1 WHERE name = $2 AND hardware IS NULL")
                .bind(column(again_at))
                .bind(server.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
        }
        if !remove(&mut tx, id).await? {
            return Ok(());
        }
        tx.commit().await.map_err(failed(attempted))
    }

    /// Orders a free server to boot once for its hardware report, which must come until `deadline`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn order_inventory(
        &self,
        server: &ServerId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "order a server's inventory";
        let mut tx = self.write(attempted).await?;
        let changed = sqlx::query(
            "UPDATE servers SET inventory_boots = inventory_boots + 1, inventory_deadline = $1
             WHERE name = $2 AND custody = 'free' AND hardware IS NULL",
        )
        .bind(column(deadline))
        .bind(server.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if changed.rows_affected() == 1 {
            order(&mut tx, server, PowerOrder::NetworkBootOnce, None, now).await?;
        }
        tx.commit().await.map_err(failed(attempted))
    }
}
