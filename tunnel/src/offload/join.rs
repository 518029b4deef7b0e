//! From packets that have arrived to what a TUN device takes at once: segments of one TCP connection that follow each other become one packet.
//!
//! The rules are those of the kernel's own receive offload (`net/ipv4/tcp_offload.c`): the headers are alike but for what counts on, all segments are equally long but
//! the last, and only the last may carry PSH. Who sends the joined packet on therefore sends the very packets that arrived. A joined packet says that its
//! checksum is right, so each segment's is verified first. Payload is not moved: the device is given the pieces.

use super::checksum::Sum;
use super::header::{Offload, Version};
use super::tcp::{self, ACK, CHECKSUM, FLAGS, IDENTIFICATION, PROTOCOL, PSH};
use std::ops::Range;

/// The length of the longest IP packet.
const LONGEST: usize = 65_535;
/// Connections whose packets are waited for at a time.
const MOST_OPEN: usize = 16;

/// One packet for the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The packet, or the first segment with its headers.
    pub(crate) first: Range<usize>,
    /// The payloads that follow.
    pub(crate) rest: Vec<Range<usize>>,
    /// What the device's header says.
    pub(crate) offload: Offload,
    /// Where the headers of the first end.
    pub(crate) payload: usize,
}

/// A packet that may be joined.
#[derive(Clone, Copy, Debug)]
struct Segment {
    version: Version,
    /// Where the TCP header begins.
    start: usize,
    /// Where the payload begins.
    payload: usize,
    /// The payload's length.
    size: usize,
}

/// A packet that may still grow.
struct Open {
    index: usize,
    first: Segment,
    /// Payload so far.
    bytes: usize,
    count: u16,
    verified: bool,
}

/// Joins the packets that lie at `ranges` of `bytes`, in the order in which they arrived; the order within a connection stays.
pub(crate) fn join(bytes: &mut [u8], ranges: &[Range<usize>], joined: &mut Vec<Joined>) {
    joined.clear();
    let mut open: Vec<Open> = Vec::new();
    for range in ranges {
        let Some(segment) = Segment::of(&bytes[range.clone()]) else {
            joined.push(Joined::alone(range));
            continue;
        };
        let known = open.iter().position(|open| {
            let first = &bytes[joined[open.index].first.clone()];
            open.first.is_of_connection(first, &bytes[range.clone()], segment)
        });
        // Whatever becomes of this packet, nothing that comes later may be put before it.
        let candidate = known.map(|place| open.swap_remove(place));
        if let Some(mut candidate) = candidate
            && candidate.takes(bytes, &joined[candidate.index].first, range, segment)
        {
            let into = &mut joined[candidate.index];
            into.rest.push(range.start + segment.payload..range.end);
            if candidate.add(bytes, &into.first, range, segment) {
                open.push(candidate);
            }
            continue;
        }
        let packet = &bytes[range.clone()];
        if segment.is_joinable(packet) && packet[segment.start + FLAGS] & PSH == 0 {
            if open.len() == MOST_OPEN {
                open.remove(0);
            }
            open.push(Open::new(joined.len(), segment));
        }
        joined.push(Joined::alone(range));
    }
    for one in joined.iter_mut().filter(|one| !one.rest.is_empty()) {
        one.finish(bytes);
    }
}

impl Joined {
    fn alone(range: &Range<usize>) -> Self {
        Self {
            first: range.clone(),
            rest: Vec::new(),
            offload: Offload::Whole,
            payload: 0,
        }
    }

    /// Makes the first segment's headers those of all.
    fn finish(&mut self, bytes: &mut [u8]) {
        let length = self.first.len() + self.rest.iter().map(ExactSizeIterator::len).sum::<usize>();
        let packet = &mut bytes[self.first.clone()];
        let Some(Segment {
            version,
            start,
            payload,
            size,
        }) = Segment::of(packet)
        else {
            return;
        };
        tcp::set_length(packet, version, start, length);
        let sum = tcp::pseudo_header(packet, version, length - start).folded();
        packet[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&sum);
        self.payload = payload;
        self.offload = Offload::Tcp { version, start, size };
    }
}

