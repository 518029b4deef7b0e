//! What the server says to a message: a pure function of settings, message, directory and pool (RFC 2131, section 4.3).
//!
//! | message | its address is right | wrong, or somebody else's |
//! |---|---|---|
//! | DISCOVER | OFFER | – |
//! | REQUEST after our offer, after a restart of the client, or to renew | ACK | NAK: the wire is ours alone |
//! | REQUEST to another server | the offer is taken back | |
//! | INFORM | ACK without an address | |
//! | DECLINE, RELEASE | remembered, no answer | |
//!
//! A client's network is the one that its relay stands in, or that its address is of, or else the LM's own. Answers go to the relay when there is one; else to the client's address when it has one and to everybody when not: a unicast to an address that the client does not
//! answer ARP for would need a raw socket, and every client hears a broadcast.

use super::Card;
use super::bootfile::{self, BootProgram};
use super::config::{DhcpMode, DhcpSettings, PoolConfig};
use super::loader::LoaderChoice;
use super::pool::Pool;
use super::relay;
use super::request::{Client, Request};
use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use ipnet::Ipv4Net;
use leaseboot_protocol::network::LenderAddress;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Where clients listen.
const CLIENT_PORT: u16 = 68;
/// Old relays and PXE ROMs drop what is shorter (RFC 1542, section 2.1).
const SHORTEST_MESSAGE: usize = 300;

/// All clients on the wire that have no address yet.
pub(super) const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);

/// The state of the server between messages.
#[derive(Debug)]
pub struct Dhcp {
    settings: DhcpSettings,
    /// The LM's own network, then those behind relays.
    networks: Vec<Network>,
}

/// A network of clients.
#[derive(Debug)]
struct Network {
    network: Ipv4Net,
    /// The LM's own address, where it is in this network.
    own: Option<Ipv4Addr>,
    router: Option<Ipv4Addr>,
    pool: Option<Pool>,
}

impl Network {
    fn new(
        network: Ipv4Net,
        own: Option<Ipv4Addr>,
        router: Option<Ipv4Addr>,
        pool: Option<PoolConfig>,
    ) -> Self {
        Self {
            network: network.trunc(),
            own,
            router,
            pool: pool.map(Pool::new),
        }
    }
}

