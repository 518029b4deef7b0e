//! Every way in: how a bare server comes from its firmware to the agent's first report.
//!
//! The ways are values, so that the scenarios (`tests/tests/ways_in.rs`), the bench and `docs/ways-in.md` speak of the same ones. The lender knows nothing of the server but
//! its card, so the LM boots it by itself to learn its hardware: power-on to hello, with the same per-server scripts as in a lease, and no enterprise.

use crate::daemon::Daemon;
use crate::lab::{CHAIN, Lab, Plan};
use crate::machine::{Firmware, Machine, NetworkBoot, Power};
use crate::servers::Server;
use crate::tls_front;
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

/// One way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// BIOS with iPXE on the card, which runs the server's script.
    BiosIpxe,
    /// BIOS with an old PXE ROM, which loads GRUB.
    BiosPxeGrub,
    /// BIOS with iPXE on the card, which is sent on to GRUB.
    BiosIpxeGrub,
    /// UEFI's PXE loads GRUB.
    UefiPxeGrub,
    /// UEFI's PXE loads iPXE, which uses the firmware's driver.
    UefiPxeSnponly,
    /// UEFI's PXE loads iPXE with its own drivers.
    UefiPxeIpxe,
    /// UEFI's HTTP boot loads GRUB.
    UefiHttpGrub,
    /// UEFI's HTTP boot loads iPXE.
    UefiHttpSnponly,
    /// UEFI's HTTPS boot loads GRUB; the CA is enrolled in the firmware.
    UefiHttpsGrub,
    /// Secure Boot: UEFI's PXE loads the signed shim, and that the signed GRUB.
    SecurePxeShim,
    /// UEFI of 32 bits: PXE loads GRUB, which starts the kernel of 64 bits.
    Ia32PxeGrub,
    /// UEFI of 32 bits: HTTP boot loads it.
    Ia32HttpGrub,
    /// 64-bit ARM: UEFI's PXE loads GRUB.
    Arm64PxeGrub,
    /// 64-bit ARM: UEFI's HTTP boot loads it.
    Arm64HttpGrub,
}

impl Way {
    /// All of them on x86, whose image is always made.
    pub const ALL: [Self; 12] = [
        Way::BiosIpxe,
        Way::BiosPxeGrub,
        Way::BiosIpxeGrub,
        Way::UefiPxeGrub,
        Way::UefiPxeSnponly,
        Way::UefiPxeIpxe,
        Way::UefiHttpGrub,
        Way::UefiHttpSnponly,
        Way::UefiHttpsGrub,
        Way::SecurePxeShim,
        Way::Ia32PxeGrub,
        Way::Ia32HttpGrub,
    ];

