//! Power orders under way: one task for each server, dropped when the store names another order.
//!
//! Each try of an order that switches a server on first waits for room in its rack, so a rack bears what it was promised also when
//! orders fail and are tried again.

use super::driver::{Driver, DriverError, Extras, STORE_PAUSE, now};
use super::machine::Event;
use crate::power::{PowerController, PowerError, PowerOrder, RackLimit};
use crate::store::PowerRow;
use crate::switch::SwitchAction;
use leaseboot_protocol::hardware::Firmware;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

/// After this an inventory whose power order failed is due again.
const INVENTORY_PAUSE: Duration = Duration::from_secs(5);

/// The label that names a server's rack.
const RACK_LABEL: &str = "rack";

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
    /// Starts what is due, not yet under way, and claimed by no other Lease Manager; stops what was replaced. Gives the time of the next
    /// look.
    pub(super) async fn start_due(
        &mut self,
        driver: &Arc<Driver>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DriverError> {
        let claim = driver.config.power.takeover();
        let rows = driver.store.claim_power_orders(now, now + claim).await?;
        let claimed: HashSet<i64> = rows.iter().map(|row| row.id).collect();
        self.running.retain(|server, (id, task)| {
            let wanted = claimed.contains(id);
            if !wanted {
                tracing::info!(%server, "a power order was replaced by another");
                task.abort();
            }
            wanted
        });
        for row in rows {
            if self.running.contains_key(&row.server) {
                continue;
            }
            let (server, id) = (row.server.clone(), row.id);
            let span = tracing::info_span!("power", %server, lease = row.lease.as_ref().map(tracing::field::display));
            let task = self.tasks.spawn(carry_out(driver.clone(), row).instrument(span));
            self.running.insert(server, (id, task));
        }
        let renewal = (!self.running.is_empty()).then(|| now + claim / 2);
        let next = driver.store.next_power_order(now).await?;
        Ok([renewal, next].into_iter().flatten().min())
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
        let extras = Extras {
            answered: Some(id),
            ..Extras::default()
        };
        let span = tracing::info_span!("power answered", %server, %lease);
        let _ = driver
            .apply_with(&lease, &[event], extras)
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
    let member = driver.fleet.get(server);
    let outcome = match member.as_ref().map(|member| &member.power) {
        None => Err(format!("the server {server} is not in the fleet any more")),
        Some(Err(_)) => Err(
            "the server's power cannot be reached as it is declared; the lender's log has the cause"
                .to_owned(),
        ),
        Some(Ok(controller)) => try_often(&driver, controller, &row).await.map_err(|error| {
            tracing::error!(%server, %order, error = &error as &dyn Error, "a power order failed");
            // The controller's address and words are the lender's affair; they stand in its log.
            match error {
                PowerError::Switch { .. } => "the server's port in the lender's network was not set",
                _ => "the server's power controller did not carry it out",
            }
            .to_owned()
                + "; the lender's log has the cause"
        }),
    };
    if outcome.is_ok() {
        tracing::info!(%server, %order, "a power order was carried out");
    }
    Done { row, outcome }
}

/// Tries until it is carried out, or the rules say that it is enough.
async fn try_often(driver: &Driver, controller: &PowerController, row: &PowerRow) -> Result<(), PowerError> {
    let PowerRow { server, order, .. } = row;
    let firmware = firmware(driver, server).await;
    let mut failed = 0;
    loop {
        if let Some(limit) = driver.config.power.rack_limit
            && order.switches_on()
        {
            wait_for_room(driver, limit, server).await;
        }
        let Err(error) = carry_out_once(driver, controller, row, firmware).await else {
            return Ok(());
        };
        failed += 1;
        let Some(pause) = driver.config.power.pause_after(failed, &error) else {
            return Err(error);
        };
        tracing::warn!(%server, %order, failed, ?pause, error = &error as &dyn Error, "a power order failed and is tried again");
        tokio::time::sleep(pause).await;
    }
}

/// One try: the port joins the tenant's network before the server is on, and leaves it after the server is off.
async fn carry_out_once(
    driver: &Driver,
    controller: &PowerController,
    row: &PowerRow,
    firmware: Firmware,
) -> Result<(), PowerError> {
    if row.order.switches_on() {
        switch(driver, row, SwitchAction::Attach).await?;
    }
    controller.order(row.order, firmware).await?;
    if row.order == PowerOrder::Off {
        switch(driver, row, SwitchAction::Detach).await?;
    }
    Ok(())
}

/// Who is nobody's, as for an inventory, joins no tenant's network; but a server that a lease let go of leaves the one that it was in.
async fn switch(driver: &Driver, row: &PowerRow, action: SwitchAction) -> Result<(), PowerError> {
    if row.lease.is_none() && action == SwitchAction::Attach {
        return Ok(());
    }
    let Some(member) = driver.fleet.get(&row.server) else {
        return Ok(());
    };
    let record = match &row.lease {
        Some(lease) => driver
            .store
            .lease(lease)
            .await
            .map_err(|source| PowerError::Lease {
                lease: lease.clone(),
                source: Box::new(source),
            })?,
        None => None,
    };
    let holder = record.as_ref().map(|record| (&record.id, &record.tenant));
    driver.config.switch.run(action, &member.server, holder).await
}

async fn wait_for_room(driver: &Driver, limit: RackLimit, server: &ServerId) {
    let member = driver.fleet.get(server);
    let rack = member
        .as_ref()
        .and_then(|member| member.server.labels.get(RACK_LABEL));
    let rack = rack.map_or("", String::as_str);
    loop {
        let at = now();
        let pause = match driver.store.admit_start(rack, limit, at).await {
            Ok(Ok(())) => return,
            Ok(Err(room_at)) => {
                tracing::info!(%server, rack, "a power order waits until its rack bears another start");
                room_at.since(at)
            }
            Err(error) => {
                tracing::warn!(%server, rack, error = &error as &dyn Error, "whether a rack bears another start could not be looked up");
                STORE_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// As the server reported it; a boot can be ordered without.
async fn firmware(driver: &Driver, server: &ServerId) -> Firmware {
    match driver.store.server(server).await {
        Ok(record) => record
            .and_then(|record| record.hardware)
            .map_or(Firmware::Unknown, |hardware| hardware.firmware),
        Err(error) => {
            tracing::warn!(%server, error = &error as &dyn Error, "the server's firmware could not be looked up");
            Firmware::Unknown
        }
    }
}
