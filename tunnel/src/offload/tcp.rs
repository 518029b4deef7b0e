//! Where things lie in the headers of TCP over IPv4 (RFC 791, RFC 9293) and IPv6 (RFC 8200).

use super::checksum::Sum;
use super::header::Version;
use std::ops::Range;

/// TCP's number as an Internet protocol.
pub(super) const PROTOCOL: u8 = 6;
/// The length of an IPv4 header without options.
pub(super) const IPV4: usize = 20;
/// The length of an IPv6 header.
pub(super) const IPV6: usize = 40;
/// The length of a TCP header without options.
pub(super) const HEADER: usize = 20;

/// In the TCP header.
pub(super) const SEQUENCE: Range<usize> = 4..8;
/// In the TCP header.
pub(super) const FLAGS: usize = 13;
/// In the TCP header.
pub(super) const CHECKSUM: usize = 16;
/// In the IPv4 header.
pub(super) const IDENTIFICATION: Range<usize> = 4..6;

/// The sender has nothing more.
pub(super) const FIN: u8 = 0x01;
/// The receiver should hand over what it has.
pub(super) const PSH: u8 = 0x08;
/// The acknowledgement counts.
pub(super) const ACK: u8 = 0x10;
/// The congestion window was reduced (RFC 3168).
pub(super) const CWR: u8 = 0x80;

/// A 16-bit number in a header.
pub(super) fn number(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// The sequence number of the TCP header at `start`.
pub(super) fn sequence(packet: &[u8], start: usize) -> u32 {
    let at = start + SEQUENCE.start;
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// The length of the TCP header at `start`, if it is all there.
pub(super) fn header_length(packet: &[u8], start: usize) -> Option<usize> {
    let length = usize::from(*packet.get(start + 12)? >> 4) * 4;
    (length >= HEADER && start + length <= packet.len()).then_some(length)
}

/// The sum of the pseudo header: addresses, protocol, and the length of header and payload.
pub(super) fn pseudo_header(packet: &[u8], version: Version, length: usize) -> Sum {
    let addresses = match version {
        Version::Four => &packet[12..20],
        Version::Six => &packet[8..40],
    };
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    Sum::default()
        .with(addresses)
        .with_number(u16::from(PROTOCOL))
        .with_number(length)
}

/// Writes the length of the whole packet into the Internet header, and IPv4's checksum, for a header that ends at `start`.
pub(super) fn set_length(packet: &mut [u8], version: Version, start: usize, length: usize) {
    let number = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    match version {
        Version::Four => {
            packet[2..4].copy_from_slice(&number(length));
            packet[10..12].fill(0);
            let checksum = Sum::default().with(&packet[..start]).checksum();
            packet[10..12].copy_from_slice(&checksum);
        }
        Version::Six => packet[4..6].copy_from_slice(&number(length - IPV6)),
    }
}