    /// Its name in tables and folders.
    pub fn name(self) -> &'static str {
        match self {
            Way::BiosIpxe => "bios-ipxe",
            Way::BiosPxeGrub => "bios-pxe-grub",
            Way::BiosIpxeGrub => "bios-ipxe-grub",
            Way::UefiPxeGrub => "uefi-pxe-grub",
            Way::UefiPxeSnponly => "uefi-pxe-snponly",
            Way::UefiPxeIpxe => "uefi-pxe-ipxe",
            Way::UefiHttpGrub => "uefi-http-grub",
            Way::UefiHttpSnponly => "uefi-http-snponly",
            Way::UefiHttpsGrub => "uefi-https-grub",
            Way::SecurePxeShim => "secure-pxe-shim",
            Way::Ia32PxeGrub => "ia32-pxe-grub",
            Way::Ia32HttpGrub => "ia32-http-grub",
            Way::Arm64PxeGrub => "arm64-pxe-grub",
            Way::Arm64HttpGrub => "arm64-http-grub",
        }
    }

    /// What is in the server's flash chip.
    pub fn firmware(self) -> Firmware {
        match self {
            Way::BiosIpxe | Way::BiosPxeGrub | Way::BiosIpxeGrub => Firmware::Bios,
            Way::UefiPxeGrub
            | Way::UefiPxeSnponly
            | Way::UefiPxeIpxe
            | Way::UefiHttpGrub
            | Way::UefiHttpSnponly
            | Way::UefiHttpsGrub => Firmware::Uefi,
            Way::SecurePxeShim => Firmware::UefiSecure,
            Way::Ia32PxeGrub | Way::Ia32HttpGrub => Firmware::Uefi32,
            Way::Arm64PxeGrub | Way::Arm64HttpGrub => Firmware::UefiArm64,
        }
    }

    /// How the firmware fetches its first loader.
    pub fn network_boot(self) -> NetworkBoot {
        match self {
            Way::UefiHttpGrub
            | Way::UefiHttpSnponly
            | Way::UefiHttpsGrub
            | Way::Ia32HttpGrub
            | Way::Arm64HttpGrub => NetworkBoot::Http,
            _ => NetworkBoot::Pxe,
        }
    }

    /// A bare server that comes in by it.
    pub fn server(self) -> Server {
        let mut server = Server::numbered(1).labelled("way", self.name());
        server.hardware.firmware = self.firmware();
        server.hardware.network_boot = self.network_boot();
        server
    }

    /// The lender's settings (`lm.toml`, the `[dhcp]` table) in which it is taken.
    fn settings(self) -> &'static str {
        match self {
            Way::BiosIpxeGrub => "ipxe_chain = 'grub'",
            Way::UefiPxeSnponly => "architecture = { efi64 = 'ipxe' }",
            Way::UefiHttpSnponly => "first_loader = 'ipxe'",
            Way::UefiPxeIpxe => "loader = [{ where = 'way = uefi-pxe-ipxe', first_loader = 'ipxe-drivers' }]",
            Way::UefiHttpsGrub => "http_boot_url = 'https://10.10.0.1'",
            Way::SecurePxeShim => "first_loader = 'shim'",
            _ => "",
        }
    }

    /// What the LM's log must show, in this order: who asked, and for what.
    fn course(self) -> &'static [&'static str] {
        match self {
            Way::BiosIpxe => &["client=Ipxe(Bios)", "language=Ipxe"],
            Way::BiosPxeGrub => &["client=Pxe(Bios)", "grub/core.0", "language=Grub"],
            Way::BiosIpxeGrub => &["client=Ipxe(Bios)", "grub/core.0", "language=Grub"],
            Way::UefiPxeGrub => &["client=Pxe(Efi64)", "grub/core.efi", "language=Grub"],
            Way::UefiPxeSnponly => &[
                "client=Pxe(Efi64)",
                "ipxe/snponly.efi",
                "client=Ipxe(Efi64)",
                "language=Ipxe",
            ],
            Way::UefiPxeIpxe => &[
                "client=Pxe(Efi64)",
                "ipxe/ipxe.efi",
                "client=Ipxe(Efi64)",
                "language=Ipxe",
            ],
            Way::UefiHttpGrub | Way::UefiHttpsGrub => {
                &["client=Http(Efi64)", "name=\"/grub/core.efi\"", "language=Grub"]
            }
            Way::UefiHttpSnponly => &[
                "client=Http(Efi64)",
                "name=\"/ipxe/snponly.efi\"",
                "client=Ipxe(Efi64)",
                "language=Ipxe",
            ],
            Way::SecurePxeShim => &[
                "client=Pxe(Efi64)",
                "shim/shimx64.efi",
                "shim/grubx64.efi",
                "grub/grub.cfg",
                "language=Grub",
            ],
            Way::Ia32PxeGrub => &["client=Pxe(Efi32)", "grub/core-ia32.efi", "language=Grub"],
            Way::Ia32HttpGrub => &[
                "client=Http(Efi32)",
                "name=\"/grub/core-ia32.efi\"",
                "language=Grub",
            ],
            Way::Arm64PxeGrub => &[
                "client=Pxe(Arm64)",
                "grub/core-arm64.efi",
                "language=Grub architecture=aarch64",
            ],
            Way::Arm64HttpGrub => &[
                "client=Http(Arm64)",
                "name=\"/grub/core-arm64.efi\"",
                "language=Grub architecture=aarch64",
            ],
        }
    }

    /// What the server's console must say on top, where the LM cannot know.
    fn said_on_console(self) -> Option<&'static str> {
        match self {
            // Debian's kernel, when it finds Secure Boot on.
            Way::SecurePxeShim => Some("Kernel is locked down from EFI Secure Boot"),
            // The kernel of 64 bits can call the firmware of 32 bits (CONFIG_EFI_MIXED).
            Way::Ia32PxeGrub | Way::Ia32HttpGrub => Some("Registered efivars operations"),
            _ => None,
        }
    }

    /// A laboratory with one such server, in `target/lab/way-<name>`.
    pub fn plan(self) -> Plan {
        self.plan_in(&format!("way-{}", self.name()))
    }

    /// The same in `target/lab/<folder>`.
    pub fn plan_in(self, folder: &str) -> Plan {
        let plan = Plan::named(folder).servers(vec![self.server().unknown_hardware()]);
        plan.without_installer().held().dhcp(self.settings())
    }

    /// A laboratory with one such server on record, of which an enterprise may borrow it for the tiny image, in `target/lab/paths-<name>`.
    pub(crate) fn plan_of_a_borrowing(self) -> Plan {
        let plan = Plan::named(&format!("paths-{}", self.name())).servers(vec![self.server()]);
        plan.tiny().dhcp(self.settings())
    }

    /// Runs the plan up to the agent's first report.
    pub async fn reach(self) -> Result<()> {
        self.plan()
            .run(async |lab| {
                let arrival = self.arrive(lab).await?;
                println!("{}: {:.1} s", self.name(), arrival.took.as_secs_f64());
                Ok(())
            })
            .await
    }

    /// Has the LM boot the server and waits for the agent's first report. The laboratory must be one of [`Way::plan`].
    pub async fn arrive(self, lab: &mut Lab) -> Result<Arrival> {
        let _front = self.prepare(lab).await?;
        lab.lm.start().await?;
        let machine = lab.machine();
        machine.wait_for_power(Power::On, CHAIN).await?;
        let (begun, received) = (Instant::now(), machine.received_bytes().await?);
        hello(lab, machine).await?;
        let arrival = Arrival {
            took: begun.elapsed(),
            bytes: machine.received_bytes().await? - received,
        };
        self.check_course(lab)?;
        if let Some(words) = self.said_on_console() {
            let said = machine.serial().tail(usize::MAX);
            ensure!(said.contains(words), "the console does not say {words:?}");
        }
        Ok(arrival)
    }

    /// What stands beside the LM on some of the ways.
    pub(crate) async fn prepare(self, lab: &Lab) -> Result<Option<Daemon>> {
        match self {
            Way::BiosPxeGrub => {
                hide_ipxe(lab).await?;
                Ok(None)
            }
            Way::UefiHttpsGrub => tls_front::start(&lab.network, lab.folder.path()).await.map(Some),
            _ => Ok(None),
        }
    }

    /// It was this way and no other.
    fn check_course(self, lab: &Lab) -> Result<()> {
        let log = lab.lm.said()?.tail(usize::MAX);
        let mut rest = log.as_str();
        for step in self.course() {
            let at = rest.find(step);
            let at = at
                .with_context(|| format!("{}: the LM's log has no {step:?} where it belongs", self.name()))?;
            rest = &rest[at + step.len()..];
        }
        Ok(())
    }
}

