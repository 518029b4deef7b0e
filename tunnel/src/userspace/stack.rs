//! TCP and UDP without a kernel, sans-IO: packets and the time go in, packets and the time of the next call come out.
//!
//! smoltcp has the state machines; here is what it leaves to its owner: local ports, buffers, the life of a connection whose stream was dropped, and a
//! change of the largest packet. A connection that is dropped in good order still sends what it holds; smoltcp's timers end it when nobody answers.

use super::wire::Wire;
use crate::packets::Packets;
use ipnet::Ipv4Net;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// What may be on its way to us and is not read yet, in bytes: 40 Mbit/s over 100 ms.
const RECEIVE_BUFFER: usize = 512 << 10;
/// What may be on its way from us, in bytes.
const SEND_BUFFER: usize = 128 << 10;
/// Datagrams, and their bytes, that wait in either direction of a flow.
const FLOW_DATAGRAMS: usize = 32;
const FLOW_BUFFER: usize = 64 << 10;
/// Connections and flows at a time: an installer has dozens at most.
const MOST_SOCKETS: usize = 256;
/// An end that is silent for so long is gone.
const SILENCE: StackDuration = StackDuration::from_secs(120);
/// How often a quiet end is asked whether it is there.
const KEEP_ALIVE: StackDuration = StackDuration::from_secs(30);
/// Local ports (RFC 6335, dynamic ports).
const FIRST_PORT: u16 = 49_152;

/// There is no socket for one more connection or flow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// Too many.
    #[error("{MOST_SOCKETS} connections through the tunnel are open; close some")]
    TooMany,
    /// Port 0, or an address that is none.
    #[error("{0} cannot be spoken to")]
    Unaddressable(SocketAddrV4),
}

/// The interface and its sockets.
pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    address: Ipv4Net,
    mtu: u16,
    next_port: u16,
    /// Of dropped streams: they go when they have ended.
    orphans: Vec<SocketHandle>,
    epoch: Instant,
}

impl Stack {
    /// A stack with this address. `seed` makes ports and sequence numbers hard to guess.
    pub(super) fn new(address: Ipv4Net, mtu: u16, seed: u64, now: Instant) -> Self {
        let port = FIRST_PORT | u16::try_from(seed & 0x3fff).unwrap_or(0);
        Self {
            interface: interface(address, mtu, seed),
            sockets: SocketSet::new(Vec::new()),
            address,
            mtu,
            next_port: port,
            orphans: Vec::new(),
            epoch: now,
        }
    }

    /// Sets the largest packet in bytes. Connections go on: smoltcp keeps them apart from the interface, whose size is fixed when it is made.
    pub(super) fn set_mtu(&mut self, mtu: u16, seed: u64) {
        self.mtu = mtu;
        self.interface = interface(self.address, mtu, seed);
    }

    /// Takes one packet from the tunnel; answers go to `leaving`.
    pub(super) fn take(&mut self, packet: &[u8], now: Instant, leaving: &mut Packets) {
        let now = self.time(now);
        let mut wire = Wire {
            arrived: Some(packet),
            leaving,
            mtu: self.mtu,
        };
        self.interface
            .poll_ingress_single(now, &mut wire, &mut self.sockets);
    }

    /// Hands over everything that is due. Gives the time until it wants to be asked again; `None`: when something happens.
    pub(super) fn give(&mut self, now: Instant, leaving: &mut Packets) -> Option<Duration> {
        let now = self.time(now);
        let mut wire = Wire {
            arrived: None,
            leaving,
            mtu: self.mtu,
        };
        while self.interface.poll_egress(now, &mut wire, &mut self.sockets) != PollResult::None {}
        self.bury_orphans();
        let delay = self.interface.poll_delay(now, &self.sockets)?;
        Some(Duration::from_micros(delay.total_micros()))
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, to: SocketAddrV4) -> Result<SocketHandle, OpenError> {
        self.room()?;
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(SILENCE));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let port = self.port();
        socket
            .connect(self.interface.context(), endpoint(to), port)
            .map_err(|_| OpenError::Unaddressable(to))?;
        Ok(self.sockets.add(socket))
    }

    /// Waits for one connection to a port.
    #[cfg(test)]
    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    /// Opens a flow of datagrams from a port of its own.
    pub(super) fn flow(&mut self) -> Result<SocketHandle, OpenError> {
        self.room()?;
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; FLOW_DATAGRAMS];
            udp::PacketBuffer::new(metadata, vec![0; FLOW_BUFFER])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        let port = self.port();
        // A fresh socket, and a port that is not 0.
        socket.bind(port).map_err(|_| OpenError::TooMany)?;
        Ok(self.sockets.add(socket))
    }

    /// A connection.
    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A flow.
    pub(super) fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The stream of a connection is gone. What was not closed is broken off; what was is brought to its end.
    pub(super) fn abandon(&mut self, handle: SocketHandle) {
        let socket = self.tcp(handle);
        if socket.may_send() || socket.state() == tcp::State::SynSent || socket.can_recv() {
            socket.abort();
        }
        self.orphans.push(handle);
    }

    /// A flow is over.
    pub(super) fn end_flow(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Connections and flows, those included that are coming to their end.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.sockets.iter().count()
    }

    fn bury_orphans(&mut self) {
        let sockets = &mut self.sockets;
        self.orphans.retain(|handle| {
            let state = sockets.get::<tcp::Socket<'_>>(*handle).state();
            let over = matches!(state, tcp::State::Closed | tcp::State::TimeWait);
            if over {
                sockets.remove(*handle);
            }
            !over
        });
    }

    fn room(&self) -> Result<(), OpenError> {
        match self.sockets.iter().count() < MOST_SOCKETS {
            true => Ok(()),
            false => Err(OpenError::TooMany),
        }
    }

    /// The next local port that no socket has.
    fn port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = FIRST_PORT | self.next_port.wrapping_add(1);
            let taken = self.sockets.iter().any(|(_, socket)| match socket {
                smoltcp::socket::Socket::Tcp(socket) => {
                    socket.local_endpoint().is_some_and(|local| local.port == port)
                }
                smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
            });
            if !taken {
                return port;
            }
        }
    }

    fn time(&self, now: Instant) -> StackInstant {
        let since = now.saturating_duration_since(self.epoch);
        StackInstant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

fn buffer(length: usize) -> tcp::SocketBuffer<'static> {
    tcp::SocketBuffer::new(vec![0; length])
}

fn endpoint(address: SocketAddrV4) -> IpEndpoint {
    IpEndpoint::new(IpAddress::Ipv4(*address.ip()), address.port())
}

fn interface(address: Ipv4Net, mtu: u16, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut nothing = Packets::default();
    let mut wire = Wire {
        arrived: None,
        leaving: &mut nothing,
        mtu,
    };
    let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
    let own = IpCidr::new(IpAddress::Ipv4(address.addr()), address.prefix_len());
    interface.update_ip_addrs(|all| {
        // An interface without addresses has room for one.
        let _ = all.push(own);
    });
    // Whatever is not beside us is behind the tunnel too: the router decides.
    let _ = interface.routes_mut().add_default_ipv4_route(address.addr());
    interface
}
