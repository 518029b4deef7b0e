//! Which boot program a client is sent.
//!
//! | client | BIOS | x86-64 UEFI | x86 UEFI of 32 bits | 64-bit ARM UEFI |
//! |---|---|---|---|---|
//! | iPXE, `ipxe_chain = "script"` | the server's script by HTTP | the same | the same | the same |
//! | iPXE, `ipxe_chain = "grub"` | `grub/core.0` | `grub/core.efi` | `grub/core-ia32.efi` | `grub/core-arm64.efi` |
//! | firmware, `first_loader = "grub"` | `grub/core.0` | `grub/core.efi` | `grub/core-ia32.efi` | `grub/core-arm64.efi` |
//! | firmware, `"ipxe"` | `ipxe/undionly.kpxe` | `ipxe/snponly.efi` | `ipxe/snponly-ia32.efi` | `ipxe/snponly-arm64.efi` |
//! | firmware, `"ipxe-drivers"` | `ipxe/ipxe.pxe` | `ipxe/ipxe.efi` | `ipxe/ipxe-ia32.efi` | `ipxe/ipxe-arm64.efi` |
//! | firmware, `"shim"` | `grub/core.0` | `shim/shimx64.efi` | `shim/shimia32.efi` | `shim/shimaa64.efi` |
//!
//! Firmware is PXE, which is told a name for TFTP, and UEFI HTTP boot, which is told the same file's URL. What is not among the boot files, because Debian has none or
//! the lender left it out, is replaced by GRUB. The shim goes by TFTP only: the GRUB that Debian signed for the network has no module for HTTP, so it would find no
//! script; without a boot program UEFI turns to its next choice. Without GRUB, and for operating systems and our own agent, nobody is sent anything.
//! Names without a scheme are fetched by TFTP from the server in `siaddr`.
//!
//! Beside another DHCP server everybody is sent iPXE and then a script: GRUB takes the address of its server from the answer that gave
//! the client its own address, which is the other server's.

use super::config::{DhcpMode, DhcpSettings};
use super::loader::{FirstLoader, IpxeChain, LoaderChoice};
use super::request::{Client, Platform, Request};
use crate::boot::{Language, ScriptPath};
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::network::MacAddress;

pub(super) struct BootProgram {
    /// A TFTP name or a URL.
    pub(super) name: String,
    /// What option 60 of the answer must say: UEFI HTTP boot takes no offer without it.
    pub(super) class: Option<&'static [u8]>,
}

/// `choice` is what was decided for the client's server; proxies do not ask for it.
pub(super) fn choose(
    settings: &DhcpSettings,
    request: &Request,
    choice: LoaderChoice,
) -> Option<BootProgram> {
    let proxy = settings.config.mode == DhcpMode::Proxy;
    let chain = match proxy {
        true => IpxeChain::Script,
        false => choice.ipxe_chain.unwrap_or(settings.config.ipxe_chain),
    };
    let (first, platform) = match request.client {
        Client::Plain | Client::Agent => return None,
        Client::Ipxe(platform) if chain == IpxeChain::Script => {
            return Some(BootProgram {
                name: format!("{}{}", settings.http_base, script_of(request.mac, platform)),
                class: None,
            });
        }
        Client::Ipxe(platform) => (FirstLoader::Grub, platform),
        Client::Pxe(platform) | Client::Http(platform) if proxy => (FirstLoader::Ipxe, platform),
        Client::Pxe(platform) | Client::Http(platform) => {
            (first_loader(settings, choice, platform), platform)
        }
    };
    if let (Client::Http(_), FirstLoader::Shim) = (request.client, first) {
        tracing::warn!(mac = %request.mac, "a server that is sent the signed shim asks by HTTP boot, where Debian's signed GRUB cannot go on; it gets nothing, and its firmware must try PXE next");
        return None;
    }
    let Some(loader) = available(settings, first, platform) else {
        tracing::warn!(mac = %request.mac, client = ?request.client, ?first, "the boot files lack the boot program of a client, so it gets none: `cargo xtask image` makes those for x86, and with `--architecture aarch64` those for 64-bit ARM");
        return None;
    };
    Some(match request.client {
        Client::Http(_) => BootProgram {
            name: format!("{}/{loader}", settings.http_boot_base()),
            class: Some(b"HTTPClient"),
        },
        _ => BootProgram {
            name: loader.to_owned(),
            class: None,
        },
    })
}

/// What is no ARM is taken for x86, as ever.
fn script_of(mac: MacAddress, platform: Platform) -> ScriptPath {
    ScriptPath {
        language: Language::Ipxe,
        architecture: match platform {
            Platform::Arm64 => Architecture::Aarch64,
            Platform::Bios | Platform::Efi64 | Platform::Efi32 | Platform::Other(_) => Architecture::X86_64,
        },
        mac,
    }
}

fn first_loader(settings: &DhcpSettings, choice: LoaderChoice, platform: Platform) -> FirstLoader {
    let config = &settings.config;
    choice
        .first_loader
        .or(config.architecture.get(platform))
        .unwrap_or(config.first_loader)
}

/// The loader's boot file, or else GRUB's, which only a client can use that has its address from us.
fn available(settings: &DhcpSettings, first: FirstLoader, platform: Platform) -> Option<&'static str> {
    let wanted = first.program(platform);
    let instead = match settings.config.mode {
        DhcpMode::Authoritative => FirstLoader::Grub.program(platform),
        DhcpMode::Proxy => None,
    };
    let mut programs = wanted.into_iter().chain(instead);
    programs.find(|name| settings.loaders.contains(*name))
}
