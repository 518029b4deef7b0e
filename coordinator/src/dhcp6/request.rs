//! One DHCPv6 message to the server, parsed into what the answer depends on, out of as many relays as it came through (RFC 8415, section 19).
//!
//! **Which card asks.** A DUID names a machine, and a loader, the agent and an installed system each have their own (firmware uses SMBIOS's UUID, RFC 6355), while the lender
//! wrote down cards. So the card is, best first: what the relay nearest to the client saw (RFC 6939), the interface identifier of the client's link-local address where
//! it is made of a hardware address (RFC 4291, appendix A), or the hardware address in its DUID.

use super::message::{Kind, RELAY_FORWARD, code, options};
use crate::dhcp::{Client, Platform};
use leaseboot_protocol::network::MacAddress;
use std::net::Ipv6Addr;

/// More relays than that do not stand one behind the other (RFC 8415, section 7.6).
const MOST_RELAYS: usize = 8;
/// More of a client's identity associations are not looked at.
const MOST_ASSOCIATIONS: usize = 8;
/// The shortest and the longest DUID (RFC 8415, section 11.1).
const DUID_LENGTHS: std::ops::RangeInclusive<usize> = 3..=130;
/// A link-layer type: Ethernet.
const ETHERNET: [u8; 2] = [0, 1];

/// A relay that handed the message on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// How many stand between it and the client.
    pub hops: u8,
    /// Its address on the client's link, or none.
    pub link: Ipv6Addr,
    /// Whom it had the message from.
    pub peer: Ipv6Addr,
    /// Option 18, to be handed back.
    pub interface_id: Option<Vec<u8>>,
}

/// An identity association for addresses that are not temporary (RFC 8415, section 21.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// The client's number for it.
    pub id: u32,
    /// The addresses that the client has, or would like.
    pub addresses: Vec<Ipv6Addr>,
}

/// A message to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub kind: Kind,
    /// The client's number for the exchange.
    pub transaction: [u8; 3],
    /// Through whom it came, the one nearest to the server first.
    pub relays: Vec<Relay>,
    /// The client's DUID.
    pub client_id: Option<Vec<u8>>,
    /// The DUID of the server that is meant.
    pub server_id: Option<Vec<u8>>,
    /// What addresses are asked for.
    pub associations: Vec<Association>,
    /// Codes of options that the client wants (option 6).
    pub wanted: Vec<u16>,
    /// Whether the client takes a Reply to its Solicit.
    pub rapid_commit: bool,
    /// Who asks, as far as the boot program depends on it.
    pub client: Client,
    /// The client's card, where it can be told.
    pub card: Option<MacAddress>,
}

/// Why a datagram is left without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It ends before it should, or its lengths do not add up.
    #[error("it is cut short, or its lengths do not add up")]
    Malformed,
    /// Servers' messages, and types that nobody knows.
    #[error("it is no message of a client or relay")]
    NotOfClient,
    /// A loop.
    #[error("it came through more than {MOST_RELAYS} relays")]
    TooManyRelays,
    /// A server or client identifier is missing or must not be there (RFC 8415, section 16).
    #[error("its client and server identifiers are not those that such a message has")]
    Identifiers,
    /// It is for another server.
    #[error("it is for another server")]
    OtherServer,
}

impl Request {
    /// Understands a datagram that came from the address `from`.
    ///
    /// # Errors
    /// [`Ignored`] when it is no message that a server answers.
    pub fn parse(datagram: &[u8], from: Ipv6Addr) -> Result<Self, Ignored> {
        let (mut message, mut relays, mut card) = (datagram, Vec::new(), None);
        while message.first() == Some(&RELAY_FORWARD) {
            if relays.len() == MOST_RELAYS {
                return Err(Ignored::TooManyRelays);
            }
            let (relay, seen, inner) = unwrap_relay(message)?;
            relays.push(relay);
            // The next one is nearer to the client.
            card = seen.or(card);
            message = inner;
        }
        let [kind, transaction @ ..] = *message.first_chunk::<4>().ok_or(Ignored::Malformed)?;
        let kind = Kind::of(kind)
            .filter(|kind| !matches!(kind, Kind::Advertise | Kind::Reply))
            .ok_or(Ignored::NotOfClient)?;
        let read = Options::read(&message[4..])?;
        let client_address = relays.last().map_or(from, |relay: &Relay| relay.peer);
        let of_duid = || read.client_id.as_deref().and_then(card_of_duid);
        let card = card.or_else(|| card_of_address(client_address)).or_else(of_duid);
        Ok(Self {
            kind,
            transaction,
            relays,
            client: read.client(),
            client_id: read.client_id,
            server_id: read.server_id,
            associations: read.associations,
            wanted: read.wanted,
            rapid_commit: read.rapid_commit,
            card,
        })
    }

    /// The address of the client's link that the relay nearest to it names; none when the client stands on the LM's own.
    ///
    /// A relay between bridge ports names none (RFC 6221), and the next one counts.
    pub fn link(&self) -> Option<Ipv6Addr> {
        let mut links = self.relays.iter().rev().map(|relay| relay.link);
        links.find(|link| !link.is_unspecified() && !link.is_unicast_link_local())
    }
}