impl Segment {
    /// Any packet of TCP that is no fragment, and as long as it says.
    fn of(packet: &[u8]) -> Option<Self> {
        let (version, start) = match packet.first()? {
            0x45 if packet.len() >= tcp::IPV4 => {
                let is_fragment = tcp::number(packet, 6) & 0x3fff != 0;
                if is_fragment || packet[9] != PROTOCOL || usize::from(tcp::number(packet, 2)) != packet.len()
                {
                    return None;
                }
                (Version::Four, tcp::IPV4)
            }
            first if first >> 4 == 6 && packet.len() >= tcp::IPV6 => {
                if packet[6] != PROTOCOL || usize::from(tcp::number(packet, 4)) + tcp::IPV6 != packet.len() {
                    return None;
                }
                (Version::Six, tcp::IPV6)
            }
            _ => return None,
        };
        let payload = start + tcp::header_length(packet, start)?;
        Some(Self {
            version,
            start,
            payload,
            size: packet.len() - payload,
        })
    }

    /// Whether it carries data and nothing but data.
    fn is_joinable(self, packet: &[u8]) -> bool {
        self.size > 0 && packet[self.start + FLAGS] & !PSH == ACK
    }

    /// Whether it and another are from one end of one connection.
    fn is_of_connection(self, ours: &[u8], theirs: &[u8], other: Self) -> bool {
        let addresses = match self.version {
            Version::Four => 12..20,
            Version::Six => 8..40,
        };
        self.version == other.version
            && ours[addresses.clone()] == theirs[addresses]
            && ours[self.start..self.start + 4] == theirs[other.start..other.start + 4]
    }

    /// Whether all that is not counted is alike in the headers of two packets of one connection.
    fn is_alike(self, ours: &[u8], theirs: &[u8], other: Self) -> bool {
        let internet = match self.version {
            Version::Four => ours[..2] == theirs[..2] && ours[6..10] == theirs[6..10],
            Version::Six => ours[..4] == theirs[..4] && ours[6..8] == theirs[6..8],
        };
        let (ours, theirs) = (&ours[self.start..], &theirs[other.start..]);
        let (length, others) = (self.payload - self.start, other.payload - other.start);
        // Acknowledgement and length; window; options.
        internet
            && length == others
            && ours[8..13] == theirs[8..13]
            && ours[14..16] == theirs[14..16]
            && ours[tcp::HEADER..length] == theirs[tcp::HEADER..length]
    }

    /// Whether its checksums are right.
    fn is_whole(self, packet: &[u8]) -> bool {
        let internet = match self.version {
            Version::Four => Sum::default().with(&packet[..tcp::IPV4]).is_whole(),
            Version::Six => true,
        };
        let length = packet.len() - self.start;
        internet
            && tcp::pseudo_header(packet, self.version, length)
                .with(&packet[self.start..])
                .is_whole()
    }
}

impl Open {
    fn new(index: usize, first: Segment) -> Self {
        Self {
            index,
            first,
            bytes: first.size,
            count: 1,
            verified: false,
        }
    }

    /// Whether a packet of the same connection is the next segment.
    fn takes(&mut self, bytes: &[u8], first: &Range<usize>, range: &Range<usize>, segment: Segment) -> bool {
        let (ours, theirs) = (&bytes[first.clone()], &bytes[range.clone()]);
        let start = self.first.start;
        let expected = tcp::sequence(ours, start).wrapping_add(u32::try_from(self.bytes).unwrap_or(0));
        let follows = segment.is_joinable(theirs)
            && segment.size <= self.first.size
            && self.first.payload + self.bytes + segment.size <= LONGEST
            && tcp::sequence(theirs, segment.start) == expected
            && self.first.is_alike(ours, theirs, segment)
            && self.is_numbered_on(ours, theirs);
        if !follows {
            return false;
        }
        self.verified = self.verified || self.first.is_whole(ours);
        self.verified && segment.is_whole(theirs)
    }

    /// The identification counts on, as it does in the packets that come of splitting. Where fragments are forbidden it has no meaning (RFC 6864), but the
    /// same must come of splitting again.
    fn is_numbered_on(&self, ours: &[u8], theirs: &[u8]) -> bool {
        self.first.version == Version::Six
            || tcp::number(theirs, IDENTIFICATION.start)
                == tcp::number(ours, IDENTIFICATION.start).wrapping_add(self.count)
    }

    /// Counts a segment that was taken; whether there may be more.
    fn add(
        &mut self,
        bytes: &mut [u8],
        first: &Range<usize>,
        range: &Range<usize>,
        segment: Segment,
    ) -> bool {
        self.bytes += segment.size;
        self.count += 1;
        let pushed = bytes[range.start + segment.start + FLAGS] & PSH;
        bytes[first.start + self.first.start + FLAGS] |= pushed;
        pushed == 0 && segment.size == self.first.size
    }
}
