//! A transit that is not what one would wish: narrower than the wires beside it and silent about that, lossy, and down for a minute.
//!
//! The host has no netem, so packets are lost by a rule of the transit's firewall; they are not reordered here.

use anyhow::{Context as _, Result};
use leaseboot_tests::download::{assert_in_mid_download, goes_on, in_mid_download};
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::tiny_image::{SEEN, TINY};
use std::time::Duration;

/// The transit's packets, in bytes; WireGuard, UDP and IPv4 take 60 of them.
const NARROW: u16 = 1400;
const INSIDE: u16 = NARROW - 60;
/// The search comes this close, in bytes.
const CLOSE: u16 = 8;
const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_transit_that_drops_large_packets_without_a_word_still_carries_a_transfer() -> Result<()> {
    let plan = Plan::named("transit-narrow").tiny();
    plan.run(async |lab| {
        lab.network.narrow_transit(NARROW).await?;
        let mut borrowing = lab.borrow(TINY)?;
        // Once in stage 1, which then fetches kernel and initrd, and once in stage 2.
        let mut mark = lab.machine().serial().mark();
        for stage in ["stage 1, agent", "stage 2, agent"] {
            let begun = lab.machine().serial().wait_for_after(mark, stage, CHAIN);
            borrowing.during(begun).await?;
            mark = lab.machine().serial().mark();
            let found = lab
                .machine()
                .serial()
                .wait_for_after(mark, " bytes and not of", CHAIN);
            let line = borrowing.during(found).await.context(stage)?;
            let size = line
                .split(" packets of ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            let size: u16 = size.unwrap_or_default().parse().with_context(|| line.clone())?;
            assert!(size <= INSIDE && INSIDE - size < CLOSE, "{stage}: {line}");
        }
        borrowing
            .during(lab.machine().serial().wait_for(SEEN, CHAIN))
            .await?;
        assert_eq!(lab.machine().starts(), 1, "no boot is tried again");
        let doctor = lab.po.doctor().await?;
        for check in ["device", "port", "forwarding", "lender", "clock"] {
            let fine = doctor.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some("ok") && words.next() == Some(check)
            });
            assert!(fine, "{check} is not ok:\n{doctor}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_transit_that_loses_packets_and_is_down_for_a_minute_only_delays_a_transfer() -> Result<()> {
    let plan = Plan::named("transit-flapping").without_installer();
    plan.run(async |lab| {
        lab.network.lose(2).await?;
        let (mut borrowing, mut history) = in_mid_download(lab).await?;
        lab.network.set_transit_up(false).await?;
        assert_in_mid_download(lab);
        tokio::time::sleep(OUTAGE).await;
        lab.network.set_transit_up(true).await?;
        assert_in_mid_download(lab);
        borrowing.during(goes_on(lab, &mut history, 2 * CHAIN)).await
    })
    .await
}
