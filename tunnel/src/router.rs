//! The sans-IO heart: peers, their boringtun sessions, and the way of each packet.
//!
//! Failure paths: a datagram that no peer can be made responsible for, that does not authenticate, or whose inner source address
//! is not among the sender's AllowedIPs is dropped without an answer, as WireGuard asks. A connection that boringtun gave up after
//! 90 seconds of unanswered handshakes begins anew by itself when the peer is one that we dial (it has an endpoint and a keepalive).

use crate::allowed_ips::AllowedIps;
use crate::key::PrivateKey;
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Handshake messages per second, from all peers together, above which senders must prove their address by a cookie.
const HANDSHAKES_PER_SECOND: u64 = 200;
/// The limiter sees each handshake message twice: once here, to find the peer, and once in the peer's `Tunn`.
const LIMITER_COUNTS: u64 = 2 * HANDSHAKES_PER_SECOND;
/// Room for the largest datagram and WireGuard's overhead.
const BUFFER: usize = 65_535 + 32;
/// First byte of a cookie reply (message type 3).
const COOKIE_REPLY: u8 = 3;

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Network {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Hand an IP packet to the device.
    Device(Vec<u8>),
}

/// A peer as the owner of the interface describes it.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// The peer's key.
    pub public_key: WireguardPublicKey,
    /// Where to send first; it follows the peer when the peer moves.
    pub endpoint: Option<SocketAddr>,
    /// Inner addresses that belong to the peer. A peer without any can complete handshakes, and nothing else.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives.
    pub keepalive_s: Option<u16>,
}

/// A peer as it stands.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer's key.
    pub public_key: WireguardPublicKey,
    /// Where its last authentic datagram came from.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the present session was agreed; `None` before the first data or keepalive.
    pub last_handshake: Option<Duration>,
    /// Inner bytes from the peer.
    pub received_bytes: u64,
    /// Inner bytes to the peer.
    pub sent_bytes: u64,
}

type PeerIndex = u32;

struct Peer {
    public_key: WireguardPublicKey,
    endpoint: Option<SocketAddr>,
    keepalive_s: Option<u16>,
    session: Tunn,
}

/// All peers of one interface.
pub struct Router {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: Arc<RateLimiter>,
    peers: HashMap<PeerIndex, Peer>,
    by_key: HashMap<WireguardPublicKey, PeerIndex>,
    routes: AllowedIps<PeerIndex>,
    next_index: PeerIndex,
    buffer: Vec<u8>,
}

impl Router {
    /// A router without peers.
    pub fn new(key: &PrivateKey) -> Self {
        let public = x25519::PublicKey::from(key.inner());
        Self {
            private: key.inner().clone(),
            public,
            limiter: Arc::new(RateLimiter::new(&public, LIMITER_COUNTS)),
            peers: HashMap::new(),
            by_key: HashMap::new(),
            routes: AllowedIps::default(),
            next_index: 0,
            buffer: vec![0; BUFFER],
        }
    }

    /// Adds a peer or changes its settings; sessions of a known peer go on. AllowedIPs move here from whoever had them.
    pub fn set_peer(&mut self, settings: &PeerSettings) {
        let index = match self.by_key.get(&settings.public_key) {
            Some(index) => *index,
            None => self.new_index(settings.public_key),
        };
        let known = self
            .peers
            .remove(&index)
            .filter(|peer| peer.keepalive_s == settings.keepalive_s);
        let peer = match known {
            Some(peer) => Peer {
                endpoint: settings.endpoint.or(peer.endpoint),
                ..peer
            },
            None => self.new_peer(index, settings),
        };
        self.peers.insert(index, peer);
        self.routes.remove_owner(index);
        for network in &settings.allowed_ips {
            self.routes.assign(*network, index);
        }
    }

    /// Forgets a peer and its sessions at once.
    pub fn remove_peer(&mut self, key: &WireguardPublicKey) {
        if let Some(index) = self.by_key.remove(key) {
            self.peers.remove(&index);
            self.routes.remove_owner(index);
        }
    }

