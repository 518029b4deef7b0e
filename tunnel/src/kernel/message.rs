//! What is asked of the kernel as bytes, and what it answers as peers. Pure, and public for whoever feeds it with noise.
//!
//! A message has a bound, because a netlink attribute has one (64 KiB, which the list of all peers is one of): many peers are sent in several messages, and a peer with many AllowedIPs is continued in the next.
//! The kernel does the same on its way back: a peer that did not fit is continued by one that says no more than its key and further AllowedIPs.

use super::attribute::{Writer, exact, read};
use crate::key::PrivateKey;
use crate::router::PeerSettings;
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest body in bytes. Far below every bound: a socket's send buffer has 208 KiB as it comes.
const MOST: usize = 16 << 10;
/// A peer without its AllowedIPs: key, flags, endpoint, keepalive and the headers around them.
const PEER: usize = 128;
/// One of the AllowedIPs, of IPv6.
const ALLOWED_IP: usize = 48;
/// The device's own attributes, and the headers around everything.
const DEVICE: usize = 128;

/// `enum wgdevice_attribute` and so on, as `wireguard.h` numbers them.
mod kinds {
    pub(super) const DEVICE_INDEX: u16 = 1;
    pub(super) const DEVICE_PRIVATE_KEY: u16 = 3;
    pub(super) const DEVICE_PUBLIC_KEY: u16 = 4;
    pub(super) const DEVICE_FLAGS: u16 = 5;
    pub(super) const DEVICE_LISTEN_PORT: u16 = 6;
    pub(super) const DEVICE_MARK: u16 = 7;
    pub(super) const DEVICE_PEERS: u16 = 8;
    pub(super) const PEER_PUBLIC_KEY: u16 = 1;
    pub(super) const PEER_FLAGS: u16 = 3;
    pub(super) const PEER_ENDPOINT: u16 = 4;
    pub(super) const PEER_KEEPALIVE: u16 = 5;
    pub(super) const PEER_LAST_HANDSHAKE: u16 = 6;
    pub(super) const PEER_RECEIVED: u16 = 7;
    pub(super) const PEER_SENT: u16 = 8;
    pub(super) const PEER_ALLOWED_IPS: u16 = 9;
    pub(super) const ALLOWED_FAMILY: u16 = 1;
    pub(super) const ALLOWED_ADDRESS: u16 = 2;
    pub(super) const ALLOWED_PREFIX: u16 = 3;
}

const REPLACE_PEERS: u32 = 1;
const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWED_IPS: u32 = 2;
const INET: u16 = libc::AF_INET as u16;
const INET6: u16 = libc::AF_INET6 as u16;

/// The kernel's bytes are not what its headers promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within an attribute.
    #[error("it ends within an attribute's header")]
    Short,
    /// A length that cannot be.
    #[error("an attribute has a length that it cannot have")]
    Length,
    /// A peer without a key.
    #[error("a peer has no key")]
    Nameless,
    /// An address of a family that is neither IPv4 nor IPv6.
    #[error("an endpoint is neither of IPv4 nor of IPv6")]
    Family,
}

/// A change of a device; what is `None` stays as it is.
#[derive(Default)]
pub struct DeviceChange<'a> {
    /// Its key.
    pub private_key: Option<&'a PrivateKey>,
    /// Its UDP port; 0 for any that is free.
    pub listen_port: Option<u16>,
    /// The mark of its datagrams; 0 for none.
    pub mark: Option<u32>,
    /// Whether it has no peers but these afterwards.
    pub replace_peers: bool,
    /// Peers to be added, changed or removed.
    pub peers: Vec<PeerChange<'a>>,
}

/// A change of a peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerChange<'a> {
    public_key: WireguardPublicKey,
    /// `None` for a peer that shall go.
    settings: Option<&'a PeerSettings>,
}

impl<'a> From<&'a PeerSettings> for PeerChange<'a> {
    fn from(settings: &'a PeerSettings) -> Self {
        Self {
            public_key: settings.public_key,
            settings: Some(settings),
        }
    }
}

impl PeerChange<'_> {
    /// The peer shall not be there.
    pub fn removal(public_key: WireguardPublicKey) -> Self {
        Self {
            public_key,
            settings: None,
        }
    }

    fn allowed_ips(&self) -> &[IpNet] {
        self.settings.map_or(&[], |settings| &settings.allowed_ips)
    }

    /// The part of it that has the AllowedIPs of `range`; a later part adds to what the first one has set.
    fn write(&self, writer: &mut Writer, allowed: &[IpNet], is_first: bool) {
        writer.put(kinds::PEER_PUBLIC_KEY, &self.public_key.0);
        let Some(settings) = self.settings else {
            return writer.put(kinds::PEER_FLAGS, &REMOVE_ME.to_ne_bytes());
        };
        if is_first {
            writer.put(kinds::PEER_FLAGS, &REPLACE_ALLOWED_IPS.to_ne_bytes());
            if let Some(endpoint) = settings.endpoint {
                writer.put(kinds::PEER_ENDPOINT, &sockaddr(endpoint));
            }
            let keepalive = settings.keepalive_s.unwrap_or(0);
            writer.put(kinds::PEER_KEEPALIVE, &keepalive.to_ne_bytes());
        }
        if !allowed.is_empty() {
            writer.nest(kinds::PEER_ALLOWED_IPS, |writer| {
                for network in allowed {
                    writer.nest(0, |writer| write_network(writer, network));
                }
            });
        }
    }
}

