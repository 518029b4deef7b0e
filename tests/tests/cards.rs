//! Network cards by which a bare server reaches stage 1: each model's ROM boots it, and the image's own driver takes the card over, whether the
//! server is given every driver or its own ones.
//!
//! Intel's igb is not here, because QEMU 7.2 has no such card; its driver is in the image (`image_size` looks).

use anyhow::{Result, ensure};
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::NicModel;
use leaseboot_tests::servers::{Server, VIRTIO_FUNCTIONS};
use leaseboot_tests::tiny_image::TINY;
use leaseboot_tests::transcript::Mark;
use std::time::{Duration, Instant};

/// From the drivers to the hello, where only the wired card may be waited for. A card without a cable would be given 30 s.
const ONTO_THE_WIRE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn e1000e_reaches_stage_1() -> Result<()> {
    reaches_stage_1("cards-e1000e", NicModel::E1000e, "e1000e").await
}

#[tokio::test]
async fn virtio_reaches_stage_1() -> Result<()> {
    reaches_stage_1("cards-virtio", NicModel::Virtio, "virtio_net").await
}

#[tokio::test]
async fn rtl8139_reaches_stage_1() -> Result<()> {
    reaches_stage_1("cards-rtl8139", NicModel::Rtl8139, "8139cp").await
}

#[tokio::test]
async fn vmxnet3_reaches_stage_1() -> Result<()> {
    reaches_stage_1("cards-vmxnet3", NicModel::Vmxnet3, "vmxnet3").await
}

/// Four cards, of which the third has a cable: the server comes up on the one that it booted from, and waits for no other.
#[tokio::test]
async fn the_third_of_four_cards_is_the_wired_one() -> Result<()> {
    let mut server = Server::numbered(1).unknown_hardware();
    server.hardware.unwired = [2, 1];
    plan("cards-third-of-four", server)
        .run(async |lab| {
            lab.machine().serial().wait_for("network: started", CHAIN).await?;
            let begun = Instant::now();
            says_hello(lab, "eth2").await?;
            let took = begun.elapsed();
            ensure!(
                took < ONTO_THE_WIRE,
                "from the drivers to the hello it took {:.1} s",
                took.as_secs_f64()
            );
            Ok(())
        })
        .await
}

/// What crosses the wire from power-on to the hello, in bytes, when the hardware is on record: kernel and stage 1 are at most 12 MB, and a
/// packet's headers and the loaders' own traffic come on top.
const OWN_BOOT: u64 = 12_500_000;

/// A server whose hardware is on record gets the base and its own drivers, and no more.
#[tokio::test]
async fn a_server_on_record_boots_with_its_own_drivers() -> Result<()> {
    let mut server = Server::numbered(1);
    server.functions = VIRTIO_FUNCTIONS.into();
    let plan = Plan::named("cards-own-drivers").servers(vec![server]).tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        borrowing.during(says_hello(lab, "eth0")).await?;
        let received = lab.machine().received_bytes().await?;
        ensure!(received < OWN_BOOT, "{received} bytes came over the wire");
        let said = lab.lm.said()?;
        for part in [
            "base.img",
            "driver-virtio_net.img",
            "driver-virtio_blk.img",
            "driver-virtio_pci.img",
        ] {
            ensure!(
                said.since(Mark::default()).iter().any(|line| line.contains(part)),
                "{part} was not fetched"
            );
        }
        Ok(())
    })
    .await
}

/// The card is not the one on record: the first boot finds no driver for it and starts anew, and the second brings every driver.
#[tokio::test]
async fn a_card_that_is_not_on_record_comes_up_with_all_drivers() -> Result<()> {
    let mut server = Server::numbered(1);
    server.functions = VIRTIO_FUNCTIONS.into();
    server.hardware.nic = NicModel::E1000e;
    let plan = Plan::named("cards-other-card").servers(vec![server]).tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let serial = lab.machine().serial();
        borrowing
            .during(serial.wait_for("no network card with the address", CHAIN))
            .await?;
        borrowing.during(says_hello(lab, "eth0")).await?;
        let lines = lab.lm.said()?.since(Mark::default());
        let whole = lines.iter().filter(|line| line.contains("stage1.img")).count();
        ensure!(whole == 1, "the whole of stage 1 was fetched {whole} times");
        Ok(())
    })
    .await
}

/// The server's hardware is not on record, so the LM boots it for its report.
async fn reaches_stage_1(name: &str, nic: NicModel, driver: &str) -> Result<()> {
    let mut server = Server::numbered(1).unknown_hardware();
    server.hardware.nic = nic;
    plan(name, server)
        .run(async |lab| {
            says_hello(lab, "eth0").await?;
            let lines = lab.machine().serial().since(Mark::default());
            let mut loaded = lines.iter().filter(|line| line.contains("leaseboot: drivers: "));
            ensure!(
                loaded.any(|line| line.split_whitespace().any(|word| word == driver)),
                "{driver} is not among the drivers that were loaded"
            );
            Ok(())
        })
        .await
}

fn plan(name: &str, server: Server) -> Plan {
    Plan::named(name).servers(vec![server]).without_installer()
}

/// Waits for the agent's hello, and for its word that it came by this card.
async fn says_hello(lab: &Lab, card: &str) -> Result<()> {
    let machine = lab.machine();
    let mac = machine.hardware().mac;
    machine
        .serial()
        .wait_for(&format!("network: {card} ({mac}) has"), CHAIN)
        .await?;
    let hello = format!("an agent says hello mac={mac}");
    lab.lm.said()?.wait_for(&hello, CHAIN).await.map(drop)
}
