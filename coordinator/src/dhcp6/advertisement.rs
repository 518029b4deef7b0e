//! Router advertisements (RFC 4861, section 4.2): that addresses come by DHCPv6, which network the wire is, and how large its packets are.
//!
//! Firmware and iPXE ask for a router first, and ask by DHCPv6 only where an advertisement has the flag M ("managed"). The prefix has the flag "on-link", so that hosts reach each other and the LM without a
//! router; "autonomous" only where the lender says so.
//!
//! Whoever asks from an address is answered there at once, so that a boot never waits; whoever has none yet is answered to all, every three seconds at most (section 6.2.6).

use super::config::Dhcp6Settings;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// `MIN_DELAY_BETWEEN_RAS`.
const BETWEEN: Duration = Duration::from_secs(3);
/// Without being asked: within the `MaxRtrAdvInterval` of the standard.
pub(super) const INTERVAL: Duration = Duration::from_secs(200);
/// How long the prefix is on the link, in seconds: the standard's default.
const PREFIX_LIFETIME: u32 = 30 * 24 * 3600;
const HOP_LIMIT: u8 = 64;
/// The flags M and O.
const BY_DHCP: u8 = 0xc0;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// A raw ICMPv6 socket on one interface.
#[derive(Debug)]
pub(super) struct Advertiser {
    /// The standard library has no type for raw sockets; of a datagram socket only calls are used that any socket takes.
    socket: UdpSocket,
    everybody: SocketAddrV6,
    message: Vec<u8>,
    told_all: Option<Instant>,
}

impl Advertiser {
    pub(super) fn open(settings: &Dhcp6Settings, interface: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(&settings.interface))?;
        // Receivers drop what could have come from further away.
        setsockopt(&fd, sockopt::Ipv6MulticastHops, &255)?;
        setsockopt(&fd, sockopt::Ipv6Ttl, &255)?;
        let socket = std::net::UdpSocket::from(fd);
        socket.join_multicast_v6(&ALL_ROUTERS, interface)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            everybody: SocketAddrV6::new(ALL_NODES, 0, 0, interface),
            message: advertisement(settings),
            told_all: None,
        })
    }

    /// The next solicitation's sender; cancel-safe.
    pub(super) async fn solicited(&self) -> io::Result<SocketAddr> {
        let mut buffer = [0; 256];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            if is_solicitation(&buffer[..length]) {
                return Ok(from);
            }
        }
    }

    /// Answers a solicitation.
    pub(super) fn answer(&mut self, from: SocketAddr, now: Instant) {
        match from {
            SocketAddr::V6(from) if from.ip().is_unicast_link_local() => self.send(from),
            _ if self.told_all.is_none_or(|told| now >= told + BETWEEN) => self.tell_all(now),
            _ => {}
        }
    }

    /// Advertises to the whole wire.
    pub(super) fn tell_all(&mut self, now: Instant) {
        self.told_all = Some(now);
        self.send(self.everybody);
    }

    fn send(&self, to: SocketAddrV6) {
        // The kernel fills in the checksum, and sends from the interface's link-local address.
        match self.socket.try_send_to(&self.message, to.into()) {
            Ok(_) => tracing::debug!(to = %to.ip(), "a router advertisement"),
            Err(error) => tracing::debug!(%error, to = %to.ip(), "a router advertisement could not be sent"),
        }
    }
}

fn is_solicitation(message: &[u8]) -> bool {
    message.len() >= 8 && message[0] == SOLICITATION && message[1] == 0
}

fn advertisement(settings: &Dhcp6Settings) -> Vec<u8> {
    let config = &settings.config;
    let network = config.address.trunc();
    // Checksum, reachable time and retransmission timer are zero: the kernel's to fill, and not said.
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, BY_DHCP];
    message.extend(config.router_lifetime_s.to_be_bytes());
    message.extend([0; 8]);
    // Prefix information (section 4.6.2): four units of eight bytes.
    let flags = if config.autonomous {
        ON_LINK | AUTONOMOUS
    } else {
        ON_LINK
    };
    message.extend([3, 4, network.prefix_len(), flags]);
    message.extend(PREFIX_LIFETIME.to_be_bytes());
    message.extend(PREFIX_LIFETIME.to_be_bytes());
    message.extend([0; 4]);
    message.extend(network.network().octets());
    // The wire's MTU (section 4.6.4).
    message.extend([5, 1, 0, 0]);
    message.extend(u32::from(settings.mtu).to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp6::tests::settings;

    #[test]
    fn an_advertisement_sends_hosts_to_dhcpv6() {
        let said = advertisement(&settings());
        assert_eq!(said.len(), 16 + 32 + 8);
        assert_eq!(
            &said[..8],
            &[134, 0, 0, 0, 64, 0xc0, 0, 0],
            "managed, and no router"
        );
        assert_eq!(&said[16..20], &[3, 4, 64, 0x80], "on-link, not autonomous");
        assert_eq!(&said[32..34], &[0xfd, 0]);
        assert_eq!(&said[52..], &1500_u32.to_be_bytes());
        let mut settings = settings();
        (settings.config.autonomous, settings.config.router_lifetime_s) = (true, 1800);
        let said = advertisement(&settings);
        assert_eq!((&said[6..8], said[19]), (&[7, 8][..], 0xc0));
    }

    #[test]
    fn only_solicitations_are_answered() {
        assert!(is_solicitation(&[133, 0, 1, 2, 0, 0, 0, 0]));
        assert!(!is_solicitation(&[133, 0, 1, 2]) && !is_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0]));
    }
}
