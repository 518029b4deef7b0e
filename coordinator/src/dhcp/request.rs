//! One DHCP message from a client, parsed into what the answer depends on.
//!
//! dhcproto's eager decoder stops at the first option that it dislikes, reads option 93 as a single number and loses step when there are more. Firmware sends
//! such things, so the options are taken raw from its lazy reader and interpreted here, each for itself: an option
//! that makes no sense is as good as absent, and never hides another.

use super::proxy;
use super::relay::Relay;
use dhcproto::v4::borrowed::Message;
use dhcproto::v4::{HType, MAGIC, MessageType, Opcode, OptionCode};
use leaseboot_protocol::network::MacAddress;
use std::net::Ipv4Addr;

/// Who asks, as far as the boot program depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// An operating system, or anything else that does not want to be booted.
    Plain,
    /// Our own agent.
    Agent,
    /// Firmware that loads by TFTP (PXE 2.1).
    Pxe(Platform),
    /// Firmware that loads by HTTP (UEFI 2.5 and later).
    Http(Platform),
    /// iPXE.
    Ipxe(Platform),
}

/// Processor and firmware, from option 93 (RFC 4578, IANA "Processor Architecture Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// x86 with BIOS: 0.
    Bios,
    /// x86-64 with UEFI: 7 and, from firmware that took the old name of it, 9; 16 over HTTP.
    Efi64,
    /// x86 with UEFI of 32 bits: 6; 15 over HTTP.
    Efi32,
    /// 64-bit ARM with UEFI: 11; 19 over HTTP.
    Arm64,
    /// Anything else.
    Other(u16),
}

impl From<u16> for Platform {
    fn from(number: u16) -> Self {
        match number {
            0 => Platform::Bios,
            6 | 15 => Platform::Efi32,
            7 | 9 | 16 => Platform::Efi64,
            11 | 19 => Platform::Arm64,
            other => Platform::Other(other),
        }
    }
}

impl Platform {
    /// The platform of option 93 (61 in DHCPv6), which may be a list: the first that most fleets boot, else the first that is known; without
    /// the option, the number in the vendor class, `PXEClient:Arch:00007:…`; else the oldest.
    pub(crate) fn choose(numbers: &[u16], class: &[u8]) -> Self {
        let platforms = || numbers.iter().copied().map(Platform::from);
        platforms()
            .find(|platform| matches!(platform, Platform::Bios | Platform::Efi64))
            .or_else(|| platforms().find(|platform| !matches!(platform, Platform::Other(_))))
            .or_else(|| platforms().next())
            .or_else(|| platform_in(class))
            .unwrap_or(Platform::Bios)
    }
}

/// A message to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// DISCOVER, REQUEST and so on.
    pub kind: MessageType,
    /// The client's number for the exchange.
    pub xid: u32,
    /// The flags field, to be handed back.
    pub flags: u16,
    /// The address that the client already uses, or zero.
    pub ciaddr: Ipv4Addr,
    /// The client's card.
    pub mac: MacAddress,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Who asks.
    pub client: Client,
    /// Option 61, to be handed back (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Option 97, to be handed back (RFC 4578).
    pub machine_id: Option<Vec<u8>>,
    /// The boot item in option 43 (PXE specification 2.1), to be handed back by a boot server.
    pub boot_item: Option<[u8; 4]>,
    /// Through whom it came.
    pub relay: Option<Relay>,
}

/// Why a datagram was not taken for a message to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Less than the fixed part of a message.
    #[error("shorter than a DHCP message")]
    Short,
    /// Not a request, or without the magic cookie of RFC 2131.
    #[error("not a DHCP request")]
    NotARequest,
    /// No Ethernet address of a single card.
    #[error("the hardware address is not of an Ethernet card")]
    Hardware,
    /// Plain BOOTP.
    #[error("no message type (option 53)")]
    NoType,
}