    /// All peers as they stand, in no particular order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.values().map(Peer::status).collect()
    }

    /// An IP packet from the device: encrypted for the peer that owns its destination, or dropped.
    pub fn from_device(&mut self, packet: &[u8], outputs: &mut Vec<Output>) {
        let Some(peer) = Tunn::dst_address(packet)
            .and_then(|to| self.routes.lookup(to))
            .and_then(|index| self.peers.get_mut(&index))
        else {
            return;
        };
        if packet.len() + 32 > self.buffer.len() {
            return;
        }
        let result = peer.session.encapsulate(packet, &mut self.buffer);
        if let TunnResult::WriteToNetwork(datagram) = result {
            send(peer.endpoint, datagram, outputs);
        }
    }

    /// A datagram from the network.
    pub fn from_network(&mut self, datagram: &[u8], from: SocketAddr, outputs: &mut Vec<Output>) {
        let Some(index) = self.responsible_peer(datagram, from, outputs) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&index) else {
            return;
        };
        let mut input = datagram;
        loop {
            match peer.session.decapsulate(Some(from.ip()), input, &mut self.buffer) {
                TunnResult::WriteToNetwork(reply) => {
                    if reply.first() == Some(&COOKIE_REPLY) {
                        send(Some(from), reply, outputs);
                        return;
                    }
                    peer.endpoint = Some(from);
                    send(Some(from), reply, outputs);
                    input = &[];
                }
                TunnResult::WriteToTunnelV4(packet, source) => {
                    peer.endpoint = Some(from);
                    return deliver(&self.routes, index, IpAddr::V4(source), packet, outputs);
                }
                TunnResult::WriteToTunnelV6(packet, source) => {
                    peer.endpoint = Some(from);
                    return deliver(&self.routes, index, IpAddr::V6(source), packet, outputs);
                }
                TunnResult::Done | TunnResult::Err(_) => return,
            }
        }
    }

    /// Lets timers run: retransmitted handshakes, rekeying, keepalives. Due every quarter of a second.
    pub fn tick(&mut self, outputs: &mut Vec<Output>) {
        self.limiter.reset_count();
        for peer in self.peers.values_mut() {
            match peer.session.update_timers(&mut self.buffer) {
                TunnResult::WriteToNetwork(datagram) => send(peer.endpoint, datagram, outputs),
                TunnResult::Err(WireGuardError::ConnectionExpired) if peer.is_dialled() => {
                    if let TunnResult::WriteToNetwork(datagram) =
                        peer.session.format_handshake_initiation(&mut self.buffer, true)
                    {
                        send(peer.endpoint, datagram, outputs);
                    }
                }
                _ => {}
            }
        }
    }

    fn new_index(&mut self, key: WireguardPublicKey) -> PeerIndex {
        // boringtun puts the index into the upper 24 bits of a session's index.
        while self.peers.contains_key(&self.next_index) {
            self.next_index = (self.next_index + 1) & 0x00ff_ffff;
        }
        let index = self.next_index;
        self.next_index = (self.next_index + 1) & 0x00ff_ffff;
        self.by_key.insert(key, index);
        index
    }

    fn new_peer(&self, index: PeerIndex, settings: &PeerSettings) -> Peer {
        let session = Tunn::new(
            self.private.clone(),
            x25519::PublicKey::from(settings.public_key.0),
            None,
            settings.keepalive_s,
            index,
            Some(Arc::clone(&self.limiter)),
        );
        Peer {
            public_key: settings.public_key,
            endpoint: settings.endpoint,
            keepalive_s: settings.keepalive_s,
            session,
        }
    }

    /// Finds the peer that a datagram claims to be from. Unauthenticated so far: the peer's session decides.
    fn responsible_peer(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        outputs: &mut Vec<Output>,
    ) -> Option<PeerIndex> {
        let mut cookie = [0; 64];
        let packet = match self.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                send(Some(from), reply, outputs);
                return None;
            }
            Err(_) => return None,
        };
        match packet {
            Packet::HandshakeInit(init) => {
                let half = parse_handshake_anon(&self.private, &self.public, &init).ok()?;
                self.by_key
                    .get(&WireguardPublicKey(half.peer_static_public))
                    .copied()
            }
            Packet::HandshakeResponse(response) => Some(response.receiver_idx >> 8),
            Packet::PacketCookieReply(reply) => Some(reply.receiver_idx >> 8),
            Packet::PacketData(data) => Some(data.receiver_idx >> 8),
        }
    }
}

impl Peer {
    fn is_dialled(&self) -> bool {
        self.endpoint.is_some() && self.keepalive_s.is_some()
    }

    fn status(&self) -> PeerStatus {
        let (last_handshake, sent, received, ..) = self.session.stats();
        PeerStatus {
            public_key: self.public_key,
            endpoint: self.endpoint,
            last_handshake,
            received_bytes: received as u64,
            sent_bytes: sent as u64,
        }
    }
}

fn send(to: Option<SocketAddr>, datagram: &[u8], outputs: &mut Vec<Output>) {
    if let Some(to) = to {
        outputs.push(Output::Network {
            to,
            datagram: datagram.to_vec(),
        });
    }
}

