//! The sans-IO heart: peers, their boringtun sessions, and the way of each packet.
//!
//! Failure paths: a datagram that no peer can be made responsible for, that does not authenticate, or whose inner source address
//! is not among the sender's AllowedIPs is dropped without an answer, as WireGuard asks. A connection that boringtun gave up after
//! 90 seconds of unanswered handshakes begins anew by itself when the peer is one that we dial (it has an endpoint and a keepalive).
//!
//! Several workers use one router at a time: the table of peers is read by all, and each peer's session is behind a lock of its own, which is held for one packet of the device or the
//! datagrams of one message of the network. So peers do not wait for each other.

mod handshakes;
mod peer;
#[cfg(test)]
mod tests;

use crate::allowed_ips::AllowedIps;
use crate::datagrams::Datagrams;
use crate::key::PrivateKey;
use crate::offload::{self, Offload};
use crate::packets::Packets;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use handshakes::{HandshakeLimit, Places};
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use peer::{MessageLimits, Peer, Received, Session};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Handshake messages per second, from all peers together, above which senders must prove their address by a cookie.
const HANDSHAKES_PER_SECOND: u64 = 200;
/// The limiter sees each handshake message twice: once here, to find the peer, and once in the peer's `Tunn`.
const LIMITER_COUNTS: u64 = 2 * HANDSHAKES_PER_SECOND;

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

/// All peers of one interface.
pub struct Router {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: Arc<RateLimiter>,
    handshakes: Mutex<HandshakeLimit>,
    places: Places,
    messages: MessageLimits,
    table: RwLock<Table>,
}

/// Who is there.
#[derive(Default)]
struct Table {
    peers: HashMap<PeerIndex, Peer>,
    by_key: HashMap<WireguardPublicKey, PeerIndex>,
    routes: AllowedIps<PeerIndex>,
    next_index: PeerIndex,
}

impl Router {
    /// A router without peers.
    pub fn new(key: &PrivateKey) -> Self {
        let public = x25519::PublicKey::from(key.inner());
        Self {
            private: key.inner().clone(),
            public,
            limiter: Arc::new(RateLimiter::new(&public, LIMITER_COUNTS)),
            handshakes: Mutex::new(HandshakeLimit::new(Instant::now())),
            places: Places::default(),
            messages: MessageLimits::default(),
            table: RwLock::default(),
        }
    }

    /// Adds a peer or changes its settings; sessions of a known peer go on. AllowedIPs move here from whoever had them.
    pub fn set_peer(&self, settings: &PeerSettings) {
        let mut table = self.table_to_change();
        let index = match table.by_key.get(&settings.public_key) {
            Some(index) => *index,
            None => table.new_index(settings.public_key),
        };
        let known = table
            .peers
            .get(&index)
            .filter(|peer| peer.keepalive_s == settings.keepalive_s);
        match known {
            Some(peer) => {
                if let Some(endpoint) = settings.endpoint {
                    peer.session().set_endpoint(endpoint);
                }
            }
            None => {
                let peer = self.new_peer(index, settings);
                table.peers.insert(index, peer);
            }
        }
        table.routes.remove_owner(index);
        for network in &settings.allowed_ips {
            table.routes.assign(*network, index);
        }
    }

    /// Forgets a peer and its sessions at once.
    pub fn remove_peer(&self, key: &WireguardPublicKey) {
        let mut table = self.table_to_change();
        if let Some(index) = table.by_key.remove(key) {
            table.peers.remove(&index);
            table.routes.remove_owner(index);
        }
    }

    /// All peers as they stand, in no particular order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.table().peers.values().map(Peer::status).collect()
    }

    /// What a device handed over: encrypted for the peer that owns the destination, or dropped. The packet's bytes are changed on the way.
    pub(crate) fn carry_out(&self, packet: &mut [u8], offload: Offload, network: &mut Datagrams) {
        let table = self.table();
        let Some(peer) = Tunn::dst_address(packet)
            .and_then(|to| table.routes.lookup(to))
            .and_then(|index| table.peers.get(&index))
        else {
            return;
        };
        let mut session = peer.session();
        let done = offload::split(packet, offload, |packet| session.seal(packet, network));
        if let Err(error) = done {
            tracing::debug!(%error, "a packet was lost");
        }
    }

    /// Datagrams from one sender, each `segment` bytes long but the last.
    pub fn carry_in(
        &self,
        datagrams: &[u8],
        segment: usize,
        from: SocketAddr,
        network: &mut Datagrams,
        packets: &mut Packets,
    ) {
        let table = self.table();
        let place = self.places.of(from);
        let mut held: Option<(PeerIndex, MutexGuard<'_, Session>)> = None;
        for datagram in datagrams.chunks(segment.max(1)) {
            let received = Received {
                datagram,
                from,
                place,
            };
            let Some((index, is_data)) = self.responsible_peer(&table, received, network) else {
                continue;
            };
            if held.as_ref().is_none_or(|(of, _)| *of != index) {
                // The other's lock is given back before the next is taken: two workers cannot wait for each other.
                drop(held.take());
                held = table.peers.get(&index).map(|peer| (index, peer.session()));
            }
            match &mut held {
                Some((_, session)) if is_data => session.open(received, packets, |source| {
                    table.routes.lookup(source) == Some(index)
                }),
                Some((_, session)) => session.shake_hands(received, network),
                None => {}
            }
        }
    }

    /// Lets timers run: retransmitted handshakes, rekeying, keepalives. Due every quarter of a second.
    pub fn tick(&self, network: &mut Datagrams) {
        self.limiter.reset_count();
        for peer in self.table().peers.values() {
            peer.session().tick(network);
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_to_change(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_peer(&self, index: PeerIndex, settings: &PeerSettings) -> Peer {
        let tunn = Tunn::new(
            self.private.clone(),
            x25519::PublicKey::from(settings.public_key.0),
            None,
            settings.keepalive_s,
            index,
            Some(Arc::clone(&self.limiter)),
        );
        Peer::new(settings, self.messages, tunn)
    }

    /// Finds the peer that a datagram claims to be from, and whether it carries data. Unauthenticated so far: the peer's session decides.
    fn responsible_peer(
        &self,
        table: &Table,
        received: Received<'_>,
        network: &mut Datagrams,
    ) -> Option<(PeerIndex, bool)> {
        let Received {
            datagram,
            from,
            place,
        } = received;
        let mut cookie = [0; 64];
        let packet = match self.limiter.verify_packet(Some(place), datagram, &mut cookie) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                network.push(from, reply);
                return None;
            }
            Err(_) => return None,
        };
        let index = match packet {
            Packet::HandshakeInit(init) => {
                let mut limit = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
                if !limit.allows(from.ip(), Instant::now()) {
                    return None;
                }
                drop(limit);
                let half = parse_handshake_anon(&self.private, &self.public, &init).ok()?;
                *table.by_key.get(&WireguardPublicKey(half.peer_static_public))?
            }
            Packet::HandshakeResponse(response) => response.receiver_idx >> 8,
            Packet::PacketCookieReply(reply) => reply.receiver_idx >> 8,
            Packet::PacketData(data) => return Some((data.receiver_idx >> 8, true)),
        };
        Some((index, false))
    }
}

impl Table {
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
}
