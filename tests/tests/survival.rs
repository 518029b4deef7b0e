//! What installers do to the network after the wrapper has set it up, and what happens to the wire: the tunnel carries on, and what stage 2 reports goes on.
//!
//! One row for each hazard. Each ends when a page of the enterprise has come through the tunnel after the hazard, and a line of the image's log has reached the LM.

use anyhow::{Result, ensure};
use leaseboot_protocol::lease::Step;
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::PowerOrder;
use leaseboot_tests::pages;
use leaseboot_tests::survival::{self, SURVIVAL};
use leaseboot_tests::tiny_image::{self, TINY};
use std::time::Duration;

const GRANTED: Duration = Duration::from_secs(60);
const LOG: &str = "leaseboot.log=/run/survival.log";
const PROXY: &str = "leaseboot.log=/run/survival.log module_blacklist=wireguard,tun";
const CABLE_IS_OUT: &str = "scenario: no carrier";
/// What the page of the enterprise says.
const PAGE: &str = "page of the enterprise";

/// For the tiny image: no carrier, then a carrier, then the page. `$card` is the card's name.
const FLAP: &str = r#"
while [ "$($bb cat /sys/class/net/$card/carrier)" = 1 ]; do $bb sleep 1; done
echo "scenario: no carrier"
until [ "$($bb cat /sys/class/net/$card/carrier)" = 1 ]; do $bb sleep 1; done
"#;
const FETCH: &str = r#"
tries=0
until page=$($bb timeout 5 $bb wget -q -O - http://172.20.0.2/); do
    tries=$((tries + 1))
    [ "$tries" -lt 40 ] || { echo "scenario: the tunnel carries nothing any more"; break; }
    $bb sleep 1
done
echo "scenario: fetched $page"
$bb ip -4 route show
$bb mkdir -p /run
echo survived > /run/survival.log
while :; do $bb sleep 60; done
"#;
/// As a script does that wants another name: older kernels give none to a card that is up.
const RENAME: &str = r#"
$bb ip link set eth0 down
$bb ip link set eth0 name renamed0
$bb ip link set renamed0 up
card=renamed0
echo "scenario: the card is renamed0"
"#;
/// As netcfg and DHCP clients do before they set their own.
const EMPTY: &str = r#"
$bb ip address flush dev $card
$bb ip route flush dev $card
echo "scenario: the card is empty"
"#;

#[tokio::test]
async fn the_tunnel_survives_a_link_that_flaps() -> Result<()> {
    let script = format!("card=eth0\n{FLAP}{FETCH}");
    on_the_tiny_image("survival-flap", &script, LOG, "data plane: tun", true).await
}

#[tokio::test]
async fn the_tunnel_survives_a_card_that_is_emptied() -> Result<()> {
    let script = format!("card=eth0\n{EMPTY}{FETCH}");
    on_the_tiny_image("survival-emptied", &script, LOG, "data plane: tun", false).await
}

#[tokio::test]
async fn the_proxy_survives_a_new_name_and_a_link_that_flaps() -> Result<()> {
    let script = format!("{RENAME}{FLAP}{FETCH}");
    on_the_tiny_image("survival-proxy", &script, PROXY, "data plane: proxy", true).await
}

#[tokio::test]
async fn the_tunnel_survives_a_name_that_udev_gives() -> Result<()> {
    let seen = ["renamed0 now", "scenario: the card is renamed0"];
    on_debians_initrd("survival-udev", "scenario=rename", &seen).await
}

#[tokio::test]
async fn the_tunnel_survives_a_dhcp_lease_that_is_renewed() -> Result<()> {
    on_debians_initrd("survival-dhcp", "scenario=dhcp", &["scenario: renewed"]).await
}

#[tokio::test]
async fn the_tunnel_survives_systemd_that_changes_the_root() -> Result<()> {
    let seen = ["scenario: another root", "scenario: the tunnel's process lives"];
    on_debians_initrd("survival-switch", "scenario=switch", &seen).await
}

#[tokio::test]
async fn the_tunnel_survives_network_manager_that_takes_the_card() -> Result<()> {
    let words = "scenario=manager rd.neednet=1 ip=dhcp";
    on_debians_initrd(
        "survival-manager",
        words,
        &["scenario: NetworkManager has the card"],
    )
    .await
}

/// Boots the tiny image with this script, pulls the cable where that is the hazard, and waits for the page.
async fn on_the_tiny_image(name: &str, script: &str, words: &str, plane: &str, flaps: bool) -> Result<()> {
    let plan = Plan::named(name).without_installer();
    plan.run(async |lab| {
        tiny_image::add_ending(&lab.po, script, words).await?;
        survives(lab, TINY, async |lab| {
            if flaps {
                let machine = lab.machine();
                machine.serial().wait_for("the gateway answers", CHAIN).await?;
                machine.order(PowerOrder::PullCable).await?;
                machine.serial().wait_for(CABLE_IS_OUT, CHAIN).await?;
                machine.order(PowerOrder::PlugCable).await?;
            }
            Ok(())
        })
        .await?;
        let said = lab.machine().serial().tail(usize::MAX);
        ensure!(said.contains(plane), "it was not by {plane}:\n{said}");
        Ok(())
    })
    .await
}

/// Boots Debian's initrd with these words, and looks that the hazard was there: these words on the serial line.
async fn on_debians_initrd(name: &str, words: &str, seen: &[&str]) -> Result<()> {
    let plan = Plan::named(name).without_installer().dhcp("lease_time_s = 60");
    plan.run(async |lab| {
        survival::add(lab, &format!("{LOG} {words}"))?;
        survives(lab, SURVIVAL, async |_| Ok(())).await?;
        let said = lab.machine().serial().tail(usize::MAX);
        for words in seen {
            ensure!(said.contains(words), "nothing says {words:?}:\n{said}");
        }
        Ok(())
    })
    .await
}

/// Borrows a server with this profile, and waits for the page and for the report.
async fn survives(lab: &mut Lab, profile: &str, hazard: impl AsyncFnOnce(&Lab) -> Result<()>) -> Result<()> {
    let _page = pages::serve(&lab.network, 80, PAGE.into()).await?;
    let mut borrowing = lab.borrow(profile)?;
    let mut history = borrowing.during(Tenant::of(lab).follow(GRANTED)).await?;
    borrowing.during(hazard(lab)).await?;
    let fetched = format!("scenario: fetched {PAGE}");
    let serial = lab.machine().serial();
    borrowing.during(serial.wait_for(&fetched, CHAIN)).await?;
    let note = history.wait_for_note(Step::Wrapper, "installer: survived", CHAIN);
    borrowing.during(note).await.map(drop)
}