/// How a server came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// From power-on to the agent's first report.
    pub took: Duration,
    /// What it received from the wire in that time.
    pub bytes: u64,
}

/// Waits until the LM has heard the agent on this server.
pub async fn hello(lab: &Lab, machine: &Machine) -> Result<()> {
    let words = format!("an agent says hello mac={}", machine.hardware().mac);
    lab.lm.said()?.wait_for(&words, CHAIN).await.map(drop)
}

/// Takes iPXE's name out of what the first server sends to DHCP servers, so that the LM has an old PXE client before it: Debian has no PXE ROM but iPXE.
///
/// The name is the user class (option 77) and iPXE's own options (175), which begin with the card's identifiers (177). Where they stand differs from message to message,
/// so there is a rule for each place: the first becomes padding, the second option 224, which is nobody's. UDP's checksum is left out (RFC 768).
async fn hide_ipxe(lab: &Lab) -> Result<()> {
    let port = lab.machine().port();
    let mut rules = format!(
        "table bridge old-pxe {{ chain marks {{ type filter hook prerouting priority -300; iifname != \"{port}\" accept; udp dport != 67 accept;\n"
    );
    for byte in MARKS {
        let (first, third) = (byte * 8, (byte + 2) * 8);
        writeln!(
            rules,
            "@th,{first},48 0x4d0469505845 @th,{first},48 set 0 udp checksum set 0\n\
             @th,{first},8 0xaf @th,{third},8 0xb1 @th,{first},8 set 0xe0 udp checksum set 0"
        )?;
    }
    rules.push_str("}\n}\n");
    let path = lab.folder.path().join("old-pxe.nft");
    std::fs::write(&path, rules).with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    lab.network.lender.run("nft", &["-f", &path]).await.map(drop)
}

/// Where options stand, in bytes from the beginning of the UDP header: behind the magic cookie, in a message of ordinary length.
const MARKS: Range<u32> = 248..520;
