//! "No, there is no IPv6 here": an answer to IPv6 router solicitations that spares every boot 16 seconds.
//!
//! iPXE configures IPv4 and IPv6 side by side and waits for both; on a wire without an IPv6 router it asks five times, waiting longer each time, before it
//! goes on (measured: 16.1 s, at both boots of a transfer). A router advertisement (RFC 4861, section 4.2) with a lifetime of zero, no prefix and no flags tells it at once that there is
//! nothing to wait for. To any other host it says just as little: this is no default router, and there are no addresses.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use tokio::net::UdpSocket;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;

/// A raw ICMPv6 socket on one interface.
#[derive(Debug)]
pub(super) struct Solicitations {
    /// The standard library has no type for raw sockets; of a datagram socket only calls are used that any socket takes.
    socket: UdpSocket,
    everybody: SocketAddrV6,
}

impl Solicitations {
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(interface))?;
        // RFC 4861 has receivers drop what could have come from further away.
        setsockopt(&fd, sockopt::Ipv6MulticastHops, &255)?;
        let socket = std::net::UdpSocket::from(fd);
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            everybody: SocketAddrV6::new(ALL_NODES, 0, 0, index),
        })
    }

    /// Answers one message; cancel-safe.
    pub(super) async fn answer_one(&self) -> io::Result<()> {
        let mut buffer = [0; 256];
        let (length, from) = self.socket.recv_from(&mut buffer).await?;
        let Some(advertisement) = answer(&buffer[..length]) else {
            return Ok(());
        };
        tracing::debug!(%from, "an IPv6 router solicitation is told that there is no router");
        // The kernel fills in the checksum. Without an IPv6 address of our own there is nothing to be done: the client waits, as before.
        if let Err(error) = self.socket.try_send_to(&advertisement, self.everybody.into()) {
            tracing::debug!(%error, "a router advertisement could not be sent");
        }
        Ok(())
    }
}

fn answer(message: &[u8]) -> Option<[u8; 16]> {
    let is_solicitation = message.len() >= 8 && message[0] == ROUTER_SOLICITATION && message[1] == 0;
    let mut advertisement = [0; 16];
    advertisement[0] = ROUTER_ADVERTISEMENT;
    is_solicitation.then_some(advertisement)
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn a_solicitation_is_told_that_there_is_nothing() {
        let answered = answer(&[133, 0, 0xab, 0xcd, 0, 0, 0, 0]).unwrap();
        assert_eq!(answered[0], 134);
        assert!(answered[1..].iter().all(|byte| *byte == 0));
        assert!(answer(&[135, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(answer(&[133]).is_none() && answer(&[]).is_none());
    }
}
