//! What is in a server's flash chip, and how it is set up: SeaBIOS, or one of the builds of OVMF (package ovmf, ovmf-ia32).
//!
//! OVMF takes settings from QEMU (`-fw_cfg`): which network boots it tries (`opt/org.tianocore/…`, edk2's `OvmfPkg/README`), and which
//! certificates it trusts in HTTPS boot (`etc/edk2/https/cacerts`, edk2's `OvmfPkg/Library/TlsAuthConfigLib`). On a real board a person
//! sets both in its menu.

use crate::machine::Hardware;
use anyhow::{Context as _, Result};
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
}

/// How UEFI fetches its first loader; a BIOS knows only the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkBoot {
    /// TFTP.
    #[default]
    Pxe,
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

    fn build(self) -> Option<Build> {
        let (code, variables) = match self {
            Firmware::Bios => return None,
            Firmware::Uefi => ("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"),
            Firmware::UefiSecure => ("OVMF/OVMF_CODE_4M.secboot.fd", "OVMF/OVMF_VARS_4M.ms.fd"),
            Firmware::Uefi32 => ("OVMF/OVMF32_CODE_4M.secboot.fd", "OVMF/OVMF32_VARS_4M.fd"),
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
        fs::copy(&template, &variables)
            .with_context(|| format!("cannot copy {} (packages ovmf, ovmf-ia32)", template.display()))?;
        Ok(Some(Self {
            build,
            variables,
            trusted: trusted(folder),
        }))
    }

    /// The type of machine that it runs on.
    pub(crate) fn machine(flash: Option<&Self>) -> &'static str {
        match flash {
            Some(flash) if flash.build.guarded => "q35,smm=on,graphics=off",
            _ => "pc,graphics=off",
        }
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
        if network_boot == NetworkBoot::Http {
            for protocol in ["IPv4", "IPv6"] {
                let setting = format!("name=opt/org.tianocore/{protocol}PXESupport,string=n");
                arguments.push(("-fw_cfg", setting));
            }
            if self.trusted.exists() {
                let setting = format!("name=etc/edk2/https/cacerts,file={}", self.trusted.display());
                arguments.push(("-fw_cfg", setting));
            }
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
