//! The peer: Debian's own network installer, untouched, from power-on to the address that it asks for itself.
//!
//! dnsmasq gives firmware and loaders one range of addresses and the installer (vendor class `d-i`) another, so that its log says when the
//! installer has its network.

use super::course::{Moment, Watch};
use crate::daemon::Daemon;
use crate::dnsmasq;
use crate::folders::Folders;
use crate::machine::{Firmware, Machine, PowerOrder};
use crate::network::{LENDER_BRIDGE, LM_ADDRESS, Network};
use crate::servers::Server;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The package that holds it.
const PACKAGE: &str = "debian-installer-12-netboot-amd64";
/// Where its network boot files lie in the package.
const TREE: &str = "usr/lib/debian-installer/images/12/amd64/text";
/// Where they lie below that.
const FOLDER: &str = "debian-installer/amd64";
/// The one address that dnsmasq has for an installer.
const ITS_ADDRESS: &str = "10.10.0.200";
/// From power-on to its network.
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// It asks nothing before it has its network, and goes on to the serial line.
const ARGUMENTS: &str =
    "auto=true priority=critical locale=en_US console=ttyS0,115200 no_timer_check --- quiet";

/// What was measured of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Installer {
    /// It has its address.
    pub(super) network: Moment,
}

impl Installer {
    /// Boots a server of this firmware into it; `None` where Debian has none for the firmware.
    pub(super) async fn measure(firmware: Firmware, folders: &Folders) -> Result<Option<Self>> {
        let Some(loader) = loader(firmware) else {
            return Ok(None);
        };
        let measured = measure(firmware, loader, folders).await;
        measured.map(Some).context("cannot measure Debian's installer")
    }
}

/// What firmware is sent, below the TFTP server's root.
fn loader(firmware: Firmware) -> Option<&'static str> {
    match firmware {
        Firmware::Bios => Some("pxelinux.0"),
        Firmware::Uefi | Firmware::UefiSecure => Some("debian-installer/amd64/bootnetx64.efi"),
        Firmware::Uefi32 | Firmware::UefiArm64 => None,
    }
}

async fn measure(firmware: Firmware, loader: &str, folders: &Folders) -> Result<Installer> {
    let run = folders.scenario("paths-installer")?;
    let root = run.path().join("tftp");
    lay_out(&root)?;
    let network = Network::build().await?;
    let mut hardware = Server::numbered(1).hardware;
    hardware.firmware = firmware;
    let machine = Machine::install(&network, hardware, run.path()).await?;
    let server = serve(&network, loader, &root, run.path()).await?;
    machine.order(PowerOrder::On).await?;
    let watch = Watch::begin(&machine).await?;
    let acknowledged = format!("DHCPACK({LENDER_BRIDGE}) {ITS_ADDRESS}");
    let seen = server.said().wait_for(&acknowledged, WITHIN).await;
    if seen.is_err() {
        eprintln!("{}", machine.serial().tail(30));
    }
    seen?;
    let network = watch.now().await?;
    machine.order(PowerOrder::Off).await?;
    Ok(Installer { network })
}

/// The package's files, with its menus replaced by one entry that waits for nobody.
fn lay_out(root: &Path) -> Result<()> {
    let peers = std::env::var_os("LEASEBOOT_PEERS").context("run this by `cargo xtask bench paths`")?;
    let from = PathBuf::from(peers).join(PACKAGE).join(TREE);
    let grub = format!("linux /{FOLDER}/linux {ARGUMENTS}\ninitrd /{FOLDER}/initrd.gz\nboot\n");
    let pxelinux = format!(
        "default install\nprompt 0\nlabel install\n  kernel {FOLDER}/linux\n  append initrd={FOLDER}/initrd.gz {ARGUMENTS}\n"
    );
    let copied = ["linux", "initrd.gz", "bootnetx64.efi", "grubx64.efi"]
        .map(|name| (format!("{FOLDER}/{name}"), format!("{FOLDER}/{name}")));
    let at_the_root = [
        // The shim asks for it at the server's root, wherever itself came from.
        (format!("{FOLDER}/grubx64.efi"), "grubx64.efi".to_owned()),
        (format!("{FOLDER}/pxelinux.0"), "pxelinux.0".to_owned()),
        (
            format!("{FOLDER}/boot-screens/ldlinux.c32"),
            "ldlinux.c32".to_owned(),
        ),
    ];
    for (source, place) in copied.into_iter().chain(at_the_root) {
        let place = root.join(place);
        make_room(&place)?;
        std::fs::copy(from.join(&source), &place)
            .with_context(|| format!("cannot copy {source} of {PACKAGE} to {}", place.display()))?;
    }
    for (name, text) in [
        (format!("{FOLDER}/grub/grub.cfg"), grub),
        ("pxelinux.cfg/default".to_owned(), pxelinux),
    ] {
        let place = root.join(name);
        make_room(&place)?;
        std::fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

fn make_room(place: &Path) -> Result<()> {
    let folder = place.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

async fn serve(network: &Network, loader: &str, root: &Path, folder: &Path) -> Result<Daemon> {
    let mut words = dnsmasq::GIVES_ADDRESSES.map(str::to_owned).to_vec();
    words.extend([
        "--enable-tftp".to_owned(),
        "--dhcp-vendorclass=set:installer,d-i".to_owned(),
        "--dhcp-range=tag:!installer,10.10.0.100,10.10.0.150,255.255.255.0,1h".to_owned(),
        format!("--dhcp-range=tag:installer,{ITS_ADDRESS},{ITS_ADDRESS},255.255.255.0,1h"),
        format!("--interface={LENDER_BRIDGE}"),
        format!("--tftp-root={}", root.display()),
        format!("--dhcp-option=option:router,{LM_ADDRESS}"),
        format!("--dhcp-boot={loader}"),
    ]);
    dnsmasq::start(
        &network.lender,
        &words,
        &folder.join("dnsmasq.log"),
        "TFTP root is",
    )
    .await
}
