//! From what a TUN device hands over to packets that a wire carries.
//!
//! Nothing is moved: a segment needs its headers right before its payload, and what lies there is the end of the payload before, which has been
//! dealt with by then. So the headers are written over it, segment by segment, and each is emitted where it lies.

use super::checksum::Sum;
use super::header::{Offload, Version};
use super::tcp::{self, CHECKSUM, CWR, FIN, FLAGS, IDENTIFICATION, PSH, SEQUENCE};

/// Longer headers there are not: IPv6 with extensions of some hundred bytes, and 60 bytes of TCP.
const LONGEST: usize = 512;

/// A packet is not what its offload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {length} bytes does not fit its offload {offload:?}")]
pub(crate) struct Unfit {
    length: usize,
    offload: Offload,
}

/// Finishes what `offload` leaves to be done and emits the packets that come of it, in order. What `packet` holds afterwards has no meaning.
///
/// # Errors
/// [`Unfit`]; then nothing was emitted.
pub(crate) fn split(packet: &mut [u8], offload: Offload, emit: impl FnMut(&[u8])) -> Result<(), Unfit> {
    let length = packet.len();
    try_split(packet, offload, emit).ok_or(Unfit { length, offload })
}

fn try_split(packet: &mut [u8], offload: Offload, mut emit: impl FnMut(&[u8])) -> Option<()> {
    match offload {
        Offload::Whole => {}
        Offload::Checksum { start, offset } => {
            let at = start.checked_add(offset)?;
            if at + 2 > packet.len() {
                return None;
            }
            let mut checksum = Sum::default().with(&packet[start..]).checksum();
            if checksum == [0, 0] {
                // To UDP, zero means that there is none (RFC 768); to all others both mean the same.
                checksum = [0xff, 0xff];
            }
            packet[at..at + 2].copy_from_slice(&checksum);
        }
        Offload::Tcp { version, start, size } => return split_tcp(packet, version, start, size, emit),
    }
    emit(packet);
    Some(())
}

/// What all segments' headers have in common.
struct Template {
    version: Version,
    start: usize,
    bytes: [u8; LONGEST],
    length: usize,
    sequence: u32,
    identification: u16,
}

fn split_tcp(
    packet: &mut [u8],
    version: Version,
    start: usize,
    size: usize,
    mut emit: impl FnMut(&[u8]),
) -> Option<()> {
    let template = Template::of(packet, version, start)?;
    let headers = template.length;
    let (mut begin, mut index) = (headers, 0);
    loop {
        let end = packet.len().min(begin + size);
        let is_last = end == packet.len();
        let segment = &mut packet[begin - headers..end];
        template.put(segment, index, index * size, is_last);
        emit(segment);
        if is_last {
            return Some(());
        }
        (begin, index) = (end, index + 1);
    }
}

impl Template {
    fn of(packet: &[u8], version: Version, start: usize) -> Option<Self> {
        let shortest = match version {
            Version::Four => tcp::IPV4,
            Version::Six => tcp::IPV6,
        };
        let length = start + tcp::header_length(packet, start)?;
        if start < shortest || length > LONGEST {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes[..length].copy_from_slice(&packet[..length]);
        bytes[start + CHECKSUM..start + CHECKSUM + 2].fill(0);
        Some(Self {
            version,
            start,
            bytes,
            length,
            sequence: tcp::sequence(packet, start),
            identification: tcp::number(packet, IDENTIFICATION.start),
        })
    }

    /// Writes the headers of the segment number `index`, which begins at `offset` of the stream's part.
    fn put(&self, segment: &mut [u8], index: usize, offset: usize, is_last: bool) {
        let length = segment.len();
        segment[..self.length].copy_from_slice(&self.bytes[..self.length]);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "both count around, as the fields do"
        )]
        let (index, offset) = (index as u16, offset as u32);
        if self.version == Version::Four {
            let identification = self.identification.wrapping_add(index);
            segment[IDENTIFICATION].copy_from_slice(&identification.to_be_bytes());
        }
        tcp::set_length(segment, self.version, self.start, length);
        let pseudo = tcp::pseudo_header(segment, self.version, length - self.start);
        let header = &mut segment[self.start..];
        header[SEQUENCE].copy_from_slice(&self.sequence.wrapping_add(offset).to_be_bytes());
        if !is_last {
            header[FLAGS] &= !(FIN | PSH);
        }
        if index > 0 {
            header[FLAGS] &= !CWR;
        }
        let checksum = pseudo.with(header).checksum();
        header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum);
    }
}
