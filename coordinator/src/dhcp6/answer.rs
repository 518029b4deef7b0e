//! What the server says to a message: a pure function of settings, message, directory and pool (RFC 8415, section 18.3).
//!
//! | message | its address is right | wrong, or somebody else's |
//! |---|---|---|
//! | Solicit | Advertise; with Rapid Commit, Reply | |
//! | Request | Reply | another address in the Reply, or none and why |
//! | Renew, Rebind | Reply | the right one beside it, the wrong one with no time left |
//! | Confirm | Reply, success | Reply, not on this link |
//! | Decline | remembered, Reply | Reply, no binding |
//! | Release | Reply | Reply, no binding |
//! | Information-request | Reply without an address | |
//!
//! **A card has one address**, whatever DUID and whichever identity association asks for it: firmware, loader and agent of one server are three DHCPv6 clients with DUIDs of their
//! own, and a boot token is good only from the address that it was given to (docs/decisions/0056). So a second association in one message gets none. Where the card cannot be told, the DUID
//! stands in for it.
//!
//! Firmware releases its address before it starts what it has loaded, and that goes on with the same one. So an address that is released stays its card's until the lease would have ended.
//!
//! A client's network is the one that its relay stands in, or the LM's own. A client that is on no record where there is no pool gets no answer, as in DHCPv4. All our advertisements have the
//! greatest preference, which ends a client's wait for others.

use super::bootfile;
use super::config::{Dhcp6Settings, Subnet6Config};
use super::message::{Kind, RELAY_REPLY, Status, Writer, code};
use super::request::{Association, Ignored, Request};
use crate::dhcp::{LoaderChoice, Pool, PoolClient};
use ipnet::Ipv6Net;
use leaseboot_protocol::network::MacAddress;
use std::net::Ipv6Addr;
use std::time::Instant;

/// Where clients and relays listen.
const CLIENT_PORT: u16 = 546;
const RELAY_PORT: u16 = 547;
/// A client need not wait for better offers.
const GREATEST_PREFERENCE: u8 = 255;

/// Who has an address of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Card(MacAddress),
    Duid(Vec<u8>),
}

impl PoolClient for Identity {
    fn bytes(&self) -> &[u8] {
        match self {
            Identity::Card(mac) => &mac.0,
            Identity::Duid(duid) => duid,
        }
    }
}

/// What the directory has on record about a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its fixed address, where the lender wrote one down.
    pub address: Option<Ipv6Addr>,
    /// Which loaders its server is sent.
    pub choice: LoaderChoice,
}

/// The state of the server between messages.
#[derive(Debug)]
pub struct Dhcp6 {
    settings: Dhcp6Settings,
    /// Our DUID.
    server_id: Vec<u8>,
    /// The LM's own network, then those behind relays.
    networks: Vec<Network>,
}

#[derive(Debug)]
struct Network {
    network: Ipv6Net,
    own: Option<Ipv6Addr>,
    router: Option<Ipv6Addr>,
    pool: Option<Pool<Ipv6Addr, Identity>>,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The port at the address that the message came from.
    pub port: u16,
    /// What it is, for the log.
    pub kind: Kind,
    /// The address that the client is given, for the log.
    pub address: Option<Ipv6Addr>,
    /// The message.
    pub bytes: Vec<u8>,
}

/// An address and how long it may be used, in seconds.
#[derive(Clone, Copy, Debug)]
struct Given {
    address: Ipv6Addr,
    seconds: u32,
}

/// What is said about the client's identity associations.
enum Addresses {
    /// Nothing: the message is not about addresses.
    Unsaid,
    Given(Given),
    Refused(Status),
}

