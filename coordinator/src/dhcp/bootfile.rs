//! Which boot program a client is sent.
//!
//! | client | BIOS | x86-64 UEFI | x86 UEFI of 32 bits | 64-bit ARM UEFI |
//! |---|---|---|---|---|
//! | iPXE, `ipxe_chain = "script"` | the server's script by HTTP | the same | the same | the same |
//! | iPXE, `ipxe_chain = "grub"` | `grub/core.0` | `grub/core.efi` | `grub/core-ia32.efi` | `grub/core-arm64.efi` |
//! | PXE, `first_loader = "grub"` | `grub/core.0` | `grub/core.efi` | `grub/core-ia32.efi` | `grub/core-arm64.efi` |
//! | PXE, `first_loader = "ipxe"` | `ipxe/undionly.kpxe` | `ipxe/snponly.efi` | `ipxe/snponly-ia32.efi` | `ipxe/snponly-arm64.efi` |
//! | UEFI HTTP boot | – | the URL of GRUB | the URL of GRUB | the URL of GRUB |
//!
//! Operating systems and our own agent are sent none, and neither is a client whose program is not among the boot files: `cargo xtask image` makes the first two columns.
//! Names without a scheme are fetched by TFTP from the server in `siaddr`.
//!
//! Beside another DHCP server everybody is sent iPXE and then a script: GRUB takes the address of its server from the answer that gave
//! the client its own address, which is the other server's.

use super::config::{DhcpMode, DhcpSettings, FirstLoader, IpxeChain};
use super::request::{Client, Platform, Request};

pub(super) struct BootProgram {
    /// A TFTP name or a URL.
    pub(super) name: String,
    /// What option 60 of the answer must say: UEFI HTTP boot takes no offer without it.
    pub(super) class: Option<&'static [u8]>,
}

pub(super) fn choose(settings: &DhcpSettings, request: &Request) -> Option<BootProgram> {
    let (first, chain) = match settings.config.mode {
        DhcpMode::Authoritative => (settings.config.first_loader, settings.config.ipxe_chain),
        DhcpMode::Proxy => (FirstLoader::Ipxe, IpxeChain::Script),
    };
    let loader = match (request.client, first, chain) {
        (Client::Plain | Client::Agent, _, _) => return None,
        (Client::Ipxe(_), _, IpxeChain::Script) => {
            return Some(BootProgram {
                name: format!("{}/boot/ipxe/{}.ipxe", settings.http_base, request.mac),
                class: None,
            });
        }
        (Client::Http(platform), _, _) if settings.config.mode == DhcpMode::Proxy => ipxe(platform)?,
        (Client::Ipxe(platform), _, IpxeChain::Grub)
        | (Client::Pxe(platform), FirstLoader::Grub, _)
        | (Client::Http(platform), _, _) => grub(platform)?,
        (Client::Pxe(platform), FirstLoader::Ipxe, _) => ipxe(platform)?,
    };
    if !settings.loaders.contains(loader) {
        tracing::warn!(mac = %request.mac, client = ?request.client, loader, "the boot files lack the boot program of a client, so it gets none");
        return None;
    }
    match request.client {
        Client::Http(_) => settings.http_loaders.get(loader).map(|url| BootProgram {
            name: url.clone(),
            class: Some(b"HTTPClient"),
        }),
        _ => Some(BootProgram {
            name: loader.to_owned(),
            class: None,
        }),
    }
}

fn grub(platform: Platform) -> Option<&'static str> {
    match platform {
        Platform::Bios => Some("grub/core.0"),
        Platform::Efi64 => Some("grub/core.efi"),
        Platform::Efi32 => Some("grub/core-ia32.efi"),
        Platform::Arm64 => Some("grub/core-arm64.efi"),
        Platform::Other(_) => None,
    }
}

fn ipxe(platform: Platform) -> Option<&'static str> {
    match platform {
        Platform::Bios => Some("ipxe/undionly.kpxe"),
        Platform::Efi64 => Some("ipxe/snponly.efi"),
        Platform::Efi32 => Some("ipxe/snponly-ia32.efi"),
        Platform::Arm64 => Some("ipxe/snponly-arm64.efi"),
        Platform::Other(_) => None,
    }
}