fn deliver(
    routes: &AllowedIps<PeerIndex>,
    sender: PeerIndex,
    source: IpAddr,
    packet: &[u8],
    outputs: &mut Vec<Output>,
) {
    if routes.lookup(source) == Some(sender) {
        outputs.push(Output::Device(packet.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct End {
        router: Router,
        key: WireguardPublicKey,
        address: SocketAddr,
    }

    fn end(address: &str) -> End {
        let key = PrivateKey::generate();
        End {
            router: Router::new(&key),
            key: key.public(),
            address: address.parse().unwrap(),
        }
    }

    fn pair(server_may_use: &str) -> (End, End) {
        let (mut gateway, mut server) = (end("192.0.2.1:51820"), end("192.0.2.2:40000"));
        gateway.router.set_peer(&PeerSettings {
            public_key: server.key,
            endpoint: None,
            allowed_ips: vec![server_may_use.parse().unwrap()],
            keepalive_s: None,
        });
        server.router.set_peer(&PeerSettings {
            public_key: gateway.key,
            endpoint: Some(gateway.address),
            allowed_ips: vec!["10.99.0.0/24".parse().unwrap()],
            keepalive_s: Some(15),
        });
        (gateway, server)
    }

    fn ipv4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet.extend(payload);
        packet
    }

    /// Carries datagrams between the ends until both are quiet; returns what reached the gateway's device.
    fn exchange(gateway: &mut End, server: &mut End, mut to_gateway: Vec<Output>) -> Vec<Vec<u8>> {
        let mut delivered = Vec::new();
        for _ in 0..8 {
            let mut to_server = Vec::new();
            for output in to_gateway.drain(..) {
                if let Output::Network { datagram, .. } = output {
                    gateway
                        .router
                        .from_network(&datagram, server.address, &mut to_server);
                }
            }
            for output in to_server {
                match output {
                    Output::Network { datagram, to } => {
                        assert_eq!(to, server.address);
                        server
                            .router
                            .from_network(&datagram, gateway.address, &mut to_gateway);
                    }
                    Output::Device(packet) => delivered.push(packet),
                }
            }
        }
        delivered
    }

    #[test]
    fn a_packet_crosses_after_the_handshake_that_it_caused() {
        let (mut gateway, mut server) = pair("10.99.0.10/32");
        let packet = ipv4([10, 99, 0, 10], [10, 99, 0, 1], b"hello");
        let mut outputs = Vec::new();
        server.router.from_device(&packet, &mut outputs);
        assert_eq!(exchange(&mut gateway, &mut server, outputs), [packet]);
        let status = &gateway.router.status()[0];
        assert!(status.last_handshake.is_some());
        assert_eq!(status.endpoint, Some(server.address));
    }

    #[test]
    fn a_source_outside_allowed_ips_is_dropped() {
        let (mut gateway, mut server) = pair("10.99.0.11/32");
        let mut outputs = Vec::new();
        server
            .router
            .from_device(&ipv4([10, 99, 0, 10], [10, 99, 0, 1], b"spoofed"), &mut outputs);
        assert!(exchange(&mut gateway, &mut server, outputs).is_empty());
    }

    #[test]
    fn a_removed_peer_gets_no_answer() {
        let (mut gateway, mut server) = pair("10.99.0.10/32");
        gateway.router.remove_peer(&server.key);
        let mut outputs = Vec::new();
        server
            .router
            .from_device(&ipv4([10, 99, 0, 10], [10, 99, 0, 1], b"late"), &mut outputs);
        assert!(exchange(&mut gateway, &mut server, outputs).is_empty());
        assert!(gateway.router.status().is_empty());
    }

    #[test]
    fn a_peer_without_addresses_shakes_hands_and_nothing_more() {
        let (mut gateway, mut server) = pair("10.99.0.10/32");
        let standby = PeerSettings {
            public_key: server.key,
            endpoint: None,
            allowed_ips: Vec::new(),
            keepalive_s: None,
        };
        gateway.router.set_peer(&standby);
        let mut outputs = Vec::new();
        server
            .router
            .from_device(&ipv4([10, 99, 0, 10], [10, 99, 0, 1], b"early"), &mut outputs);
        assert!(exchange(&mut gateway, &mut server, outputs).is_empty());
        assert!(gateway.router.status()[0].last_handshake.is_some());
    }

    #[test]
    fn two_peers_with_one_address_the_later_owns_it() {
        let (mut gateway, server) = pair("10.99.0.10/32");
        let member = end("192.0.2.3:1");
        gateway.router.set_peer(&PeerSettings {
            public_key: member.key,
            endpoint: None,
            allowed_ips: vec!["10.99.0.10/32".parse().unwrap()],
            keepalive_s: None,
        });
        let owner = gateway
            .router
            .routes
            .lookup("10.99.0.10".parse().unwrap())
            .unwrap();
        assert_eq!(gateway.router.peers[&owner].public_key, member.key);
        assert_eq!(gateway.router.by_key.len(), 2, "{:?} stays known", server.key);
    }

    proptest! {
        #[test]
        fn noise_from_the_network_never_panics_nor_reaches_the_device(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            kind in 0u8..6,
        ) {
            let (mut gateway, server) = pair("10.99.0.10/32");
            let mut outputs = Vec::new();
            for mut datagram in datagrams {
                if datagram.len() >= 4 { datagram[..4].copy_from_slice(&[kind, 0, 0, 0]); }
                gateway.router.from_network(&datagram, server.address, &mut outputs);
            }
            prop_assert!(!outputs.iter().any(|output| matches!(output, Output::Device(_))));
        }

        #[test]
        fn noise_from_the_device_never_panics(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_, mut server) = pair("10.99.0.10/32");
            server.router.from_device(&packet, &mut Vec::new());
        }
    }
}
