//! Every way in, one scenario each: from power-on to the agent's first report to the LM. What the ways are stands in
//! [`leaseboot_tests::ways`], and for lenders in `docs/ways-in.md`.

use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::digest::Sha256;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;
use leaseboot_tests::ways::{Way, hello};
use std::path::Path;
use tempfile::TempDir;

#[tokio::test]
async fn bios_with_ipxe_on_the_card_runs_the_servers_script() -> Result<()> {
    Way::BiosIpxe.reach().await
}

#[tokio::test]
async fn bios_with_plain_pxe_loads_grub() -> Result<()> {
    Way::BiosPxeGrub.reach().await
}

#[tokio::test]
async fn bios_with_ipxe_on_the_card_goes_on_to_grub() -> Result<()> {
    Way::BiosIpxeGrub.reach().await
}

#[tokio::test]
async fn uefi_loads_grub_by_pxe() -> Result<()> {
    Way::UefiPxeGrub.reach().await
}

#[tokio::test]
async fn uefi_loads_ipxe_on_its_own_driver_by_pxe() -> Result<()> {
    Way::UefiPxeSnponly.reach().await
}

#[tokio::test]
async fn uefi_loads_ipxe_with_drivers_by_pxe() -> Result<()> {
    Way::UefiPxeIpxe.reach().await
}

#[tokio::test]
async fn uefi_loads_grub_by_http() -> Result<()> {
    Way::UefiHttpGrub.reach().await
}

#[tokio::test]
async fn uefi_loads_ipxe_by_http() -> Result<()> {
    Way::UefiHttpSnponly.reach().await
}

#[tokio::test]
async fn uefi_loads_grub_by_https() -> Result<()> {
    Way::UefiHttpsGrub.reach().await
}

#[tokio::test]
async fn secure_boot_loads_the_signed_chain_by_pxe() -> Result<()> {
    Way::SecurePxeShim.reach().await
}

#[tokio::test]
async fn uefi_of_32_bits_loads_grub_by_pxe() -> Result<()> {
    Way::Ia32PxeGrub.reach().await
}

#[tokio::test]
async fn uefi_of_32_bits_loads_grub_by_http() -> Result<()> {
    Way::Ia32HttpGrub.reach().await
}

/// GRUB refuses it because Secure Boot is on, and not because it does not work: a server without Secure Boot runs the same kernel.
#[tokio::test]
async fn secure_boot_refuses_a_kernel_that_was_changed() -> Result<()> {
    let files = changed_kernel(Folders::find()?.image())?;
    let mut secure = Way::SecurePxeShim.server();
    secure.hardware.memory_mib = 1024;
    let mut plain = Server::numbered(2);
    plain.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("way-secure-refused")
        .servers(vec![secure.unknown_hardware(), plain.unknown_hardware()])
        .dhcp("first_loader = 'shim'")
        .boot_files(files.path().to_owned())
        .without_installer();
    plan.run(async |lab| {
        let [secure, plain] = &lab.machines[..] else {
            unreachable!("the plan has two servers")
        };
        secure.serial().wait_for("bad shim signature", CHAIN).await?;
        hello(lab, plain).await?;
        let said = secure.serial().tail(usize::MAX);
        ensure!(
            !said.contains("Linux version"),
            "the kernel that was changed runs"
        );
        Ok(())
    })
    .await
}

/// Where HTTP fails, GRUB takes script, kernel and archives by TFTP.
#[tokio::test]
async fn what_http_refuses_comes_by_tftp() -> Result<()> {
    let plan = Way::UefiPxeGrub.plan_in("way-without-http");
    plan.run(async |lab| {
        let rules = "table inet no-http { chain input { type filter hook input priority 0; tcp dport 80 reject with tcp reset; }; }";
        lab.network.lender.run("nft", &[rules]).await?;
        lab.lm.start().await?;
        hello(lab, lab.machine()).await?;
        let log = lab.lm.said()?.tail(usize::MAX);
        for file in ["vmlinuz", "stage1.img"] {
            let by_tftp = |line: &str| line.contains("tftp transfer complete") && line.contains(file);
            ensure!(log.lines().any(by_tftp), "{file} did not come by TFTP");
        }
        Ok(())
    })
    .await
}

/// The boot files with one letter of the kernel changed, in its header's note of who built it, which nobody reads; the manifest agrees with it.
fn changed_kernel(image: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let read = |name: &str| {
        let path = image.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let manifest = String::from_utf8(read("manifest.json")?)?;
    let mut kernel = read("vmlinuz")?;
    let before = Sha256::of(&kernel).to_string();
    let words = b"debian-kernel@";
    let at = kernel.windows(words.len()).position(|window| window == words);
    kernel[at.context("the kernel does not say who built it")?] = b'D';
    let described: serde_json::Value = serde_json::from_str(&manifest)?;
    for file in described["files"].as_array().into_iter().flatten() {
        let name = file["name"].as_str().context("a file without a name")?;
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        let content = if name == "vmlinuz" {
            kernel.clone()
        } else {
            read(name)?
        };
        std::fs::write(path, content)?;
    }
    let manifest = manifest.replace(&before, &Sha256::of(&kernel).to_string());
    std::fs::write(folder.path().join("manifest.json"), manifest)?;
    Ok(folder)
}
