//! A lender's wire that carries IPv6 and nothing else: from power-on to the agent's first report.

use anyhow::{Context as _, Result, ensure};
use leaseboot_tests::daemon::Daemon;
use leaseboot_tests::ipv6;
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::{Firmware, NetworkBoot};
use leaseboot_tests::servers::Server;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A DHCPv6 client by other authors: it is bound, keeps its address when both it and the LM are started anew, and gives it back.
#[tokio::test]
async fn dhclient_is_bound_confirmed_and_released() -> Result<()> {
    let plan = Plan::named("ipv6-dhclient").ipv6_only().without_installer();
    plan.run(async |lab| {
        let client = lab
            .network
            .add_lender_port("client", "192.0.2.77/32")
            .await?
            .clone();
        // The kernel looks for a double of its link-local address first.
        let settled = "until ip -6 address show dev client scope link | grep -q fe80; do sleep 0.1; done; \
                       while ip -6 address show dev client tentative | grep -q fe80; do sleep 0.1; done";
        client.run("timeout", &["20", "sh", "-c", settled]).await?;
        let file = |name: &str| lab.folder.path().join(name).display().to_string();
        let (leases, process) = (file("dhclient.leases"), file("dhclient.pid"));
        let dhclient = |mode: &[&str], log: &str| {
            let mut command = client.command("dhclient");
            command.args(["-6", "-v", "-cf", "/dev/null", "-sf", "/bin/true"]);
            command
                .args(["-lf", &leases, "-pf", &process])
                .args(mode)
                .arg("client");
            Daemon::start("dhclient", command, &lab.folder.path().join(log))
        };
        let mut bound = dhclient(&["-d"], "dhclient-bound.log")?;
        bound.ready("PRC: Bound to lease", PATIENCE).await?;
        bound.kill().await?;
        let text = std::fs::read_to_string(&leases)?;
        let address = text.split_whitespace().find(|word| word.starts_with(ipv6::POOL));
        let address = address.with_context(|| format!("no address of the pool in {text}"))?;
        lab.lm.crash_and_restart().await?;
        let mut again = dhclient(&["-d"], "dhclient-again.log")?;
        again.ready("message on client from", PATIENCE).await?;
        let asked = lab.lm.said()?;
        asked.wait_for("asked=Confirm", PATIENCE).await?;
        again.kill().await?;
        let mut released = dhclient(&["-r"], "dhclient-released.log")?;
        ensure!(released.end(PATIENCE).await?.success(), "dhclient -r failed");
        asked.wait_for("asked=Release", PATIENCE).await?;
        let said = std::fs::read_to_string(&leases)?;
        ensure!(
            said.matches(address).count() > 0,
            "another address than {address}: {said}"
        );
        Ok(())
    })
    .await
}

/// The address is one of the pool's: firmware, loader and agent have the same.
#[tokio::test]
async fn bios_with_ipxe_on_the_card_boots_by_ipv6() -> Result<()> {
    let server = Server::numbered(1).unknown_hardware();
    comes_in("ipv6-bios", server, "", &["client=Ipxe(Bios)", "language=Ipxe"]).await
}

/// The address is on record.
#[tokio::test]
async fn uefi_loads_grub_by_pxe_over_ipv6() -> Result<()> {
    let mut server = uefi(NetworkBoot::Pxe6);
    server.address6 = Some(ipv6::SERVER_ADDRESS);
    let course = ["client=Pxe(Efi64)", "grub/core.efi", "language=Grub"];
    comes_in("ipv6-pxe-grub", server, "", &course).await
}

#[tokio::test]
async fn uefi_loads_ipxe_by_pxe_over_ipv6() -> Result<()> {
    let course = [
        "client=Pxe(Efi64)",
        "ipxe/snponly.efi",
        "client=Ipxe(Efi64)",
        "language=Ipxe",
    ];
    let ipxe = "first_loader = 'ipxe'";
    comes_in("ipv6-pxe-ipxe", uefi(NetworkBoot::Pxe6), ipxe, &course).await
}

#[tokio::test]
async fn uefi_loads_grub_by_http_over_ipv6() -> Result<()> {
    let course = ["client=Http(Efi64)", "language=Grub"];
    comes_in("ipv6-http-grub", uefi(NetworkBoot::Http), "", &course).await
}

#[tokio::test]
async fn uefi_loads_ipxe_by_http_over_ipv6() -> Result<()> {
    let course = ["client=Http(Efi64)", "client=Ipxe(Efi64)", "language=Ipxe"];
    let ipxe = "first_loader = 'ipxe'";
    comes_in("ipv6-http-ipxe", uefi(NetworkBoot::Http), ipxe, &course).await
}

fn uefi(network_boot: NetworkBoot) -> Server {
    let mut server = Server::numbered(1).unknown_hardware();
    server.hardware.firmware = Firmware::Uefi;
    server.hardware.network_boot = network_boot;
    server
}

/// Power-on to hello, on the course that the LM's log must show.
async fn comes_in(name: &str, server: Server, dhcp: &str, course: &[&str]) -> Result<()> {
    let address = server
        .address6
        .map_or(ipv6::POOL.to_owned(), |address| address.to_string());
    let plan = Plan::named(name)
        .servers(vec![server])
        .dhcp(dhcp)
        .ipv6_only()
        .without_installer();
    plan.run(async |lab| {
        says_hello(lab, &address).await?;
        let said = lab.lm.said()?.tail(usize::MAX);
        let mut rest = &said[..];
        for word in course {
            let at = rest.find(word);
            ensure!(at.is_some(), "{word:?} does not follow in the LM's log:\n{said}");
            rest = &rest[at.unwrap_or_default()..];
        }
        Ok(())
    })
    .await
}

async fn says_hello(lab: &Lab, address: &str) -> Result<()> {
    let machine = lab.machine();
    let mac = machine.hardware().mac;
    let said = format!("({mac}) has {address}");
    machine.serial().wait_for(&said, CHAIN).await?;
    let hello = format!("an agent says hello mac={mac} from={address}");
    lab.lm.said()?.wait_for(&hello, CHAIN).await.map(drop)
}