/// Addresses of a network that are nobody's to lend.
fn reserved(network: Ipv4Net, others: [Option<Ipv4Addr>; 3]) -> impl Fn(Ipv4Addr) -> bool {
    move |address| {
        [network.network(), network.broadcast()].contains(&address) || others.contains(&Some(address))
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// To whom.
    pub to: SocketAddrV4,
    /// What it is, for the log.
    pub kind: MessageType,
    /// The address that the client is given, for the log.
    pub address: Ipv4Addr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A client's place on the wire.
struct Place {
    address: Ipv4Addr,
    mask: Ipv4Addr,
    broadcast: Ipv4Addr,
    router: Option<Ipv4Addr>,
    mtu: Option<u16>,
    lease_time: Duration,
}

impl Dhcp {
    /// A server that has seen nobody. The settings must have passed [`DhcpSettings::check`].
    pub fn new(settings: DhcpSettings) -> Self {
        let own = Network::new(
            settings.address,
            Some(settings.address.addr()),
            settings.router,
            settings.config.pool,
        );
        let subnets = settings
            .subnets
            .iter()
            .map(|subnet| Network::new(subnet.network, None, subnet.router, subnet.pool));
        let networks = std::iter::once(own).chain(subnets).collect();
        Self { settings, networks }
    }

    /// The settings.
    pub fn settings(&self) -> &DhcpSettings {
        &self.settings
    }

    /// Answers a message. `fixed` is what the directory has on record for the card.
    pub fn answer(&mut self, request: &Request, fixed: Option<&Card>, now: Instant) -> Option<Reply> {
        match self.settings.config.mode {
            DhcpMode::Authoritative => {}
            DhcpMode::Proxy => return self.proxy_offer(request),
            DhcpMode::Off => return None,
        }
        let at = self.network_of(request)?;
        match request.kind {
            MessageType::Discover => self.discover(at, request, fixed, now),
            MessageType::Request => self.request(at, request, fixed, now),
            MessageType::Inform => self.inform(at, request, choice_of(fixed)),
            MessageType::Decline => {
                if let (None, Some(pool)) = (fixed, &mut self.networks[at].pool) {
                    pool.decline(&request.mac, now);
                }
                tracing::warn!(mac = %request.mac, address = ?request.requested, "somebody else uses the address that a server was given");
                None
            }
            MessageType::Release => {
                if let (None, Some(pool)) = (fixed, &mut self.networks[at].pool) {
                    pool.release(&request.mac, now);
                }
                None
            }
            _ => None,
        }
    }

    /// The client's network; `None` behind a relay that nobody wrote down.
    pub(super) fn network_of(&self, request: &Request) -> Option<usize> {
        let of = |address: &Ipv4Addr| {
            self.networks
                .iter()
                .position(|network| network.network.contains(address))
        };
        match &request.relay {
            Some(relay) => {
                let found = of(&relay.address);
                if found.is_none() {
                    tracing::warn!(mac = %request.mac, relay = %relay.address, "a DHCP relay stands in no [[subnet]] of lm.toml; its client gets no answer");
                }
                found
            }
            None => of(&request.ciaddr).or(Some(0)),
        }
    }

    fn discover(
        &mut self,
        at: usize,
        request: &Request,
        fixed: Option<&Card>,
        now: Instant,
    ) -> Option<Reply> {
        let place = match fixed {
            Some(card) => self.fixed_place(at, request, &card.place)?,
            None => {
                let network = &mut self.networks[at];
                let relay = request.relay.as_ref().map(|relay| relay.address);
                let reserved = reserved(network.network, [network.own, network.router, relay]);
                let address = network
                    .pool
                    .as_mut()?
                    .offer(&request.mac, request.requested, reserved, now)?;
                self.pool_place(at, address)
            }
        };
        self.reply(request, MessageType::Offer, Some(&place), choice_of(fixed))
    }

    fn request(&mut self, at: usize, request: &Request, fixed: Option<&Card>, now: Instant) -> Option<Reply> {
        let network = &mut self.networks[at];
        if request
            .server
            .is_some_and(|server| server != self.settings.address.addr())
        {
            if let (None, Some(pool)) = (fixed, &mut network.pool) {
                pool.release(&request.mac, now);
            }
            return None;
        }
        let renewing = Some(request.ciaddr).filter(|address| !address.is_unspecified());
        let wanted = request.requested.or(renewing)?;
        let place = match fixed {
            Some(card) => self
                .fixed_place(at, request, &card.place)
                .filter(|place| place.address == wanted),
            None => {
                let relay = request.relay.as_ref().map(|relay| relay.address);
                let reserved = reserved(network.network, [network.own, network.router, relay]);
                let pool = network.pool.as_mut();
                let bound = pool.is_some_and(|pool| pool.bind(&request.mac, wanted, reserved, now));
                bound.then(|| self.pool_place(at, wanted))
            }
        };
        match place {
            Some(place) => self.reply(request, MessageType::Ack, Some(&place), choice_of(fixed)),
            None => self.reply(request, MessageType::Nak, None, LoaderChoice::default()),
        }
    }

    fn inform(&self, at: usize, request: &Request, choice: LoaderChoice) -> Option<Reply> {
        // The answer goes to the address in the message: nobody outside may be aimed at.
        self.networks[at]
            .network
            .contains(&request.ciaddr)
            .then_some(())?;
        let place = Place {
            lease_time: Duration::ZERO,
            ..self.pool_place(at, request.ciaddr)
        };
        self.reply(request, MessageType::Ack, Some(&place), choice)
    }

    /// `None` when the server on record has been moved to a network that its address is not of.
    fn fixed_place(&self, at: usize, request: &Request, fixed: &LenderAddress) -> Option<Place> {
        let network = &self.networks[at];
        if !network.network.contains(&fixed.address.addr()) {
            tracing::warn!(mac = %request.mac, address = %fixed.address, network = %network.network, "a server asks in another network than its address on record is of");
            return None;
        }
        Some(Place {
            address: fixed.address.addr(),
            mask: network.network.netmask(),
            broadcast: network.network.broadcast(),
            router: fixed.router.or(network.router),
            mtu: Some(fixed.mtu),
            lease_time: self.settings.lease_time(),
        })
    }

    fn pool_place(&self, at: usize, address: Ipv4Addr) -> Place {
        let Network {
            network,
            router,
            pool,
            ..
        } = &self.networks[at];
        Place {
            address,
            mask: network.netmask(),
            broadcast: network.broadcast(),
            router: *router,
            mtu: None,
            lease_time: pool
                .as_ref()
                .map_or_else(|| self.settings.lease_time(), Pool::lease_time),
        }
    }

    fn reply(
        &self,
        request: &Request,
        kind: MessageType,
        place: Option<&Place>,
        choice: LoaderChoice,
    ) -> Option<Reply> {
        let program =
            place.and_then(|_| bootfile::choose(&self.settings.shelf(), request.client, request.mac, choice));
        let address = place.map_or(Ipv4Addr::UNSPECIFIED, |place| place.address);
        let given = match request.kind {
            MessageType::Inform => Ipv4Addr::UNSPECIFIED,
            _ => address,
        };
        let mut message = self.header(request, kind, given);
        if place.is_some() {
            message.set_siaddr(self.settings.address.addr());
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.settings.address.addr()));
        if let Some(id) = &request.client_id {
            options.insert(DhcpOption::ClientIdentifier(id.clone()));
        }
        if let Some(place) = place {
            self.insert_place(options, request, place);
        }
        if let Some(program) = &program {
            insert_program(&mut message, &self.settings, request, program);
            if let Client::Ipxe(_) = request.client {
                // iPXE's encapsulated option 176, "no-pxedhcp": do not wait for a proxyDHCP server, there is none on this wire.
                let no_proxy = UnknownOption::new(OptionCode::from(175), vec![176, 1, 1]);
                message.opts_mut().insert(DhcpOption::Unknown(no_proxy));
            }
        }
        finish(&message, request, kind, address, self.destination(request, kind))
    }

    /// RFC 2131, section 4.1: through the relay, or to the client's address when it has one, except for a refusal.
    fn destination(&self, request: &Request, kind: MessageType) -> SocketAddrV4 {
        let to_client = SocketAddrV4::new(request.ciaddr, CLIENT_PORT);
        if request.kind == MessageType::Inform {
            return to_client;
        }
        if let Some(relay) = relay::destination(request) {
            return relay;
        }
        let known = |network: &Network| network.network.contains(&request.ciaddr);
        if kind == MessageType::Ack && self.networks.iter().any(known) {
            to_client
        } else {
            EVERYBODY
        }
    }

    /// The fixed part of an answer that gives the address `given`.
    pub(super) fn header(&self, request: &Request, kind: MessageType, given: Ipv4Addr) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let relay = request.relay.as_ref().map_or(none, |relay| relay.address);
        let theirs = if kind == MessageType::Ack {
            request.ciaddr
        } else {
            none
        };
        let mut message = Message::new_with_id(request.xid, theirs, given, none, relay, &request.mac.0);
        let mut flags = Flags::new(request.flags);
        if kind == MessageType::Nak && request.relay.is_some() {
            // The relay cannot reach the client at the address that it is refused.
            flags = flags.set_broadcast();
        }
        message.set_opcode(Opcode::BootReply).set_flags(flags);
        message
    }

    fn insert_place(&self, options: &mut dhcproto::v4::DhcpOptions, request: &Request, place: &Place) {
        options.insert(DhcpOption::SubnetMask(place.mask));
        options.insert(DhcpOption::BroadcastAddr(place.broadcast));
        if let Some(router) = place.router {
            options.insert(DhcpOption::Router(vec![router]));
        }
        if !self.settings.config.name_servers.is_empty() {
            options.insert(DhcpOption::DomainNameServer(
                self.settings.config.name_servers.clone(),
            ));
        }
        if request.kind != MessageType::Inform {
            let seconds = u32::try_from(place.lease_time.as_secs()).unwrap_or(u32::MAX);
            options.insert(DhcpOption::AddressLeaseTime(seconds));
            options.insert(DhcpOption::Renewal(seconds / 2));
            options.insert(DhcpOption::Rebinding(seconds - seconds / 8));
        }
        // Firmware has been seen to stumble over option 26; operating systems want it.
        if let (Client::Plain | Client::Agent, Some(mtu)) = (request.client, place.mtu) {
            options.insert(DhcpOption::InterfaceMtu(mtu));
        }
    }
}

