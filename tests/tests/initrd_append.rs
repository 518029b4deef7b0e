//! The agent's archive behind initrds of every kind: the kernel unpacks both, the wrapper runs, and the image's own init follows.

use anyhow::{Context as _, Result};
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{Packing, SEEN, add_profile, archive};
use std::time::Duration;

const POWER_OFF: Duration = Duration::from_secs(60);

#[tokio::test]
async fn wrapper_and_archive_work_on_every_packing() -> Result<()> {
    let numbered = Packing::ALL.into_iter().zip(1..);
    let servers = numbered
        .clone()
        .map(|(packing, number)| Server::numbered(number).labelled("packing", packing.name()));
    let plan = Plan::named("initrd-append")
        .servers(servers.collect())
        .without_installer();
    plan.run(async |lab| {
        let archive = archive(&Folders::find()?, 0).await?;
        for (packing, machine) in Packing::ALL.into_iter().zip(lab.machines.clone()) {
            let name = packing.name();
            add_profile(
                &lab.po,
                name,
                &packing.pack(&archive).await?,
                &[("packing", name)],
            )?;
            let mut borrowing = lab.borrow(name)?;
            let seen = borrowing.during(machine.serial().wait_for(SEEN, CHAIN)).await;
            seen.with_context(|| format!("with an initrd of kind {name}"))?;
            let told = machine.serial().tail(usize::MAX);
            for line in ["kickstart", "the tunnel's process lives", "the gateway answers"] {
                assert!(
                    told.contains(&format!("scenario: {line}")),
                    "{name}: no line about {line}"
                );
            }
            assert!(!told.contains("scenario: the wrapper left its facts"), "{name}");
            machine.wait_for_power(Power::Off, POWER_OFF).await?;
        }
        Ok(())
    })
    .await
}
