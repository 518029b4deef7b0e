//! A transit that is not what one would wish: narrower than the wires beside it and silent about that, lossy, and down for a minute.
//!
//! The host has no netem, so packets are lost by a rule of the transit's firewall; they are not reordered here.

use anyhow::{Context as _, Result, ensure};
use leaseboot_tests::download::{assert_in_mid_download, goes_on, in_mid_download};
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, INSTALLATION, Plan, web_profile};
use leaseboot_tests::network::REPOSITORY_ADDRESS;
use leaseboot_tests::pages;
use leaseboot_tests::tiny_image::{self, SEEN, TINY};
use std::time::Duration;

/// The transit's packets, in bytes; WireGuard, UDP and IPv4 take 60 of them.
const NARROW: u16 = 1400;
const INSIDE: u16 = NARROW - 60;
/// The search comes this close, in bytes.
const CLOSE: u16 = 8;
/// Bytes of a transfer in which a packet that is too large would stop everything.
const LARGE: usize = 4 << 20;
const MEMBERS_PAGE: &str = "http://10.99.0.10/large";
const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_transit_that_drops_large_packets_without_a_word_still_carries_a_transfer() -> Result<()> {
    let ending = format!(
        "echo \"scenario: mtu $($bb cat /sys/class/net/leaseboot0/mtu)\"\n\
         echo \"scenario: fetched $($bb wget -q -O - http://{REPOSITORY_ADDRESS}/ | $bb wc -c)\"\n\
         echo '{SEEN}'\nexec $bb poweroff -f\n"
    );
    let plan = Plan::named("transit-narrow").without_installer();
    plan.run(async |lab| {
        lab.network.narrow_transit(NARROW).await?;
        tiny_image::add_ending(&lab.po, &ending, "").await?;
        let _pages = pages::serve(&lab.network, 80, vec![b'x'; LARGE]).await?;
        let mut borrowing = lab.borrow(TINY)?;
        borrowing
            .during(lab.machine().serial().wait_for(SEEN, CHAIN))
            .await?;
        // Stage 1 finds it and fetches kernel and initrd; stage 2 begins with what stage 1 has found.
        let said = lab.machine().serial().tail(usize::MAX);
        let found = number(&said, " bytes and not of 1420: MTU ")?;
        assert!(found <= INSIDE && INSIDE - found < CLOSE, "found {found}");
        assert_eq!(number(&said, "scenario: mtu ")?, found, "{said}");
        assert!(said.contains(&format!("scenario: fetched {LARGE}")), "{said}");
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

/// The member's tunnel is another one, and looks for itself.
#[tokio::test]
async fn a_member_behind_a_narrow_transit_is_in_service_and_carries_a_transfer() -> Result<()> {
    Plan::named("transit-narrow-member")
        .run(async |lab| {
            lab.network.narrow_transit(NARROW).await?;
            let mut web = web_profile(&Folders::find()?.sources())?;
            let large = format!("head -c {LARGE} /dev/urandom > /var/www/html/large\n");
            web.kickstart = web.kickstart.replace(
                "systemctl enable nginx",
                &format!("{large}systemctl enable nginx"),
            );
            ensure!(
                web.kickstart.contains(&large),
                "the example has no place for a large page"
            );
            lab.po.add_profile(&web)?;
            lab.borrow("web")?.in_service(INSTALLATION).await?;
            let curl = [
                "-sSf",
                "--max-time",
                "60",
                "-o",
                "/dev/null",
                "-w",
                "%{size_download}",
                MEMBERS_PAGE,
            ];
            let fetched = lab.network.office.run("curl", &curl).await?;
            assert_eq!(fetched.trim(), LARGE.to_string(), "bytes of the large page");
            Ok(())
        })
        .await
}

/// The number behind these words on the serial line.
fn number(said: &str, words: &str) -> Result<u16> {
    let behind = said.split(words).nth(1);
    let digits = behind.with_context(|| format!("nothing says {words:?}"))?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end]
        .parse()
        .with_context(|| format!("{words:?} has no number"))
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
