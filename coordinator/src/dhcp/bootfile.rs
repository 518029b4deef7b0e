//! Which boot program a client is sent.
//!
//! | client | BIOS | x86-64 UEFI |
//! |---|---|---|
//! | iPXE, `ipxe_chain = "script"` | the server's script by HTTP | the server's script by HTTP |
//! | iPXE, `ipxe_chain = "grub"` | `grub/core.0` | `grub/core.efi` |
//! | PXE, `first_loader = "grub"` | `grub/core.0` | `grub/core.efi` |
//! | PXE, `first_loader = "ipxe"` | `ipxe/undionly.kpxe` | `ipxe/snponly.efi` |
//! | UEFI HTTP boot | – | the URL of `core.efi` |
//!
//! Operating systems and our own agent are sent none. Names without a scheme are fetched by TFTP from the server in `siaddr`.

use super::config::{DhcpSettings, FirstLoader, IpxeChain};
use super::request::{Client, Platform, Request};

pub(super) struct BootProgram {
    /// A TFTP name or a URL.
    pub(super) name: String,
    /// What option 60 of the answer must say: UEFI HTTP boot takes no offer without it.
    pub(super) class: Option<&'static [u8]>,
}

pub(super) fn choose(settings: &DhcpSettings, request: &Request) -> Option<BootProgram> {
    let tftp = |name: &str| {
        Some(BootProgram {
            name: name.to_owned(),
            class: None,
        })
    };
    let grub = |platform| match platform {
        Platform::Bios => tftp("grub/core.0"),
        Platform::Efi64 => tftp("grub/core.efi"),
        Platform::Other(_) => None,
    };
    match (
        request.client,
        settings.config.first_loader,
        settings.config.ipxe_chain,
    ) {
        (Client::Plain | Client::Agent, _, _) => None,
        (Client::Ipxe(_), _, IpxeChain::Script) => {
            tftp(&format!("{}/boot/ipxe/{}.ipxe", settings.http_base, request.mac))
        }
        (Client::Ipxe(platform), _, IpxeChain::Grub) | (Client::Pxe(platform), FirstLoader::Grub, _) => {
            grub(platform)
        }
        (Client::Pxe(Platform::Bios), FirstLoader::Ipxe, _) => tftp("ipxe/undionly.kpxe"),
        (Client::Pxe(Platform::Efi64), FirstLoader::Ipxe, _) => tftp("ipxe/snponly.efi"),
        (Client::Http(Platform::Efi64), _, _) => settings.http_loader.clone().map(|name| BootProgram {
            name,
            class: Some(b"HTTPClient"),
        }),
        (Client::Pxe(Platform::Other(_)) | Client::Http(_), _, _) => None,
    }
}
