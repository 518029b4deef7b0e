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

use super::config::{DhcpConfig, DhcpMode};
use super::loader::{FirstLoader, IpxeChain, LoaderChoice};
use super::request::{Client, Platform};
use crate::boot::{Language, ScriptPath};
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::network::MacAddress;
use std::collections::BTreeSet;

pub(crate) struct BootProgram {
    /// A TFTP name or a URL.
    pub(crate) name: String,
    /// What the vendor class of the answer must say: UEFI HTTP boot takes no offer without it.
    pub(crate) class: Option<&'static [u8]>,
}

/// What there is to choose from, and what the lender decided about it.
pub(crate) struct Shelf<'a> {
    /// The `[dhcp]` table.
    pub(crate) config: &'a DhcpConfig,
    /// Where scripts are served, without a slash at the end.
    pub(crate) http_base: &'a str,
    /// Where UEFI's HTTP boot finds boot files.
    pub(crate) http_boot_base: &'a str,
    /// Names of the boot programs.
    pub(crate) programs: &'a BTreeSet<String>,
}

/// `choice` is what was decided for the client's server; proxies do not ask for it.
pub(crate) fn choose(
    shelf: &Shelf<'_>,
    client: Client,
    mac: MacAddress,
    choice: LoaderChoice,
) -> Option<BootProgram> {
    let proxy = shelf.config.mode == DhcpMode::Proxy;
    let chain = match proxy {
        true => IpxeChain::Script,
        false => choice.ipxe_chain.unwrap_or(shelf.config.ipxe_chain),
    };
    let (first, platform) = match client {
        Client::Plain | Client::Agent => return None,
        Client::Ipxe(platform) if chain == IpxeChain::Script => {
            return Some(BootProgram {
                name: format!("{}{}", shelf.http_base, script_of(mac, platform)),
                class: None,
            });
        }
        Client::Ipxe(platform) => (FirstLoader::Grub, platform),
        Client::Pxe(platform) | Client::Http(platform) if proxy => (FirstLoader::Ipxe, platform),
        Client::Pxe(platform) | Client::Http(platform) => {
            (first_loader(shelf.config, choice, platform), platform)
        }
    };
    if let (Client::Http(_), FirstLoader::Shim) = (client, first) {
        tracing::warn!(%mac, "a server that is sent the signed shim asks by HTTP boot, where Debian's signed GRUB cannot go on; it gets nothing, and its firmware must try PXE next");
        return None;
    }
    let Some(loader) = available(shelf, first, platform) else {
        let advice = match proxy {
            true => {
                "beside another DHCP server everybody needs iPXE, which is there for BIOS and 64-bit UEFI on x86 only: let the lease manager give the addresses (`[dhcp] mode`)"
            }
            false => {
                "`cargo xtask image` makes those for x86, and with `--architecture aarch64` those for 64-bit ARM"
            }
        };
        tracing::warn!(%mac, ?client, ?first, advice, "the boot files lack the boot program of a client, so it gets none");
        return None;
    };
    Some(match client {
        Client::Http(_) => BootProgram {
            name: format!("{}/{loader}", shelf.http_boot_base),
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

fn first_loader(config: &DhcpConfig, choice: LoaderChoice, platform: Platform) -> FirstLoader {
    choice
        .first_loader
        .or(config.architecture.get(platform))
        .unwrap_or(config.first_loader)
}

/// The loader's boot file, or else GRUB's, which only a client can use that has its address from us.
fn available(shelf: &Shelf<'_>, first: FirstLoader, platform: Platform) -> Option<&'static str> {
    let wanted = first.program(platform);
    let instead = match shelf.config.mode {
        DhcpMode::Authoritative | DhcpMode::Off => FirstLoader::Grub.program(platform),
        DhcpMode::Proxy => None,
    };
    let mut programs = wanted.into_iter().chain(instead);
    programs.find(|name| shelf.programs.contains(*name))
}
