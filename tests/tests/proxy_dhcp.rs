//! The LM beside another DHCP server: a dnsmasq on the lender's bridge gives the addresses, and the LM, as its proxy, says what to boot.

use anyhow::Result;
use leaseboot_tests::lab::{CHAIN, DNSMASQ_ADDRESSES, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;

/// Neither server's hardware is on record, so the LM boots both for their reports, and there is nothing to be borrowed.
#[tokio::test]
async fn ipxe_and_uefi_reach_stage_1_beside_dnsmasq() -> Result<()> {
    let bios = Server::numbered(1).unknown_hardware();
    let mut uefi = Server::numbered(2).unknown_hardware();
    uefi.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("proxy-dhcp")
        .servers(vec![bios, uefi])
        .beside_dnsmasq()
        .without_installer();
    plan.run(async |lab| {
        for machine in &lab.machines {
            let mac = machine.hardware().mac;
            // The agent says so when it is on the wire. The prefix is waited for as well, because a line comes in pieces.
            let said = format!("({mac}) has {DNSMASQ_ADDRESSES}");
            machine.serial().wait_for(&said, CHAIN).await?;
            let hello = format!("an agent says hello mac={mac}");
            lab.lm.said()?.wait_for(&hello, CHAIN).await?;
        }
        Ok(())
    })
    .await
}