impl Request {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Ignored`]: nobody is to be answered.
    pub fn parse(datagram: &[u8]) -> Result<Self, Ignored> {
        let message = Message::new(datagram).map_err(|_| Ignored::Short)?;
        if message.opcode() != Opcode::BootRequest || datagram[236..240] != MAGIC {
            return Err(Ignored::NotARequest);
        }
        // The length first: the reader trusts it.
        if message.htype() != HType::Eth || message.hlen() != 6 {
            return Err(Ignored::Hardware);
        }
        let mac = <[u8; 6]>::try_from(message.chaddr()).map_err(|_| Ignored::Hardware)?;
        if mac[0] & 1 == 1 || mac == [0; 6] {
            return Err(Ignored::Hardware);
        }
        let options = Options::read(&message);
        Ok(Self {
            kind: options.kind.ok_or(Ignored::NoType)?,
            xid: message.xid(),
            flags: message.flags().into(),
            ciaddr: message.ciaddr(),
            mac: MacAddress(mac),
            requested: options.requested,
            server: options.server,
            client: options.client(),
            client_id: options.client_id,
            machine_id: options.machine_id,
            boot_item: options.boot_item,
            relay: Some(message.giaddr())
                .filter(|address| !address.is_unspecified())
                .map(|address| Relay {
                    address,
                    information: options.relay_information,
                }),
        })
    }
}

#[derive(Default)]
struct Options {
    kind: Option<MessageType>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    class: Vec<u8>,
    user_class: Vec<u8>,
    numbers: Vec<u16>,
    client_id: Option<Vec<u8>>,
    machine_id: Option<Vec<u8>>,
    boot_item: Option<[u8; 4]>,
    relay_information: Option<Vec<u8>>,
    ipxe_options: bool,
}

impl Options {
    fn read(message: &Message<'_>) -> Self {
        let mut options = Self::default();
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => options.kind = data.first().map(|number| (*number).into()),
                OptionCode::RequestedIpAddress => options.requested = address(data),
                OptionCode::ServerIdentifier => options.server = address(data),
                OptionCode::ClassIdentifier => options.class = data.to_vec(),
                OptionCode::UserClass => options.user_class = data.to_vec(),
                OptionCode::ClientSystemArchitecture => {
                    let numbers = data
                        .chunks_exact(2)
                        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                    options.numbers = numbers.collect();
                }
                // RFC 2132 wants two bytes at least; 255 is what one option holds.
                OptionCode::ClientIdentifier if (2..=255).contains(&data.len()) => {
                    options.client_id = Some(data.to_vec());
                }
                OptionCode::ClientMachineIdentifier if data.len() == 17 => {
                    options.machine_id = Some(data.to_vec());
                }
                OptionCode::VendorExtensions => options.boot_item = proxy::boot_item(data),
                OptionCode::RelayAgentInformation => options.relay_information = Some(data.to_vec()),
                // iPXE's own options: a card's ROM may be built to leave option 77 to the site.
                OptionCode::Unknown(175) => options.ipxe_options = true,
                _ => {}
            }
        }
        options
    }

    fn client(&self) -> Client {
        let platform = Platform::choose(&self.numbers, &self.class);
        if is_ipxe(&self.user_class) || self.ipxe_options {
            Client::Ipxe(platform)
        } else if self.class.starts_with(b"PXEClient") {
            Client::Pxe(platform)
        } else if self.class.starts_with(b"HTTPClient") {
            Client::Http(platform)
        } else if self.class.starts_with(b"leaseboot") {
            Client::Agent
        } else {
            Client::Plain
        }
    }
}

fn platform_in(class: &[u8]) -> Option<Platform> {
    let mut parts = std::str::from_utf8(class).ok()?.split(':').skip(1);
    (parts.next()? == "Arch").then_some(())?;
    parts.next()?.parse::<u16>().ok().map(Platform::from)
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from)
}

/// iPXE sends its name bare, against RFC 3004, where each class has its length in front.
fn is_ipxe(user_class: &[u8]) -> bool {
    if user_class == b"iPXE" {
        return true;
    }
    let mut rest = user_class;
    while let Some((length, after)) = rest.split_first() {
        let Some((class, next)) = after.split_at_checked(usize::from(*length)) else {
            return false;
        };
        if class == b"iPXE" {
            return true;
        }
        rest = next;
    }
    false
}