/// What was decided for the card's server; for a stranger, nothing.
fn choice_of(fixed: Option<&Card>) -> LoaderChoice {
    fixed.map(|card| card.choice).unwrap_or_default()
}

/// Encodes an answer, no shorter than old relays and ROMs want it.
pub(super) fn finish(
    message: &Message,
    request: &Request,
    kind: MessageType,
    address: Ipv4Addr,
    to: SocketAddrV4,
) -> Option<Reply> {
    let mut bytes = match message.to_vec() {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(mac = %request.mac, %error, "cannot encode a DHCP message");
            return None;
        }
    };
    relay::append_information(&mut bytes, request);
    bytes.resize(bytes.len().max(SHORTEST_MESSAGE), 0);
    Some(Reply {
        to,
        kind,
        address,
        bytes,
    })
}

/// The boot program, in all the places where firmware looks for it.
pub(super) fn insert_program(
    message: &mut Message,
    settings: &DhcpSettings,
    request: &Request,
    program: &BootProgram,
) {
    // Old ROMs read the header's field, newer firmware the option.
    if program.name.len() < 128 {
        message.set_fname_str(&program.name);
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::TFTPServerName(
        settings.address.addr().to_string().into_bytes(),
    ));
    options.insert(DhcpOption::BootfileName(program.name.clone().into_bytes()));
    if let Some(class) = program.class {
        options.insert(DhcpOption::ClassIdentifier(class.to_vec()));
    }
    if let Some(id) = &request.machine_id {
        options.insert(DhcpOption::ClientMachineIdentifier(id.clone()));
    }
}
