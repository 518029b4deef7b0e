//! Network cards by which a bare server reaches stage 1: each model's ROM boots it, and the image's own driver takes the card over.
//!
//! Intel's igb is not here, because QEMU 7.2 has no such card; its driver is in the image (`image_size` looks).

use anyhow::{Result, ensure};
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::NicModel;
use leaseboot_tests::servers::Server;
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
