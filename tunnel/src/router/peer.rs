//! One peer: its boringtun session, and what boringtun leaves to its caller about a single peer.
//!
//! boringtun does not count messages. WireGuard asks for a new handshake after 2^60 of one session and for the end of it after 2^64 - 2^13 - 1 (the paper, section 6.1), in both
//! directions. On the way in this is more than tidiness: a peer that sends the counter 2^64 - 1, well authenticated, would wind boringtun's replay window back to zero.

use super::{PeerSettings, PeerStatus};
use crate::datagrams::Datagrams;
use crate::packets::Packets;
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use leaseboot_protocol::network::WireguardPublicKey;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// WireGuard's header and tag around a packet.
const OVERHEAD: usize = 32;
/// The longest packet that fits a UDP datagram with [`OVERHEAD`].
const LONGEST: usize = 65_507 - OVERHEAD;
/// Room for whatever a session writes: the largest packet of its queue, or a handshake message.
const BUFFER: usize = 65_535 + OVERHEAD;
/// A handshake message is longer than a short packet.
const HANDSHAKE: usize = 148;
/// First byte of a cookie reply (message type 3).
const COOKIE_REPLY: u8 = 3;
/// First byte of a data message.
const DATA: u8 = 4;

/// How many messages a session may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageLimits {
    /// Then a new handshake is begun.
    pub(super) rekey_after: u64,
    /// Then it carries nothing more.
    pub(super) reject_after: u64,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            rekey_after: 1 << 60,
            reject_after: u64::MAX - (1 << 13),
        }
    }
}

/// A datagram and where it came from.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) datagram: &'a [u8],
    pub(super) from: SocketAddr,
    /// What a cookie for the sender is bound to.
    pub(super) place: IpAddr,
}

/// A peer. Its session is used by whichever worker has a packet for it.
pub(super) struct Peer {
    pub(super) public_key: WireguardPublicKey,
    pub(super) keepalive_s: Option<u16>,
    session: Mutex<Session>,
}

pub(super) struct Session {
    endpoint: Option<SocketAddr>,
    is_dialled: bool,
    limits: MessageLimits,
    tunn: Tunn,
}

impl Peer {
    pub(super) fn new(settings: &PeerSettings, limits: MessageLimits, tunn: Tunn) -> Self {
        Self {
            public_key: settings.public_key,
            keepalive_s: settings.keepalive_s,
            session: Mutex::new(Session {
                endpoint: settings.endpoint,
                is_dialled: settings.keepalive_s.is_some(),
                limits,
                tunn,
            }),
        }
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        // A panic elsewhere leaves at worst a session that a new handshake replaces.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> PeerStatus {
        let session = self.session();
        let (last_handshake, sent, received, ..) = session.tunn.stats();
        PeerStatus {
            public_key: self.public_key,
            endpoint: session.endpoint,
            last_handshake,
            received_bytes: received as u64,
            sent_bytes: sent as u64,
        }
    }
}

impl Session {
    pub(super) fn set_endpoint(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    /// Encrypts a packet, or keeps it and begins a handshake. Without an endpoint there is nobody to send it to.
    pub(super) fn seal(&mut self, packet: &[u8], network: &mut Datagrams) {
        let Some(to) = self.endpoint else {
            return;
        };
        if packet.len() > LONGEST {
            return;
        }
        let room = network.room((packet.len() + OVERHEAD).max(HANDSHAKE));
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(packet, room) else {
            return;
        };
        let counter = counter(datagram).unwrap_or(0);
        if counter < self.limits.reject_after {
            let length = datagram.len();
            network.commit(to, length);
        }
        if counter >= self.limits.rekey_after {
            self.begin_handshake(false, network);
        }
    }

    /// Decrypts a data message; `is_theirs` tells whether an inner source address belongs to the peer.
    pub(super) fn open(
        &mut self,
        received: Received<'_>,
        packets: &mut Packets,
        is_theirs: impl FnOnce(IpAddr) -> bool,
    ) {
        let Received {
            datagram,
            from,
            place,
        } = received;
        if counter(datagram).is_none_or(|counter| counter >= self.limits.reject_after) {
            return;
        }
        let room = packets.room(datagram.len());
        let (length, source) = match self.tunn.decapsulate(Some(place), datagram, room) {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), IpAddr::from(source)),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), IpAddr::from(source)),
            // A keepalive.
            TunnResult::Done => return self.set_endpoint(from),
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return,
        };
        self.set_endpoint(from);
        if is_theirs(source) {
            packets.commit(length);
        }
    }

    /// Works on a message of a handshake, and then sends what has waited for its end.
    pub(super) fn shake_hands(&mut self, received: Received<'_>, network: &mut Datagrams) {
        let Received {
            datagram,
            from,
            place,
        } = received;
        let mut input = datagram;
        loop {
            let room = network.room(BUFFER);
            let TunnResult::WriteToNetwork(reply) = self.tunn.decapsulate(Some(place), input, room) else {
                return;
            };
            let (length, is_cookie) = (reply.len(), reply.first() == Some(&COOKIE_REPLY));
            network.commit(from, length);
            if is_cookie {
                return;
            }
            self.endpoint = Some(from);
            input = &[];
        }
    }

    /// Lets the timers run.
    pub(super) fn tick(&mut self, network: &mut Datagrams) {
        let room = network.room(BUFFER);
        match self.tunn.update_timers(room) {
            TunnResult::WriteToNetwork(datagram) => {
                let length = datagram.len();
                if let Some(to) = self.endpoint {
                    network.commit(to, length);
                }
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) if self.is_dialled => {
                self.begin_handshake(true, network);
            }
            _ => {}
        }
    }

    pub(super) fn begin_handshake(&mut self, again: bool, network: &mut Datagrams) {
        let Some(to) = self.endpoint else {
            return;
        };
        let room = network.room(HANDSHAKE);
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.format_handshake_initiation(room, again) {
            let length = datagram.len();
            network.commit(to, length);
        }
    }
}

/// Which message of its session a data message is.
fn counter(datagram: &[u8]) -> Option<u64> {
    let bytes = datagram.get(8..16).filter(|_| datagram[0] == DATA)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}
