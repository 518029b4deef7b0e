//! `struct virtio_net_hdr` (VIRTIO 1.2, section 5.1.6), which a TUN device with `IFF_VNET_HDR` puts before each packet.
//!
//! The device uses the machine's own order of bytes, as virtio did before version 1.

/// Its length in bytes.
pub(crate) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const WHOLE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;

/// What is left to be done with a packet before it is one that a wire carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Nothing.
    Whole,
    /// A checksum: what begins at `start` is summed, and the checksum stored `offset` behind that, where the sum of the pseudo header lies.
    Checksum {
        /// Where the transport header begins.
        start: usize,
        /// Where in it the checksum lies.
        offset: usize,
    },
    /// It is many segments of TCP.
    Tcp {
        /// Which Internet protocol.
        version: Version,
        /// Where the TCP header begins.
        start: usize,
        /// Payload of each segment but the last, in bytes; not zero.
        size: usize,
    },
}

/// Of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

impl Offload {
    /// Reads a header; `None` for a kind that we have not asked the device for.
    pub(crate) fn read(header: &[u8; LENGTH]) -> Option<Self> {
        let number = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        let (size, start, offset) = (number(4), number(6), number(8));
        let tcp = |version| (size > 0).then_some(Self::Tcp { version, start, size });
        match header[1] {
            WHOLE if header[0] & NEEDS_CHECKSUM == 0 => Some(Self::Whole),
            WHOLE => Some(Self::Checksum { start, offset }),
            TCP4 => tcp(Version::Four),
            TCP6 => tcp(Version::Six),
            _ => None,
        }
    }

    /// Writes the header of a packet whose headers end at `payload`.
    pub(crate) fn write(self, payload: usize) -> [u8; LENGTH] {
        let (flags, kind, size, start, offset) = match self {
            Self::Whole => return [0; LENGTH],
            Self::Checksum { start, offset } => (NEEDS_CHECKSUM, WHOLE, 0, start, offset),
            Self::Tcp { version, start, size } => {
                let kind = match version {
                    Version::Four => TCP4,
                    Version::Six => TCP6,
                };
                (NEEDS_CHECKSUM, kind, size, start, super::tcp::CHECKSUM)
            }
        };
        let mut header = [0; LENGTH];
        (header[0], header[1]) = (flags, kind);
        for (at, number) in [(2, payload), (4, size), (6, start), (8, offset)] {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            header[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_unknown() {
        let tcp = Offload::Tcp {
            version: Version::Six,
            start: 40,
            size: 1368,
        };
        let checksum = Offload::Checksum { start: 20, offset: 6 };
        for offload in [Offload::Whole, checksum, tcp] {
            assert_eq!(Offload::read(&offload.write(72)), Some(offload));
        }
        assert_eq!(Offload::read(&[1, 5, 0, 0, 100, 0, 20, 0, 6, 0]), None, "UDP");
        assert_eq!(
            Offload::read(&[1, TCP4, 0, 0, 0, 0, 20, 0, 16, 0]),
            None,
            "segments of nothing"
        );
    }
}
