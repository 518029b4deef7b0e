//! What is in a server's flash chip, and how it is set up: SeaBIOS, or one of the builds of OVMF (packages ovmf, ovmf-ia32, qemu-efi-aarch64). It decides what
//! board and what processor the server has, too.
//!
//! OVMF takes settings from QEMU (`-fw_cfg`): which network boots it tries (`opt/org.tianocore/…`, edk2's `OvmfPkg/README`), and which
//! certificates it trusts in HTTPS boot (`etc/edk2/https/cacerts`, edk2's `OvmfPkg/Library/TlsAuthConfigLib`). On a real board a person
//! sets both in its menu.

use crate::machine::Hardware;
use anyhow::{Context as _, Result};
use leaseboot_protocol::architecture::Architecture;
use std::fs;
use std::path::{Path, PathBuf};

/// What is in a server's flash chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// PC BIOS (SeaBIOS) with iPXE on the card.
    Bios,
    /// UEFI (OVMF) with its own PXE client.
    Uefi,
    /// The same with Secure Boot on and Microsoft's keys enrolled, as servers are sold.
    UefiSecure,
    /// UEFI of 32 bits on a processor of 64 bits.
    Uefi32,
    /// UEFI on 64-bit ARM.
    UefiArm64,
}

/// How UEFI fetches its first loader; a BIOS knows only the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkBoot {
    /// TFTP.
    #[default]
    Pxe,
    /// TFTP by IPv6.
    Pxe6,
    /// HTTP, and HTTPS when that is what DHCP names: the CA's certificate is what [`trusted`] names.
    Http,
}

/// The builds of OVMF: its code, and the template of its variables.
struct Build {
    code: &'static str,
    variables: &'static str,
    /// Keeps its variables from the operating system, by the processor's management mode.
    guarded: bool,
}

impl Firmware {
    /// Whether it is UEFI of any kind.
    pub fn is_uefi(self) -> bool {
        self.build().is_some()
    }

    /// The server's processor.
    pub fn architecture(self) -> Architecture {
        match self {
            Firmware::Bios | Firmware::Uefi | Firmware::UefiSecure | Firmware::Uefi32 => Architecture::X86_64,
            Firmware::UefiArm64 => Architecture::Aarch64,
        }
    }

    /// The program that emulates such a server.
    pub(crate) fn emulator(self) -> &'static str {
        match self.architecture() {
            Architecture::X86_64 => "qemu-system-x86_64",
            Architecture::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The emulated processor. Emulated AVX is slower than the plain instructions that it replaces, and so are the newest ARM's signed pointers.
    pub(crate) fn processor(self) -> &'static str {
        match self.architecture() {
            Architecture::X86_64 => "max,-avx,-avx2",
            Architecture::Aarch64 => "cortex-a72",
        }
    }

    /// The serial line as the kernel's `console=` names it.
    pub(crate) fn console(self) -> &'static str {
        match self.architecture() {
            Architecture::X86_64 => "ttyS0,115200",
            Architecture::Aarch64 => "ttyAMA0,115200",
        }
    }

    /// The type of machine that it runs on.
    pub(crate) fn machine(self) -> &'static str {
        match self {
            Firmware::UefiArm64 => "virt",
            Firmware::UefiSecure | Firmware::Uefi32 => "q35,smm=on,graphics=off",
            Firmware::Bios | Firmware::Uefi => "pc,graphics=off",
        }
    }

    fn build(self) -> Option<Build> {
        let (code, variables) = match self {
            Firmware::Bios => return None,
            Firmware::Uefi => ("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"),
            Firmware::UefiSecure => ("OVMF/OVMF_CODE_4M.secboot.fd", "OVMF/OVMF_VARS_4M.ms.fd"),
            Firmware::Uefi32 => ("OVMF/OVMF32_CODE_4M.secboot.fd", "OVMF/OVMF32_VARS_4M.fd"),
            Firmware::UefiArm64 => ("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd"),
        };
        Some(Build {
            code,
            variables,
            guarded: code.contains("secboot"),
        })
    }
}

/// A flash chip of a server's own.
pub(crate) struct Flash {
    build: Build,
    variables: PathBuf,
    trusted: PathBuf,
}

impl Flash {
    /// Makes it from the template; `None` for a BIOS, which QEMU brings along.
    pub(crate) fn prepare(hardware: &Hardware, folder: &Path) -> Result<Option<Self>> {
        let Some(build) = hardware.firmware.build() else {
            return Ok(None);
        };
        let variables = folder.join(format!("{}-nvram.fd", hardware.name));
        let template = shared(build.variables);
        fs::copy(&template, &variables).with_context(|| {
            format!(
                "cannot copy {} (packages ovmf, ovmf-ia32, qemu-efi-aarch64)",
                template.display()
            )
        })?;
        Ok(Some(Self {
            build,
            variables,
            trusted: trusted(folder),
        }))
    }

    /// Its options and their values on QEMU's command line.
    pub(crate) fn arguments(&self, network_boot: NetworkBoot) -> Vec<(&'static str, String)> {
        let code = shared(self.build.code);
        let mut arguments = vec![
            (
                "-drive",
                format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()),
            ),
            (
                "-drive",
                format!("if=pflash,unit=1,format=raw,file={}", self.variables.display()),
            ),
        ];
        if self.build.guarded {
            let secure = "driver=cfi.pflash01,property=secure,value=on";
            arguments.push(("-global", secure.to_owned()));
        }
        let left_out: &[&str] = match network_boot {
            NetworkBoot::Pxe => &[],
            NetworkBoot::Pxe6 => &["IPv4"],
            NetworkBoot::Http => &["IPv4", "IPv6"],
        };
        for protocol in left_out {
            let setting = format!("name=opt/org.tianocore/{protocol}PXESupport,string=n");
            arguments.push(("-fw_cfg", setting));
        }
        if network_boot == NetworkBoot::Http && self.trusted.exists() {
            let setting = format!("name=etc/edk2/https/cacerts,file={}", self.trusted.display());
            arguments.push(("-fw_cfg", setting));
        }
        arguments
    }
}

fn shared(name: &str) -> PathBuf {
    Path::new("/usr/share").join(name)
}

/// The list of the CAs that the servers of a laboratory trust in HTTPS boot, in the form of a UEFI signature database; read at each power-on.
pub fn trusted(folder: &Path) -> PathBuf {
    folder.join("https-ca.esl")
}
