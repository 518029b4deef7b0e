//! The lender's wire as lenders have it: behind a relay, with a tag, with large packets and with small ones, with a DHCP server that takes its time.

use anyhow::{Context as _, Result, ensure};
use leaseboot_tests::lab::{CHAIN, DNSMASQ_ADDRESSES, Lab, Plan};
use leaseboot_tests::managers::Borrowing;
use leaseboot_tests::relay;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{SEEN, TINY};
use leaseboot_tests::vlan_switch;

/// A wire of 1,400 bytes: WireGuard, UDP and IPv4 take 60 of a packet.
const NARROW: u16 = 1400;
const JUMBO: u16 = 9000;
const AROUND: u16 = 60;
/// The search for what a way carries comes this close, in bytes.
const CLOSE: u16 = 8;

#[tokio::test]
async fn a_server_behind_a_dhcp_relay_reaches_stage_1() -> Result<()> {
    let mut server = Server::numbered(1).unknown_hardware();
    server.address = relay::SERVER_ADDRESS;
    let plan = Plan::named("wires-relay")
        .servers(vec![server])
        .behind_relay()
        .without_installer();
    plan.run(async |lab| says_hello(lab, &format!("{}/24", relay::SERVER_ADDRESS)).await)
        .await
}

/// The agent's first questions stay without an answer for five seconds.
#[tokio::test]
async fn a_dhcp_server_that_answers_late_is_asked_again() -> Result<()> {
    let plan = Plan::named("wires-late-dhcp")
        .servers(vec![Server::numbered(1).unknown_hardware()])
        .late_for_the_agent()
        .without_installer();
    plan.run(async |lab| {
        let serial = lab.machine().serial();
        serial.wait_for("no answer to DHCP on eth0 yet", CHAIN).await?;
        says_hello(lab, DNSMASQ_ADDRESSES).await
    })
    .await
}

#[tokio::test]
async fn the_tunnel_fits_a_wire_of_1400_bytes() -> Result<()> {
    let plan = Plan::named("wires-narrow").tiny().mtu(NARROW);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let size = tunnel_mtu(lab, &mut borrowing).await?;
        let inside = NARROW - AROUND;
        ensure!(
            size <= inside && inside - size < CLOSE,
            "the tunnel's MTU is {size} on a wire of {NARROW} bytes"
        );
        Ok(())
    })
    .await
}

/// The whole way to the gateway is wide, and so is the tunnel: the search finds nothing that has to shrink it.
#[tokio::test]
async fn the_tunnel_uses_a_wire_of_9000_bytes() -> Result<()> {
    let plan = Plan::named("wires-jumbo").tiny().mtu(JUMBO);
    plan.run(async |lab| {
        lab.network.widen_transit(JUMBO).await?;
        lab.po.stop().await?;
        lab.po.set_tunnel_mtu(JUMBO - 2 * AROUND)?;
        lab.po.start().await?;
        let mut borrowing = lab.borrow(TINY)?;
        let serial = lab.machine().serial();
        borrowing
            .during(serial.wait_for("tunnel: done in", CHAIN))
            .await?;
        // Kernel and initrd came through it, in packets that no wire of 1,500 bytes carries.
        borrowing.during(serial.wait_for("stage 2, agent", CHAIN)).await?;
        let shrunk = serial.tail(usize::MAX).contains(" bytes and not of");
        ensure!(!shrunk, "the tunnel was made smaller on a wide way");
        Ok(())
    })
    .await
}

/// Firmware and loader speak without a tag; stage 1 and the wrapper of stage 2 stand in the tagged network and say not a word outside of it.
#[tokio::test]
async fn a_tagged_vlan_carries_stage_1_and_stage_2() -> Result<()> {
    let mut server = Server::numbered(1);
    server.tagged = true;
    let plan = Plan::named("wires-vlan").servers(vec![server]).tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let machine = lab.machine();
        let switch = lab.switch.as_ref().context("the laboratory has no switch")?;
        let (serial, mac) = (machine.serial(), machine.hardware().mac);
        let mut mark = serial.mark();
        let mut by_the_loader = None;
        for stage in ["stage 1, agent", "stage 2, agent"] {
            borrowing
                .during(serial.wait_for_after(mark, stage, CHAIN))
                .await?;
            mark = serial.mark();
            by_the_loader.get_or_insert_with(|| switch.frames());
            let said = format!(
                "network: eth0.{} ({mac}) has {}",
                vlan_switch::TAG,
                vlan_switch::SERVER_ADDRESS
            );
            borrowing
                .during(serial.wait_for_after(mark, &said, CHAIN))
                .await
                .context(stage)?;
        }
        borrowing.during(serial.wait_for(SEEN, CHAIN)).await?;
        let (before, after) = (by_the_loader.context("no stage ran")?, switch.frames());
        ensure!(
            before.native > 0 && before.tagged == 0,
            "firmware and loader sent {before:?}"
        );
        let kept = after.native == before.native && after.foreign == 0;
        ensure!(
            kept && after.tagged > 0,
            "of {after:?} the loader had sent {before:?}"
        );
        Ok(())
    })
    .await
}

/// What the agent found in stage 1.
async fn tunnel_mtu(lab: &Lab, borrowing: &mut Borrowing) -> Result<u16> {
    let found = lab.machine().serial().wait_for(": MTU ", CHAIN);
    let line = borrowing.during(found).await?;
    let size = line.rsplit(' ').next().unwrap_or_default();
    size.parse().with_context(|| line.clone())
}

async fn says_hello(lab: &Lab, address: &str) -> Result<()> {
    let machine = lab.machine();
    let mac = machine.hardware().mac;
    let said = format!("({mac}) has {address}");
    machine.serial().wait_for(&said, CHAIN).await?;
    let hello = format!("an agent says hello mac={mac}");
    lab.lm.said()?.wait_for(&hello, CHAIN).await.map(drop)
}