impl Dhcp6 {
    /// A server that has seen nobody; `server_id` is its DUID. The settings must have passed [`check`](super::Dhcp6Config::check).
    pub fn new(settings: Dhcp6Settings, server_id: Vec<u8>) -> Self {
        let own = settings.config.address;
        let network = |subnet: Subnet6Config| Network {
            network: subnet.network.trunc(),
            own: Some(own.addr()).filter(|own| subnet.network.contains(own)),
            router: subnet.router,
            pool: subnet.pool.map(Pool::new),
        };
        let networks = settings.config.networks().map(network).collect();
        Self {
            settings,
            server_id,
            networks,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Dhcp6Settings {
        &self.settings
    }

    /// Answers a message. `known` is what the directory has on record for the card.
    ///
    /// # Errors
    /// [`Ignored`] when its identifiers say that it is not for us.
    pub fn answer(
        &mut self,
        request: &Request,
        known: Option<&Known>,
        now: Instant,
    ) -> Result<Option<Reply>, Ignored> {
        self.check_identifiers(request)?;
        let Some(at) = self.network_of(request) else {
            return Ok(None);
        };
        Ok(self.decide(at, request, known, now))
    }

    /// RFC 8415, section 16: which identifiers a message must have, and which not.
    fn check_identifiers(&self, request: &Request) -> Result<(), Ignored> {
        let for_a_server = match request.kind {
            Kind::Solicit | Kind::Confirm | Kind::Rebind => false,
            Kind::InformationRequest => request.server_id.is_some(),
            _ => true,
        };
        let has_client = request.client_id.is_some() || request.kind == Kind::InformationRequest;
        match &request.server_id {
            _ if !has_client => Err(Ignored::Identifiers),
            None if for_a_server => Err(Ignored::Identifiers),
            Some(_) if !for_a_server => Err(Ignored::Identifiers),
            Some(id) if *id != self.server_id => Err(Ignored::OtherServer),
            _ => Ok(()),
        }
    }

    fn network_of(&self, request: &Request) -> Option<usize> {
        let Some(link) = request.link() else {
            return Some(0);
        };
        let found = self
            .networks
            .iter()
            .position(|network| network.network.contains(&link));
        if found.is_none() {
            tracing::warn!(card = ?request.card, relay = %link, "a DHCPv6 relay stands in no [[dhcp6.subnet]] of lm.toml; its client gets no answer");
        }
        found
    }

    fn decide(&mut self, at: usize, request: &Request, known: Option<&Known>, now: Instant) -> Option<Reply> {
        let choice = known.map(|known| known.choice).unwrap_or_default();
        match request.kind {
            Kind::Solicit if request.associations.is_empty() => None,
            Kind::Solicit if !self.networks[at].can_give(known) => None,
            Kind::Solicit => {
                let given = self.give(at, request, known, now, request.rapid_commit);
                let kind = match (&given, request.rapid_commit) {
                    (Addresses::Given(_), true) => Kind::Reply,
                    _ => Kind::Advertise,
                };
                Some(self.reply(request, kind, &given, choice))
            }
            Kind::Request | Kind::Renew | Kind::Rebind => {
                if !self.networks[at].can_give(known) || request.associations.is_empty() {
                    return None;
                }
                let given = self.give(at, request, known, now, true);
                Some(self.reply(request, Kind::Reply, &given, choice))
            }
            Kind::Confirm => self.confirm(at, request),
            Kind::Release | Kind::Decline => Some(self.let_go(at, request, known, now)),
            // RFC 8415, section 16.12: such a message asks for no address.
            Kind::InformationRequest if !request.associations.is_empty() => None,
            Kind::InformationRequest => Some(self.reply(request, Kind::Reply, &Addresses::Unsaid, choice)),
            Kind::Advertise | Kind::Reply => None,
        }
    }

    /// The client's address: offered, or bound.
    fn give(
        &mut self,
        at: usize,
        request: &Request,
        known: Option<&Known>,
        now: Instant,
        bind: bool,
    ) -> Addresses {
        let seconds = self.settings.config.lease_time_s;
        let network = &mut self.networks[at];
        if let Some(address) = known.and_then(|known| known.address) {
            if network.network.contains(&address) {
                return Addresses::Given(Given { address, seconds });
            }
            tracing::warn!(card = ?request.card, %address, network = %network.network, "a server asks in another network than its IPv6 address on record is of");
            return Addresses::Refused(Status::NoAddressAvailable);
        }
        let (Some(identity), link) = (identity(request), request.link()) else {
            return Addresses::Refused(Status::NoAddressAvailable);
        };
        let nobodys = [Some(network.network.network()), network.own, network.router, link];
        let reserved = |address: Ipv6Addr| nobodys.contains(&Some(address));
        let Some(pool) = &mut network.pool else {
            return Addresses::Refused(Status::NoAddressAvailable);
        };
        let wanted = request.associations.iter().flat_map(|a| &a.addresses).next();
        match pool.offer(&identity, wanted.copied(), reserved, now) {
            Some(address) if !bind || pool.bind(&identity, address, reserved, now) => {
                let seconds = u32::try_from(pool.lease_time().as_secs()).unwrap_or(u32::MAX);
                Addresses::Given(Given { address, seconds })
            }
            _ => Addresses::Refused(Status::NoAddressAvailable),
        }
    }

    fn confirm(&self, at: usize, request: &Request) -> Option<Reply> {
        let mut addresses = request.associations.iter().flat_map(|a| &a.addresses).peekable();
        // RFC 8415, section 18.3.3: without an address there is nothing to be said.
        addresses.peek()?;
        let here = addresses.all(|address| self.networks[at].network.contains(address));
        let status = if here { Status::Success } else { Status::NotOnLink };
        let mut message = self.head(request, Kind::Reply);
        message.status(status);
        Some(finish(request, Kind::Reply, None, message))
    }

    fn let_go(&mut self, at: usize, request: &Request, known: Option<&Known>, now: Instant) -> Reply {
        let named = || request.associations.iter().flat_map(|a| &a.addresses);
        let fixed = known.and_then(|known| known.address);
        let held = match (fixed, identity(request), &mut self.networks[at].pool) {
            (Some(fixed), ..) => named().any(|address| *address == fixed),
            (None, Some(identity), Some(pool)) => {
                let held = pool.address_of(&identity);
                let is_named = held.is_some_and(|held| named().any(|address| *address == held));
                if is_named && request.kind == Kind::Decline {
                    pool.decline(&identity, now);
                }
                is_named
            }
            _ => false,
        };
        if request.kind == Kind::Decline {
            tracing::warn!(card = ?request.card, addresses = ?named().collect::<Vec<_>>(), "somebody else uses the IPv6 address that a server was given");
        }
        let mut message = self.head(request, Kind::Reply);
        for association in request.associations.iter().filter(|_| !held) {
            message.option(code::IA_NA, |ia| {
                ia.number(association.id).number(0).number(0);
                ia.status(Status::NoBinding);
            });
        }
        message.status(Status::Success);
        finish(request, Kind::Reply, None, message)
    }

    /// A message with both identifiers.
    fn head(&self, request: &Request, kind: Kind) -> Writer {
        let mut message = Writer::message(kind, request.transaction);
        message.option(code::SERVER_ID, |option| {
            option.bytes(&self.server_id);
        });
        if let Some(id) = &request.client_id {
            message.option(code::CLIENT_ID, |option| {
                option.bytes(id);
            });
        }
        message
    }

    fn reply(&self, request: &Request, kind: Kind, given: &Addresses, choice: LoaderChoice) -> Reply {
        let mut message = self.head(request, kind);
        match kind {
            Kind::Advertise => {
                message.option(code::PREFERENCE, |option| {
                    option.bytes(&[GREATEST_PREFERENCE]);
                });
            }
            _ if request.kind == Kind::Solicit => {
                message.option(code::RAPID_COMMIT, |_| {});
            }
            _ => {}
        }
        if !matches!(given, Addresses::Unsaid) {
            for (number, association) in request.associations.iter().enumerate() {
                let refused = Addresses::Refused(Status::NoAddressAvailable);
                let given = if number == 0 { given } else { &refused };
                message.option(code::IA_NA, |ia| {
                    write_association(ia, request.kind, association, given);
                });
            }
        }
        let servers = &self.settings.config.name_servers;
        if request.wanted.contains(&code::NAME_SERVERS) && !servers.is_empty() {
            message.option(code::NAME_SERVERS, |option| {
                servers.iter().for_each(|server| {
                    option.address(*server);
                });
            });
        }
        if !matches!(given, Addresses::Refused(_)) {
            bootfile::write(&mut message, &self.settings, request, choice);
        }
        let address = match given {
            Addresses::Given(given) => Some(given.address),
            _ => None,
        };
        finish(request, kind, address, message)
    }
}

impl Network {
    /// Whether this client can ever have an address here.
    fn can_give(&self, known: Option<&Known>) -> bool {
        self.pool.is_some() || known.is_some_and(|known| known.address.is_some())
    }
}

fn identity(request: &Request) -> Option<Identity> {
    let duid = || request.client_id.clone().map(Identity::Duid);
    request.card.map(Identity::Card).or_else(duid)
}

/// RFC 8415, sections 18.3.4 and 21.4: the address that is given, and those that the client must forget.
fn write_association(ia: &mut Writer, asked: Kind, association: &Association, given: &Addresses) {
    let seconds = match given {
        Addresses::Given(given) => given.seconds,
        _ => 0,
    };
    ia.number(association.id)
        .number(seconds / 2)
        .number(seconds / 5 * 4);
    let mut address = |address: Ipv6Addr, seconds: u32| {
        ia.option(code::IA_ADDRESS, |option| {
            option.address(address).number(seconds).number(seconds);
        });
    };
    match given {
        Addresses::Given(given) => {
            address(given.address, given.seconds);
            if matches!(asked, Kind::Renew | Kind::Rebind) {
                let others = association.addresses.iter();
                others
                    .filter(|other| **other != given.address)
                    .for_each(|other| address(*other, 0));
            }
        }
        Addresses::Refused(status) => {
            ia.status(*status);
        }
        Addresses::Unsaid => {}
    }
}

/// Wraps the message for each relay on the way back, the nearest to the client first (RFC 8415, section 19.3).
fn finish(request: &Request, kind: Kind, address: Option<Ipv6Addr>, message: Writer) -> Reply {
    let wrap = |inner: Vec<u8>, relay: &super::request::Relay| {
        let mut outer = Writer::default();
        outer.bytes(&[RELAY_REPLY, relay.hops]);
        outer.address(relay.link).address(relay.peer);
        if let Some(id) = &relay.interface_id {
            outer.option(code::INTERFACE_ID, |option| {
                option.bytes(id);
            });
        }
        outer.option(code::RELAY_MESSAGE, |option| {
            option.bytes(&inner);
        });
        outer.finish()
    };
    Reply {
        port: if request.relays.is_empty() {
            CLIENT_PORT
        } else {
            RELAY_PORT
        },
        kind,
        address,
        bytes: request.relays.iter().rev().fold(message.finish(), wrap),
    }
}