fn write_network(writer: &mut Writer, network: &IpNet) {
    match network.network() {
        IpAddr::V4(address) => {
            writer.put(kinds::ALLOWED_FAMILY, &INET.to_ne_bytes());
            writer.put(kinds::ALLOWED_ADDRESS, &address.octets());
        }
        IpAddr::V6(address) => {
            writer.put(kinds::ALLOWED_FAMILY, &INET6.to_ne_bytes());
            writer.put(kinds::ALLOWED_ADDRESS, &address.octets());
        }
    }
    writer.put(kinds::ALLOWED_PREFIX, &[network.prefix_len()]);
}

/// `struct sockaddr_in` and `sockaddr_in6`, ip(7) and ipv6(7).
fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => [&INET.to_ne_bytes()[..], &port, &v4.ip().octets(), &[0; 8]].concat(),
        SocketAddr::V6(v6) => [
            &INET6.to_ne_bytes()[..],
            &port,
            &v6.flowinfo().to_be_bytes(),
            &v6.ip().octets(),
            &v6.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

/// A peer, or a continuation of it.
struct Part<'a> {
    peer: &'a PeerChange<'a>,
    allowed: &'a [IpNet],
    is_first: bool,
}

impl Part<'_> {
    fn length(&self) -> usize {
        PEER + self.allowed.len() * ALLOWED_IP
    }
}

impl DeviceChange<'_> {
    /// The bodies of the messages `WG_CMD_SET_DEVICE` that make this change, to be sent in this order; wiped when dropped. There is always one.
    pub fn messages(&self, index: u32) -> Vec<Zeroizing<Vec<u8>>> {
        let mut messages = Vec::new();
        let mut parts = self.peers.iter().flat_map(parts).peekable();
        loop {
            let mut writer = Writer::new(MOST);
            writer.put(kinds::DEVICE_INDEX, &index.to_ne_bytes());
            if messages.is_empty() {
                self.write_device(&mut writer);
            }
            if parts.peek().is_some() {
                writer.nest(kinds::DEVICE_PEERS, |writer| {
                    while let Some(part) = parts.next_if(|part| writer.len() + part.length() <= MOST) {
                        writer.nest(0, |writer| part.peer.write(writer, part.allowed, part.is_first));
                    }
                });
            }
            messages.push(writer.done());
            if parts.peek().is_none() {
                return messages;
            }
        }
    }

    fn write_device(&self, writer: &mut Writer) {
        if let Some(key) = self.private_key {
            let bytes = Zeroizing::new(key.inner().to_bytes());
            writer.put(kinds::DEVICE_PRIVATE_KEY, bytes.as_slice());
        }
        if self.replace_peers {
            writer.put(kinds::DEVICE_FLAGS, &REPLACE_PEERS.to_ne_bytes());
        }
        if let Some(port) = self.listen_port {
            writer.put(kinds::DEVICE_LISTEN_PORT, &port.to_ne_bytes());
        }
        if let Some(mark) = self.mark {
            writer.put(kinds::DEVICE_MARK, &mark.to_ne_bytes());
        }
    }
}

/// Every part fits a message of its own.
fn parts<'a>(peer: &'a PeerChange<'a>) -> impl Iterator<Item = Part<'a>> {
    const EACH: usize = (MOST - DEVICE - PEER) / ALLOWED_IP;
    let allowed = peer.allowed_ips();
    let first = &allowed[..allowed.len().min(EACH)];
    let rest = allowed[first.len()..].chunks(EACH);
    std::iter::once((first, true))
        .chain(rest.map(|chunk| (chunk, false)))
        .map(move |(allowed, is_first)| Part {
            peer,
            allowed,
            is_first,
        })
}

/// The body of a request for all that is known of a device (`WG_CMD_GET_DEVICE`).
pub fn question(index: u32) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::new(8);
    writer.put(kinds::DEVICE_INDEX, &index.to_ne_bytes());
    writer.done()
}

/// A device as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its public key; `None` for a device that has no key yet.
    pub public_key: Option<WireguardPublicKey>,
    /// The UDP port.
    pub listen_port: u16,
    /// The mark of its datagrams.
    pub mark: u32,
    /// Its peers.
    pub peers: Vec<PeerReport>,
}

