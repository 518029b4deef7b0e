//! Beside another DHCP server: it gives the addresses, this says what to boot (proxyDHCP, PXE specification 2.1, chapter 2).
//!
//! | message | answer |
//! |---|---|
//! | DISCOVER of firmware or iPXE, port 67 | OFFER without an address, with the boot program |
//! | REQUEST or INFORM of firmware, port 4011 | ACK with the boot program |
//! | anything else | nothing: it is the other server's |
//!
//! What firmware insists on, learnt from what others ran into: option 60 must say `PXEClient` (or `HTTPClient`), or the offer is taken for one of an address; UEFI goes to port 4011
//! unless option 43 says that it may load the named file at once (`PXE_DISCOVERY_CONTROL` bit 3), and some boards want a boot prompt in it that waits no time; and the client's option 97
//! comes back. Some boards ask at port 4011 all the same, so it answers there too.

use super::answer::{self, Dhcp, Reply};
use super::bootfile;
use super::loader::LoaderChoice;
use super::relay;
use super::request::{Client, Request};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode, UnknownOption};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where boot servers listen.
pub const BOOT_SERVER_PORT: u16 = 4011;

/// Suboption 6 with bit 3: load the file that is named, ask nobody else. Suboption 10: a prompt that waits 0 s. Then the end.
const LOAD_AT_ONCE: [u8; 10] = [6, 1, 1 << 3, 10, 4, 0, b'P', b'X', b'E', 255];
/// Suboption 71: which of a boot server's programs is meant.
const BOOT_ITEM: u8 = 71;

impl Dhcp {
    /// The answer to a message on port 67, in proxy mode.
    pub(super) fn proxy_offer(&self, request: &Request) -> Option<Reply> {
        if request.kind != MessageType::Discover {
            return None;
        }
        // A relay elsewhere is none of ours.
        self.network_of(request)?;
        let to = relay::destination(request).unwrap_or(answer::EVERYBODY);
        self.proxy_reply(request, MessageType::Offer, to)
    }

    /// The answer to a message on port 4011, which is sent to where it came from: a client of ours, or nobody.
    pub fn boot_server_answer(&self, request: &Request, from: SocketAddrV4) -> Option<Reply> {
        let asks = matches!(request.kind, MessageType::Request | MessageType::Inform);
        let ours = self
            .settings()
            .networks()
            .any(|network| network.contains(from.ip()));
        (asks && ours).then_some(())?;
        self.proxy_reply(request, MessageType::Ack, from)
    }

    fn proxy_reply(&self, request: &Request, kind: MessageType, to: SocketAddrV4) -> Option<Reply> {
        let program = bootfile::choose(
            &self.settings().shelf(),
            request.client,
            request.mac,
            LoaderChoice::default(),
        )?;
        let mut message = self.header(request, kind, Ipv4Addr::UNSPECIFIED);
        message.set_siaddr(self.settings().address.addr());
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.settings().address.addr()));
        if let Some(id) = &request.client_id {
            options.insert(DhcpOption::ClientIdentifier(id.clone()));
        }
        answer::insert_program(&mut message, self.settings(), request, &program);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClassIdentifier(
            program.class.unwrap_or(b"PXEClient").to_vec(),
        ));
        if let Client::Pxe(_) = request.client {
            let vendor = UnknownOption::new(OptionCode::VendorExtensions, vendor_options(request));
            options.insert(DhcpOption::Unknown(vendor));
        }
        answer::finish(&message, request, kind, Ipv4Addr::UNSPECIFIED, to)
    }
}

fn vendor_options(request: &Request) -> Vec<u8> {
    match request.boot_item {
        // Whoever asks for an item wants to hear that it is this one.
        Some(item) => [&[BOOT_ITEM, 4], &item[..], &[255]].concat(),
        None => LOAD_AT_ONCE.to_vec(),
    }
}

/// The boot item in a client's option 43.
pub(super) fn boot_item(vendor: &[u8]) -> Option<[u8; 4]> {
    let mut rest = vendor;
    while let [code, length, after @ ..] = rest {
        let (value, next) = after.split_at_checked(usize::from(*length))?;
        if *code == BOOT_ITEM {
            return value.try_into().ok();
        }
        rest = next;
    }
    None
}
