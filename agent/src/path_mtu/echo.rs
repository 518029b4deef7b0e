//! Echo messages (RFC 792) of a chosen size, sent and received on a raw socket. Only the source that is asked and our own identifier count.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const IP_HEADER: usize = 20;
const ECHO_HEADER: usize = 8;
/// Longer than any packet that is asked for.
const LONGEST: usize = 9216;

/// Echoes to and from one host.
pub(super) struct Echoes {
    // A raw socket: sendto(2) and recv(2) are all that is used of it, and they are the same.
    socket: UdpSocket,
    identifier: u16,
}

impl Echoes {
    /// Echoes with `host`, told apart from others' by `identifier`.
    pub(super) async fn with(host: Ipv4Addr, identifier: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
        let socket = UdpSocket::from_std(raw.into())?;
        socket.connect(SocketAddr::from((host, 0))).await?;
        Ok(Self { socket, identifier })
    }

    /// Asks for an echo; the whole packet has `size` bytes.
    pub(super) async fn ask(&self, size: u16) -> io::Result<()> {
        self.socket.send(&request(self.identifier, size)).await.map(drop)
    }

    /// The size of the next packet that came back. Cancel-safe.
    pub(super) async fn next(&self) -> io::Result<u16> {
        let mut packet = [0; LONGEST];
        loop {
            let length = self.socket.recv(&mut packet).await?;
            if let Some(size) = reply(self.identifier, &packet[..length]) {
                return Ok(size);
            }
        }
    }
}

/// The message, without the IP header that the kernel writes. Its sequence number is the size.
fn request(identifier: u16, size: u16) -> Vec<u8> {
    let mut message = vec![0; usize::from(size).saturating_sub(IP_HEADER).max(ECHO_HEADER)];
    message[0] = REQUEST;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&size.to_be_bytes());
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The size of the packet when it is a reply to one of ours and came back whole.
fn reply(identifier: u16, packet: &[u8]) -> Option<u16> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let message = packet.get(header..)?;
    let fields: &[u8; ECHO_HEADER] = message.first_chunk()?;
    let size = u16::from_be_bytes([fields[6], fields[7]]);
    let ours = fields[0] == REPLY && fields[4..6] == identifier.to_be_bytes();
    (ours && packet.len() == usize::from(size)).then_some(size)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "it was folded into 16 bits")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; IP_HEADER];
        packet[0] = 0x45;
        packet.extend_from_slice(message);
        packet
    }

    #[test]
    fn a_request_has_its_size_and_a_good_checksum() {
        for size in [28, 576, 1339, 1420] {
            let message = request(7, size);
            assert_eq!(message.len() + IP_HEADER, usize::from(size));
            assert_eq!(
                checksum(&message),
                0,
                "RFC 1071: over a good message the sum is zero"
            );
            assert_eq!(reply(7, &packet(&message)), None, "a request is no reply");
        }
    }

    #[test]
    fn only_a_whole_reply_to_ours_counts() {
        let mut message = request(7, 1340);
        message[0] = REPLY;
        let whole = packet(&message);
        assert_eq!(reply(7, &whole), Some(1340));
        assert_eq!(reply(8, &whole), None);
        assert_eq!(reply(7, &whole[..1300]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..100), identifier: u16) {
            let _ = reply(identifier, &bytes);
            let _ = checksum(&bytes);
        }
    }
}