/// A peer as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Its key.
    pub public_key: WireguardPublicKey,
    /// Where its last authentic datagram came from.
    pub endpoint: Option<SocketAddr>,
    /// When the present session was agreed, since 1970.
    pub last_handshake: Option<Duration>,
    /// Bytes from it.
    pub received_bytes: u64,
    /// Bytes to it.
    pub sent_bytes: u64,
    /// Seconds between keepalives.
    pub keepalive_s: Option<u16>,
    /// The inner addresses that belong to it.
    pub allowed_ips: Vec<IpNet>,
}

impl DeviceReport {
    /// Takes one more message's body in, after those before it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn take(&mut self, body: &[u8]) -> Result<(), Malformed> {
        for attribute in read(body) {
            let (kind, value) = attribute?;
            match kind {
                kinds::DEVICE_PUBLIC_KEY => self.public_key = Some(WireguardPublicKey(exact(value)?)),
                kinds::DEVICE_LISTEN_PORT => self.listen_port = u16::from_ne_bytes(exact(value)?),
                kinds::DEVICE_MARK => self.mark = u32::from_ne_bytes(exact(value)?),
                kinds::DEVICE_PEERS => {
                    for peer in read(value) {
                        self.take_peer(PeerReport::read(peer?.1)?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_peer(&mut self, peer: PeerReport) {
        match self.peers.last_mut() {
            Some(last) if last.public_key == peer.public_key => last.allowed_ips.extend(peer.allowed_ips),
            _ => self.peers.push(peer),
        }
    }
}

impl PeerReport {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut key = None;
        let mut peer = Self {
            public_key: WireguardPublicKey([0; 32]),
            endpoint: None,
            last_handshake: None,
            received_bytes: 0,
            sent_bytes: 0,
            keepalive_s: None,
            allowed_ips: Vec::new(),
        };
        for attribute in read(bytes) {
            let (kind, value) = attribute?;
            match kind {
                kinds::PEER_PUBLIC_KEY => key = Some(WireguardPublicKey(exact(value)?)),
                kinds::PEER_ENDPOINT => peer.endpoint = Some(read_sockaddr(value)?),
                kinds::PEER_KEEPALIVE => {
                    peer.keepalive_s = Some(u16::from_ne_bytes(exact(value)?)).filter(|seconds| *seconds > 0);
                }
                kinds::PEER_LAST_HANDSHAKE => peer.last_handshake = read_time(value)?,
                kinds::PEER_RECEIVED => peer.received_bytes = u64::from_ne_bytes(exact(value)?),
                kinds::PEER_SENT => peer.sent_bytes = u64::from_ne_bytes(exact(value)?),
                kinds::PEER_ALLOWED_IPS => {
                    let networks = read(value).map(|network| read_network(network?.1));
                    peer.allowed_ips = networks.collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        peer.public_key = key.ok_or(Malformed::Nameless)?;
        Ok(peer)
    }
}

/// `struct __kernel_timespec`; zero for never.
fn read_time(value: &[u8]) -> Result<Option<Duration>, Malformed> {
    let [seconds, nanoseconds] = [0..8, 8..16].map(|range| value.get(range).map(exact::<8>));
    let (Some(seconds), Some(nanoseconds)) = (seconds, nanoseconds) else {
        return Err(Malformed::Length);
    };
    let seconds = u64::try_from(i64::from_ne_bytes(seconds?)).unwrap_or(0);
    let nanoseconds = u32::try_from(i64::from_ne_bytes(nanoseconds?)).unwrap_or(0);
    let time = Duration::new(seconds, nanoseconds.min(999_999_999));
    Ok(Some(time).filter(|time| !time.is_zero()))
}

fn read_sockaddr(value: &[u8]) -> Result<SocketAddr, Malformed> {
    let [family, port, v4, v6] = [0..2, 2..4, 4..8, 8..24].map(|range| value.get(range).unwrap_or_default());
    let port = u16::from_be_bytes(exact(port)?);
    match u16::from_ne_bytes(exact(family)?) {
        INET => Ok((exact::<4>(v4)?, port).into()),
        INET6 => Ok((exact::<16>(v6)?, port).into()),
        _ => Err(Malformed::Family),
    }
}

fn read_network(bytes: &[u8]) -> Result<IpNet, Malformed> {
    let (mut address, mut prefix) = (None, None);
    for attribute in read(bytes) {
        let (kind, value) = attribute?;
        match kind {
            // The length says what the family says.
            kinds::ALLOWED_ADDRESS if value.len() == 4 => address = Some(IpAddr::from(exact::<4>(value)?)),
            kinds::ALLOWED_ADDRESS => address = Some(IpAddr::from(exact::<16>(value)?)),
            kinds::ALLOWED_PREFIX => prefix = Some(u8::from_ne_bytes(exact(value)?)),
            _ => {}
        }
    }
    let (address, prefix) = address.zip(prefix).ok_or(Malformed::Short)?;
    IpNet::new(address, prefix).map_err(|_| Malformed::Length)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
