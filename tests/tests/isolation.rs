//! Lent servers of different tenants stand on one wire, and do not reach each other.

use anyhow::{Context as _, Result};
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::managers::Organizer;
use leaseboot_tests::neighbour::{EVERY_PROBE, Neighbour};
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{Packing, SEEN, TINY, add_profile, archive_ending};
use std::net::Ipv4Addr;

#[tokio::test]
async fn two_tenants_borrow_side_by_side_and_their_servers_stay_apart() -> Result<()> {
    let servers = [1, 2].map(|number| Server::numbered(number).labelled("rack", &number.to_string()));
    let [first, second] = [servers[0].address, servers[1].address];
    let plan = Plan::named("isolation")
        .servers(servers.into())
        .without_installer()
        .with_rival();
    plan.run(async |lab| {
        let rival = lab.rival.as_mut().context("the plan asked for a rival")?;
        let one = borrow(&mut lab.po, "1", second).await?;
        let other = borrow(rival, "2", first).await?;
        for (machine, mut borrowing) in lab.machines.iter().zip([one, other]) {
            borrowing.during(machine.serial().wait_for(SEEN, CHAIN)).await?;
            let said = machine.serial().tail(usize::MAX);
            assert!(said.contains("scenario: the gateway answers"), "{said}");
            assert!(!said.contains("reached the neighbour"), "{said}");
        }
        let stranger = Neighbour::stranger(&lab.network).await?;
        let lm = Neighbour::lease_manager(&lab.network);
        for server in [first, second] {
            assert_eq!(
                lm.answers(server).await?,
                EVERY_PROBE,
                "the probes reach {server}"
            );
            assert_eq!(
                stranger.answers(server).await?,
                [""; 0],
                "{server} answers a stranger"
            );
        }
        Ok(())
    })
    .await
}

/// Borrows the server of a rack, with an image that tries to reach its neighbour, and stays.
async fn borrow(
    po: &mut Organizer,
    rack: &str,
    neighbour: Ipv4Addr,
) -> Result<leaseboot_tests::managers::Borrowing> {
    let ending = format!(
        "$bb ping -c 2 -W 3 {neighbour} && echo 'scenario: reached the neighbour by ping'\n\
         $bb arping -f -c 2 -w 3 -I eth0 {neighbour} && echo 'scenario: reached the neighbour by ARP'\n\
         echo '{SEEN}'\n\
         while :; do $bb sleep 60; done\n"
    );
    let archive = archive_ending(&Folders::find()?, 0, &ending).await?;
    add_profile(po, TINY, &Packing::Zstd.pack(&archive).await?, &[("rack", rack)])?;
    po.borrow(TINY, &[])
}
