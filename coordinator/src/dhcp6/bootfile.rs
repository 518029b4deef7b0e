//! What a client is told to boot (RFC 5970): the same programs as in DHCPv4 ([`crate::dhcp`]), always as a URL.
//!
//! UEFI's HTTP boot takes an offer only when its vendor class says `HTTPClient` (UEFI 2.10, section 24.7.3.1), with Intel's enterprise number as the firmware's own has. A client whose card
//! cannot be told is sent nothing, because its script would be nobody's.

use super::config::Dhcp6Settings;
use super::message::{Writer, code};
use super::request::Request;
use crate::dhcp::{LoaderChoice, Shelf, boot_program};
use std::net::Ipv6Addr;

/// Intel's enterprise number, under which firmware sends the classes of PXE.
const INTEL: u32 = 343;

pub(super) fn write(message: &mut Writer, settings: &Dhcp6Settings, request: &Request, choice: LoaderChoice) {
    let Some(card) = request.card else { return };
    let base = settings.http_base.as_str();
    let shelf = Shelf {
        config: &settings.loaders,
        http_base: base,
        // `http_boot_url` may name an address of IPv4.
        http_boot_base: base,
        programs: &settings.programs,
    };
    let Some(program) = boot_program(&shelf, request.client, card, choice) else {
        return;
    };
    let url = url(&program.name, settings.config.address.addr());
    message.option(code::BOOT_FILE_URL, |option| {
        option.bytes(url.as_bytes());
    });
    if let Some(class) = program.class {
        message.option(code::VENDOR_CLASS, |option| {
            let length = u16::try_from(class.len()).unwrap_or_default();
            option.number(INTEL).bytes(&length.to_be_bytes()).bytes(class);
        });
    }
}

/// A name without a scheme is one for TFTP.
fn url(name: &str, server: Ipv6Addr) -> String {
    if name.contains("://") {
        name.to_owned()
    } else {
        format!("tftp://[{server}]/{name}")
    }
}
