//! What demo and test need before they can begin: the host's packages, the programs, the lender's image, the enterprise's files.
//! Everything is kept in `target/`, so that a second run finds it there.

use anyhow::{Context as _, Result, ensure};
use leaseboot_image::debian::{Lists, Package};
use leaseboot_image::musl::Toolchain;
use leaseboot_image::{Architecture, Workspace, build, host_packages};
use leaseboot_tests::assets::Assets;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::{arm64, debian_installer, fai, survival};
use std::process::Command;

/// The commands that make namespaces and install packages.
pub(crate) fn require_root(command: &str) -> Result<()> {
    ensure!(
        host_packages::is_root(),
        "`cargo xtask {command}` makes network namespaces and installs Debian packages: run it as root"
    );
    Ok(())
}

/// What the managers' tests talk to: foreign TFTP clients, a management controller with its client, a database, Ansible, what signs files,
/// who raises alerts, and another WireGuard.
const UNIT_TEST_PACKAGES: [&str; 10] = [
    "ansible-core",
    "atftp",
    "ipmitool",
    "openipmi",
    "openssl",
    "postgresql",
    "prometheus-alertmanager",
    "tftp-hpa",
    "wireguard-go",
    "wireguard-tools",
];

/// Debian packages of the unit tests, the laboratory and the enterprise's installer.
pub(crate) fn packages(folders: &Folders) -> Result<()> {
    let list = folders.sources().join("installer/packages.txt");
    let text = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let installers = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut packages: Vec<&str> = leaseboot_tests::HOST_PACKAGES
        .into_iter()
        .chain(UNIT_TEST_PACKAGES)
        .chain(installers)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    host_packages::ensure(&packages).context("cannot prepare this host")
}

/// The two managers.
pub(crate) fn programs() -> Result<()> {
    run(cargo().args(["build", "-p", "leaseboot-lm", "-p", "leaseboot-po"]))
}

/// Kernel, stage 1 and boot loaders of the lender.
pub(crate) fn image() -> Result<()> {
    image_for(Architecture::X86_64)
}

/// The same for servers of an architecture.
pub(crate) fn image_for(architecture: Architecture) -> Result<()> {
    let built = build::build(&Workspace::of_this_crate(), Toolchain::find(architecture))?;
    print!("{}", built.table);
    Ok(())
}

/// What the scenarios on 64-bit ARM need on top: the emulator, the lender's boot files, and the enterprise's busybox.
pub(crate) fn arm64(folders: &Folders) -> Result<()> {
    host_packages::ensure(&arm64::HOST_PACKAGES).context("cannot prepare this host")?;
    image_for(Architecture::Aarch64)?;
    let workspace = Workspace::of_this_crate();
    let lists = Lists::of(&workspace, Architecture::Aarch64)?;
    let package = Package::candidate(&lists, "busybox-static")?.unpacked(&workspace, |_| Ok(()))?;
    let place = arm64::busybox(folders);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::copy(package.join("bin/busybox"), &place)
        .with_context(|| format!("cannot copy a busybox to {}", place.display()))?;
    Ok(())
}

/// Makes the same once more from nothing, and holds it against what stands in `target/image`.
pub(crate) fn image_again() -> Result<()> {
    let workspace = Workspace::of_this_crate();
    let architecture = Architecture::X86_64;
    let first = build::last_manifest(&workspace, architecture)?;
    build::verify(&workspace, Toolchain::find(architecture), &first)?;
    println!("the second build gave the same bytes");
    Ok(())
}

/// The enterprise's package repository and boot image.
pub(crate) async fn assets(folders: &Folders) -> Result<()> {
    Assets::make(folders).await.map(drop)
}

/// What the scenarios of foreign installers start from.
pub(crate) async fn foreign_installers(folders: &Folders) -> Result<()> {
    debian_installer(folders)?;
    survival::make(folders).await?;
    fai::make(folders).await
}

/// Kernel and initrd of debian-installer, as its package has them.
fn debian_installer(folders: &Folders) -> Result<()> {
    const FILES: &str = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
    let package = Package::candidate(&Lists::default(), "debian-installer-12-netboot-amd64")?;
    let unpacked = package.unpacked(&Workspace::of_this_crate(), |_| Ok(()))?;
    let place = debian_installer::place(folders);
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    for name in ["linux", "initrd.gz"] {
        let from = unpacked.join(FILES).join(name);
        std::fs::copy(&from, place.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Runs a program with our own streams; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// The cargo that runs us, without what it told us of this crate: build scripts that look at the same variables (ring's does) would take
/// them for a change, and half of all dependencies would be compiled again whenever cargo is run by hand and by us in turn.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CARGO_PKG_")
            || name.as_encoded_bytes().starts_with(b"CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command
}
