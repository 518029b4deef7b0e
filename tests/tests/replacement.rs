//! A server that fails for good costs its tenant a delay, and nothing else.

use anyhow::{Context as _, Result};
use leaseboot_protocol::lease::EventKind;
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{SEEN, TINY};
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
/// Enough for a server that is in order.
const BOOT_SECONDS: i64 = 120;

#[tokio::test]
async fn the_lease_moves_to_another_server_by_itself() -> Result<()> {
    let plan = Plan::named("replacement")
        .servers(vec![Server::numbered(1), Server::numbered(2)])
        .tiny()
        .one_attempt()
        .deadline("booting", BOOT_SECONDS);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let tenant = Tenant::of(lab);
        let mut history = borrowing.during(tenant.follow(ORDERED)).await?;
        let leases = tenant.leases().await?;
        let chosen = leases.last().context("a lease")?.server.to_string();
        let is_chosen = |machine: &leaseboot_tests::machine::Machine| machine.hardware().name == chosen;
        let (failing, spare): (Vec<_>, Vec<_>) = lab.machines.iter().partition(|machine| is_chosen(machine));
        let (failing, spare) = (failing[0], spare[0]);
        borrowing
            .during(failing.wait_for_power(Power::On, ORDERED))
            .await?;
        failing.unplug().await?;
        let is_move =
            |event: &leaseboot_protocol::lease::LeaseEvent| matches!(event.what, EventKind::Moved { .. });
        borrowing
            .during(history.wait_for("move to another server", CHAIN, is_move))
            .await?;
        borrowing.during(spare.serial().wait_for(SEEN, CHAIN)).await?;
        let (custody, reason) = lab.lm.custody(&chosen).await?;
        assert_eq!(custody, "quarantined", "{reason}");
        assert_eq!(failing.power(), Power::Off, "a server in quarantine is off");
        Ok(())
    })
    .await
}
