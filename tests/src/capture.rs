//! What crossed the lender's bridge, and a search in it.
//!
//! A text may lie across two packets, so each TCP connection is also put together by sequence number before it is searched. A
//! program that searches for secrets must not be fooled by a clever split, nor by a retransmission.

use crate::daemon::Daemon;
use crate::network::{LENDER_BRIDGE, Network};
use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running tcpdump(8) on the lender's bridge.
pub struct Capture {
    tcpdump: Daemon,
    file: PathBuf,
}

impl Capture {
    /// Captures whole packets from now on.
    pub async fn start(network: &Network, folder: &Path) -> Result<Self> {
        let file = folder.join("lender.pcap");
        let mut command = network.lender.command("tcpdump");
        // -Z root: the file's folder may be closed to the user that Debian's tcpdump becomes.
        command.args([
            "-i",
            LENDER_BRIDGE,
            "-s",
            "0",
            "-U",
            "-n",
            "-B",
            "65536",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(&file);
        let mut tcpdump = Daemon::start("tcpdump", command, &folder.join("tcpdump.log"))?;
        tcpdump.ready("listening on", Duration::from_secs(20)).await?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture and reads it.
    pub async fn stop(mut self) -> Result<Packets> {
        self.tcpdump.terminate(Duration::from_secs(20)).await?;
        let summary = self.tcpdump.said().tail(5);
        ensure!(
            summary.contains("\n0 packets dropped by kernel")
                || summary.starts_with("0 packets dropped by kernel"),
            "the capture is not complete:\n{summary}"
        );
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        Packets::parse(bytes).with_context(|| format!("cannot read the capture {}", self.file.display()))
    }
}

/// A finished capture.
pub struct Packets {
    bytes: Vec<u8>,
    streams: Vec<Stream>,
}

struct Stream {
    name: String,
    content: Vec<u8>,
}

/// One direction of a TCP connection.
type Flow = (Ipv4Addr, u16, Ipv4Addr, u16);

impl Packets {
    /// Reads a little-endian pcap file of Ethernet frames.
    fn parse(bytes: Vec<u8>) -> Result<Self> {
        ensure!(
            bytes.len() >= 24 && bytes[..4] == 0xa1b2_c3d4_u32.to_le_bytes(),
            "not a little-endian pcap file"
        );
        let mut flows: BTreeMap<Flow, Segments> = BTreeMap::new();
        let mut rest = &bytes[24..];
        while let Some((header, after)) = rest.split_at_checked(16) {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else {
                break;
            };
            if let Some(segment) = TcpSegment::parse(frame) {
                flows.entry(segment.flow).or_default().add(&segment);
            }
            rest = after;
        }
        let streams = flows
            .into_iter()
            .map(|((from, from_port, to, to_port), segments)| Stream {
                name: format!("{from}:{from_port} to {to}:{to_port}"),
                content: segments.join(),
            });
        Ok(Self {
            streams: streams.collect(),
            bytes,
        })
    }

    /// Where `needle` stands in clear, in words; empty when nowhere.
    pub fn find(&self, needle: &[u8]) -> Vec<String> {
        let finder = memmem::Finder::new(needle);
        let raw = finder
            .find(&self.bytes)
            .map(|at| format!("byte {at} of the capture"));
        let streams = self.streams.iter().filter_map(|stream| {
            let at = finder.find(&stream.content)?;
            Some(format!("byte {at} from {}", stream.name))
        });
        raw.into_iter().chain(streams).collect()
    }

    /// How many bytes were captured.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

struct TcpSegment<'a> {
    flow: Flow,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> TcpSegment<'a> {
    /// The segment of an Ethernet frame with IPv4 (RFC 791) and TCP (RFC 9293), when it carries anything.
    fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        if frame[12..14] != [0x08, 0x00] || packet.get(9) != Some(&6) {
            return None;
        }
        let header = usize::from(packet[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let address = |at: usize| -> Option<Ipv4Addr> {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?))
        };
        // A length of 0 is a segment that the sender's card was to cut (offload): it goes to the end of the frame.
        let end = if total == 0 { packet.len() } else { total };
        let tcp = packet.get(header..end.min(packet.len()))?;
        let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        (!payload.is_empty()).then_some(Self {
            flow: (address(12)?, port(0)?, address(16)?, port(2)?),
            sequence,
            payload,
        })
    }
}

/// Pieces of a stream by their distance from the first one seen.
#[derive(Default)]
struct Segments {
    first: Option<u32>,
    pieces: BTreeMap<i64, Vec<u8>>,
    latest: i64,
}

impl Segments {
    fn add(&mut self, segment: &TcpSegment<'_>) {
        let first = *self.first.get_or_insert(segment.sequence);
        // Sequence numbers wrap after 4 GiB: the place nearest to the latest one is meant.
        let low = i64::from(segment.sequence.wrapping_sub(first));
        let turns = (self.latest - low + (1 << 31)).div_euclid(1 << 32);
        let place = low + (turns << 32);
        self.latest = self.latest.max(place);
        let piece = self.pieces.entry(place).or_default();
        if piece.len() < segment.payload.len() {
            *piece = segment.payload.to_vec();
        }
    }

    /// The stream without repetitions. A gap is closed up: a needle is then looked for in what was seen.
    fn join(self) -> Vec<u8> {
        let mut content = Vec::new();
        let mut next = i64::MIN;
        for (place, piece) in self.pieces {
            let seen = usize::try_from(next.saturating_sub(place).max(0)).unwrap_or(usize::MAX);
            if let Some(new) = piece.get(seen..) {
                content.extend_from_slice(new);
            }
            next = next.max(place + i64::try_from(piece.len()).unwrap_or(0));
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 1]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    fn capture(frames: &[Vec<u8>]) -> Packets {
        let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        bytes.resize(24, 0);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            bytes.extend([0; 8]);
            bytes.extend(length);
            bytes.extend(length);
            bytes.extend(frame);
        }
        Packets::parse(bytes).unwrap()
    }

    #[test]
    fn finds_a_text_across_packets_out_of_order_repeated_and_over_the_wrap() {
        let start = u32::MAX - 1;
        let packets = capture(&[
            frame(start, b"a se"),
            frame(start.wrapping_add(8), b"word"),
            frame(start.wrapping_add(4), b"cret"),
            frame(start.wrapping_add(2), b"secr"),
        ]);
        assert_eq!(packets.find(b"secretword").len(), 1, "only as a stream");
        assert_eq!(packets.find(b"cret").len(), 2, "in the raw bytes as well");
        assert!(packets.find(b"password").is_empty());
    }
}
