//! What goes wrong in the field, and goes on by itself.

use anyhow::{Context as _, Result};
use leaseboot_protocol::lease::{LeaseState, Step};
use leaseboot_tests::download::{assert_in_mid_download, goes_on, in_mid_download};
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::neighbour::{EVERY_PROBE, Neighbour};
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::TINY;
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
const OUTAGE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_gateway_that_is_down_for_half_a_minute_only_delays_the_transfer() -> Result<()> {
    let plan = Plan::named("failure-gateway").tiny();
    plan.run(async |lab| {
        lab.network.set_gateway_reachable(false).await?;
        let mut borrowing = lab.borrow(TINY)?;
        let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
        let failure = borrowing
            .during(history.wait_for_failure(Step::Tunnel, CHAIN))
            .await?;
        assert!(!failure.is_empty());
        // The server stands in stage 1 meanwhile, and has no word for strangers on the wire.
        let (stranger, server) = (
            Neighbour::stranger(&lab.network).await?,
            Server::numbered(1).address,
        );
        let (answers, ()) = tokio::join!(stranger.answers(server), tokio::time::sleep(OUTAGE));
        assert_eq!(answers?, [""; 0], "{server} answers a stranger in stage 1");
        assert_eq!(
            Neighbour::lease_manager(&lab.network).answers(server).await?,
            EVERY_PROBE
        );
        lab.network.set_gateway_reachable(true).await?;
        borrowing
            .during(history.wait_for_state(LeaseState::TunnelUp, CHAIN))
            .await?;
        borrowing.during(goes_on(lab, &mut history, CHAIN)).await
    })
    .await
}

#[tokio::test]
async fn an_lm_that_is_killed_during_the_download_takes_the_lease_up_again() -> Result<()> {
    let plan = Plan::named("failure-lm").without_installer();
    plan.run(async |lab| {
        let (mut borrowing, mut history) = in_mid_download(lab).await?;
        lab.lm.crash_and_restart().await?;
        assert_in_mid_download(lab);
        borrowing.during(goes_on(lab, &mut history, CHAIN)).await
    })
    .await
}

/// The gateway's keys are the same ones again, so WireGuard shakes hands anew by itself, and the download goes on where it broke.
#[tokio::test]
async fn a_po_that_is_killed_during_the_download_lets_the_server_in_again() -> Result<()> {
    let plan = Plan::named("failure-po").without_installer();
    plan.run(async |lab| {
        let (borrowing, mut history) = in_mid_download(lab).await?;
        // It watches the daemon that is about to die; the transfer needs nobody who watches.
        drop(borrowing);
        lab.po.crash_and_restart().await?;
        assert_in_mid_download(lab);
        goes_on(lab, &mut history, CHAIN).await
    })
    .await
}

#[tokio::test]
async fn a_wrong_boot_token_is_refused_and_recorded() -> Result<()> {
    let plan = Plan::named("failure-token").tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        borrowing
            .during(lab.machine().wait_for_power(Power::On, ORDERED))
            .await?;
        let mut history = Tenant::of(lab).follow(ORDERED).await?;
        let answer = lab
            .hello_with("0000000000000000000000000000000000000000000000000000000000000000")
            .await?;
        assert_eq!(answer, "401", "a stranger's hello");
        let log = lab.lm.said()?.tail(usize::MAX);
        let recorded = log.lines().any(|line| line.contains("boot token"));
        assert!(recorded, "the LM's log does not tell of the wrong boot token");
        // The server itself is none the worse for it.
        history
            .wait_for_state(LeaseState::Stage1, CHAIN)
            .await
            .context("after a stranger's hello")?;
        Ok(())
    })
    .await
}
