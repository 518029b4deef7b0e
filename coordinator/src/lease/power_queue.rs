//! Power orders under way: one task for each server, dropped when the store names another order.

use super::driver::{Driver, DriverError, now};
use super::machine::Event;
use crate::store::PowerRow;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

/// After this an inventory whose power order failed is due again.
const INVENTORY_PAUSE: Duration = Duration::from_secs(5);

/// The orders that are under way. Dropping it drops them.
#[derive(Default)]
pub(super) struct PowerQueue {
    tasks: JoinSet<Done>,
    running: BTreeMap<ServerId, (i64, AbortHandle)>,
}

/// An order that came to an end.
pub(super) struct Done {
    row: PowerRow,
    outcome: Result<(), String>,
}

impl PowerQueue {
    /// Starts what is due and not yet under way; stops what was replaced. Gives the time of the next order that
    /// is not yet due.
    pub(super) async fn start_due(
        &mut self,
        driver: &Arc<Driver>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DriverError> {
        let rows = driver.store.power_orders().await?;
        self.running.retain(|server, (id, task)| {
            let wanted = rows.iter().any(|row| row.id == *id);
            if !wanted {
                tracing::info!(%server, "a power order was replaced by another");
                task.abort();
            }
            wanted
        });
        let next = rows.iter().map(|row| row.not_before).filter(|at| *at > now).min();
        for row in rows {
            if row.not_before > now || self.running.contains_key(&row.server) {
                continue;
            }
            let (server, id) = (row.server.clone(), row.id);
            let span = tracing::info_span!("power", %server, lease = row.lease.as_ref().map(tracing::field::display));
            let task = self.tasks.spawn(carry_out(driver.clone(), row).instrument(span));
            self.running.insert(server, (id, task));
        }
        Ok(next)
    }

    /// The next order that came to an end; never returns while there is none.
    pub(super) async fn next(&mut self) -> Option<Done> {
        match self.tasks.join_next().await {
            Some(joined) => joined.inspect_err(panicked).ok(),
            None => std::future::pending().await,
        }
    }

    /// Tells the lease how its order went.
    pub(super) async fn answer(&mut self, driver: &Driver, done: Option<Done>) -> Result<(), DriverError> {
        let Some(Done { row, outcome }) = done else {
            self.running.retain(|_, (_, task)| !task.is_finished());
            return Ok(());
        };
        if self.running.get(&row.server).is_some_and(|(id, _)| *id == row.id) {
            self.running.remove(&row.server);
        }
        let PowerRow {
            id,
            order,
            lease,
            server,
            ..
        } = row;
        let Some(lease) = lease else {
            let again_at = outcome.err().map(|_| now() + INVENTORY_PAUSE);
            driver.store.answer_inventory(id, &server, again_at).await?;
            return Ok(());
        };
        let event = match outcome {
            Ok(()) => Event::PowerDone(order),
            Err(error) => Event::PowerFailed { order, error },
        };
        // An order that was replaced in the meantime has nobody waiting for it.
        let span = tracing::info_span!("power answered", %server, %lease);
        let _ = driver
            .apply_with(&lease, &[event], None, Some(id))
            .instrument(span)
            .await?;
        Ok(())
    }
}

fn panicked(error: &tokio::task::JoinError) {
    if error.is_panic() {
        tracing::error!(%error, "a power order's task panicked");
    }
}

async fn carry_out(driver: Arc<Driver>, row: PowerRow) -> Done {
    let PowerRow { server, order, .. } = &row;
    let outcome = match driver.power.get(server) {
        None => Err(format!("the server {server} is not in servers.toml any more")),
        Some(controller) => controller.order(*order).await.map_err(|error| {
            tracing::error!(%server, %order, error = &error as &dyn Error, "a power order failed");
            // The controller's address and words are the lender's affair; they stand in its log.
            "the server's power controller did not carry it out; the lender's log has the cause".to_owned()
        }),
    };
    if outcome.is_ok() {
        tracing::info!(%server, %order, "a power order was carried out");
    }
    Done { row, outcome }
}
