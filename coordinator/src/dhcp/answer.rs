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
//! Answers go to the client's address when it has one and to everybody when not: a unicast to an address that the client does not
//! answer ARP for would need a raw socket, and every client hears a broadcast.

use super::bootfile::{self, BootProgram};
use super::config::DhcpSettings;
use super::pool::Pool;
use super::request::{Client, Request};
use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use leaseboot_protocol::network::LenderAddress;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Where clients listen.
const CLIENT_PORT: u16 = 68;
/// Old relays and PXE ROMs drop what is shorter (RFC 1542, section 2.1).
const SHORTEST_MESSAGE: usize = 300;

/// The state of the server between messages.
#[derive(Debug)]
pub struct Dhcp {
    settings: DhcpSettings,
    pool: Option<Pool>,
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
        let pool = settings.config.pool.map(Pool::new);
        Self { settings, pool }
    }

    /// The settings.
    pub fn settings(&self) -> &DhcpSettings {
        &self.settings
    }

    /// Answers a message. `fixed` is what the directory has on record for the card.
    pub fn answer(
        &mut self,
        request: &Request,
        fixed: Option<&LenderAddress>,
        now: Instant,
    ) -> Option<Reply> {
        match request.kind {
            MessageType::Discover => self.discover(request, fixed, now),
            MessageType::Request => self.request(request, fixed, now),
            MessageType::Inform => self.inform(request),
            MessageType::Decline => {
                if let (None, Some(pool)) = (fixed, &mut self.pool) {
                    pool.decline(request.mac, now);
                }
                tracing::warn!(mac = %request.mac, address = ?request.requested, "somebody else uses the address that a server was given");
                None
            }
            MessageType::Release => {
                if let (None, Some(pool)) = (fixed, &mut self.pool) {
                    pool.release(request.mac);
                }
                None
            }
            _ => None,
        }
    }

    fn discover(&mut self, request: &Request, fixed: Option<&LenderAddress>, now: Instant) -> Option<Reply> {
        let place = match fixed {
            Some(fixed) => self.fixed_place(fixed),
            None => {
                let (pool, settings) = (self.pool.as_mut()?, &self.settings);
                let reserved = |address| settings.is_reserved(address);
                let address = pool.offer(request.mac, request.requested, reserved, now)?;
                self.pool_place(address)
            }
        };
        self.reply(request, MessageType::Offer, Some(&place))
    }

    fn request(&mut self, request: &Request, fixed: Option<&LenderAddress>, now: Instant) -> Option<Reply> {
        if request
            .server
            .is_some_and(|server| server != self.settings.address.addr())
        {
            if let (None, Some(pool)) = (fixed, &mut self.pool) {
                pool.release(request.mac);
            }
            return None;
        }
        let renewing = Some(request.ciaddr).filter(|address| !address.is_unspecified());
        let wanted = request.requested.or(renewing)?;
        let place = match fixed {
            Some(fixed) => Some(self.fixed_place(fixed)).filter(|place| place.address == wanted),
            None => {
                let settings = &self.settings;
                let bound = self.pool.as_mut().is_some_and(|pool| {
                    pool.bind(request.mac, wanted, |address| settings.is_reserved(address), now)
                });
                bound.then(|| self.pool_place(wanted))
            }
        };
        match place {
            Some(place) => self.reply(request, MessageType::Ack, Some(&place)),
            None => self.reply(request, MessageType::Nak, None),
        }
    }

    fn inform(&self, request: &Request) -> Option<Reply> {
        // The answer goes to the address in the message: nobody outside may be aimed at.
        self.settings.address.contains(&request.ciaddr).then_some(())?;
        let place = Place {
            lease_time: Duration::ZERO,
            ..self.pool_place(request.ciaddr)
        };
        self.reply(request, MessageType::Ack, Some(&place))
    }

    fn fixed_place(&self, fixed: &LenderAddress) -> Place {
        Place {
            address: fixed.address.addr(),
            mask: fixed.address.netmask(),
            broadcast: fixed.address.broadcast(),
            router: fixed.router.or(self.settings.router),
            mtu: Some(fixed.mtu),
            lease_time: self.settings.lease_time(),
        }
    }

    fn pool_place(&self, address: Ipv4Addr) -> Place {
        let network = self.settings.address;
        Place {
            address,
            mask: network.netmask(),
            broadcast: network.broadcast(),
            router: self.settings.router,
            mtu: None,
            lease_time: self
                .pool
                .as_ref()
                .map_or_else(|| self.settings.lease_time(), Pool::lease_time),
        }
    }

    fn reply(&self, request: &Request, kind: MessageType, place: Option<&Place>) -> Option<Reply> {
        let program = place.and_then(|_| bootfile::choose(&self.settings, request));
        let mut message = self.header(request, kind, place);
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
        }
        let mut bytes = match message.to_vec() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(mac = %request.mac, %error, "cannot encode a DHCP message");
                return None;
            }
        };
        bytes.resize(bytes.len().max(SHORTEST_MESSAGE), 0);
        let address = place.map_or(Ipv4Addr::UNSPECIFIED, |place| place.address);
        let to = self.destination(request, kind);
        Some(Reply {
            to: SocketAddrV4::new(to, CLIENT_PORT),
            kind,
            address,
            bytes,
        })
    }

    /// RFC 2131, section 4.1: to the client's address when it has one, except for a refusal.
    fn destination(&self, request: &Request, kind: MessageType) -> Ipv4Addr {
        let has_address = self.settings.address.contains(&request.ciaddr);
        if kind == MessageType::Ack && has_address {
            request.ciaddr
        } else {
            Ipv4Addr::BROADCAST
        }
    }

    fn header(&self, request: &Request, kind: MessageType, place: Option<&Place>) -> Message {
        let given = match kind {
            MessageType::Offer | MessageType::Ack if request.kind != MessageType::Inform => place,
            _ => None,
        };
        let mut message = Message::new_with_id(
            request.xid,
            if kind == MessageType::Ack {
                request.ciaddr
            } else {
                Ipv4Addr::UNSPECIFIED
            },
            given.map_or(Ipv4Addr::UNSPECIFIED, |place| place.address),
            if place.is_some() {
                self.settings.address.addr()
            } else {
                Ipv4Addr::UNSPECIFIED
            },
            Ipv4Addr::UNSPECIFIED,
            &request.mac.0,
        );
        message
            .set_opcode(Opcode::BootReply)
            .set_flags(Flags::new(request.flags));
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

fn insert_program(message: &mut Message, settings: &DhcpSettings, request: &Request, program: &BootProgram) {
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
    if let Client::Ipxe(_) = request.client {
        // iPXE's encapsulated option 176, "no-pxedhcp": do not wait for a proxyDHCP server, there is none on this wire.
        let no_proxy = UnknownOption::new(OptionCode::from(175), vec![176, 1, 1]);
        options.insert(DhcpOption::Unknown(no_proxy));
    }
}