/// A relay's message: who it is, the client's card if it says so, and what it hands on.
fn unwrap_relay(message: &[u8]) -> Result<(Relay, Option<MacAddress>, &[u8]), Ignored> {
    let (head, rest) = message.split_first_chunk::<34>().ok_or(Ignored::Malformed)?;
    let address = |at: usize| {
        let bytes = head[at..].first_chunk::<16>().copied();
        bytes.map(Ipv6Addr::from).ok_or(Ignored::Malformed)
    };
    let mut relay = Relay {
        hops: head[1],
        link: address(2)?,
        peer: address(18)?,
        interface_id: None,
    };
    let (mut card, mut inner) = (None, None);
    for option in options(rest) {
        match option.ok_or(Ignored::Malformed)? {
            (code::RELAY_MESSAGE, data) => inner = Some(data),
            (code::INTERFACE_ID, data) => relay.interface_id = Some(data.to_vec()),
            (code::CLIENT_CARD, data) => card = card_of_link_layer(data),
            _ => {}
        }
    }
    Ok((relay, card, inner.ok_or(Ignored::Malformed)?))
}

#[derive(Default)]
struct Options {
    client_id: Option<Vec<u8>>,
    server_id: Option<Vec<u8>>,
    associations: Vec<Association>,
    wanted: Vec<u16>,
    rapid_commit: bool,
    is_ipxe: bool,
    class: Vec<u8>,
    numbers: Vec<u16>,
}

impl Options {
    fn read(bytes: &[u8]) -> Result<Self, Ignored> {
        let mut read = Self::default();
        for option in options(bytes) {
            let (code, data) = option.ok_or(Ignored::Malformed)?;
            match code {
                code::CLIENT_ID if DUID_LENGTHS.contains(&data.len()) => read.client_id = Some(data.to_vec()),
                code::SERVER_ID => read.server_id = Some(data.to_vec()),
                code::IA_NA if read.associations.len() < MOST_ASSOCIATIONS => {
                    read.associations.extend(association(data));
                }
                code::REQUESTED => read.wanted = numbers(data),
                code::RAPID_COMMIT => read.rapid_commit = true,
                code::USER_CLASS => read.is_ipxe = classes(data).any(|class| class == b"iPXE"),
                // An enterprise's number goes before the classes.
                code::VENDOR_CLASS => {
                    let first = data.get(4..).and_then(|data| classes(data).next());
                    read.class = first.unwrap_or_default().to_vec();
                }
                code::ARCHITECTURE => read.numbers = numbers(data),
                _ => {}
            }
        }
        Ok(read)
    }

    fn client(&self) -> Client {
        let platform = Platform::choose(&self.numbers, &self.class);
        if self.is_ipxe {
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

fn association(data: &[u8]) -> Option<Association> {
    let (head, rest) = data.split_first_chunk::<12>()?;
    let id = u32::from_be_bytes(*head.first_chunk()?);
    let addresses = options(rest).flatten().filter_map(|(code, data)| {
        let address = (code == code::IA_ADDRESS).then(|| data.first_chunk::<16>())?;
        address.map(|bytes| Ipv6Addr::from(*bytes))
    });
    Some(Association {
        id,
        addresses: addresses.take(MOST_ASSOCIATIONS).collect(),
    })
}

fn numbers(data: &[u8]) -> Vec<u16> {
    let pairs = data.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

/// Each has its length in front.
fn classes(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (class, next) = after.split_at_checked(length)?;
        rest = next;
        Some(class)
    })
}

/// A link-layer address behind its type (options 79, RFC 6939).
fn card_of_link_layer(data: &[u8]) -> Option<MacAddress> {
    let address = data.strip_prefix(&ETHERNET)?;
    <[u8; 6]>::try_from(address).ok().map(MacAddress)
}

/// The hardware address that the interface identifier was made of.
fn card_of_address(address: Ipv6Addr) -> Option<MacAddress> {
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else {
        return None;
    };
    address
        .is_unicast_link_local()
        .then_some(MacAddress([a ^ 2, b, c, d, e, f]))
}

/// DUID-LLT has a time between the link-layer type and the address, DUID-LL has not; others name no card.
fn card_of_duid(duid: &[u8]) -> Option<MacAddress> {
    match duid {
        [0, 1, high, low, _, _, _, _, address @ ..] | [0, 3, high, low, address @ ..]
            if [*high, *low] == ETHERNET =>
        {
            <[u8; 6]>::try_from(address).ok().map(MacAddress)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_found_in_addresses_and_identifiers() {
        let card = MacAddress([0x52, 0x54, 0, 0x4c, 0x42, 1]);
        assert_eq!(
            card_of_address("fe80::5054:ff:fe4c:4201".parse().unwrap()),
            Some(card)
        );
        assert_eq!(
            card_of_address("fd00::5054:ff:fe4c:4201".parse().unwrap()),
            None,
            "only the link's own addresses"
        );
        assert_eq!(card_of_address("fe80::1".parse().unwrap()), None);
        let with_time = [&[0, 1, 0, 1, 9, 9, 9, 9], &card.0[..]].concat();
        let without = [&[0, 3, 0, 1], &card.0[..]].concat();
        assert_eq!(
            (card_of_duid(&with_time), card_of_duid(&without)),
            (Some(card), Some(card))
        );
        let enterprise = [0, 2, 0, 0, 0x9d, 0x10, 1, 2, 3, 4, 5, 6];
        let uuid = [&[0, 4][..], &[7; 16]].concat();
        assert_eq!((card_of_duid(&enterprise), card_of_duid(&uuid)), (None, None));
    }
}
