//! Splitting and joining held against each other, and against a plain model of what a wire carries.

use super::checksum::Sum;
use super::header::Version;
use super::*;
use proptest::prelude::*;
use std::ops::Range;

#[derive(Clone, Debug)]
struct Flow {
    version: Version,
    port: u16,
    sequence: u32,
    options: usize,
    identification: u16,
}

/// One packet as an honest kernel sends it.
fn packet(flow: &Flow, flags: u8, payload: &[u8]) -> Vec<u8> {
    let tcp_length = 20 + flow.options + payload.len();
    let mut packet = match flow.version {
        Version::Four => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
            header.extend([10, 99, 0, 10, 10, 99, 0, 1]);
            header[2..4].copy_from_slice(&u16::try_from(20 + tcp_length).unwrap().to_be_bytes());
            header[4..6].copy_from_slice(&flow.identification.to_be_bytes());
            let checksum = Sum::default().with(&header).checksum();
            header[10..12].copy_from_slice(&checksum);
            header
        }
        Version::Six => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
            header[4..6].copy_from_slice(&u16::try_from(tcp_length).unwrap().to_be_bytes());
            header.extend([0xfd; 32]);
            header
        }
    };
    let start = packet.len();
    packet.extend(flow.port.to_be_bytes());
    packet.extend([0x15, 0xb3]);
    packet.extend(flow.sequence.to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend([
        u8::try_from((20 + flow.options) / 4).unwrap() << 4,
        flags,
        1,
        0,
        0,
        0,
        0,
        0,
    ]);
    packet.extend(vec![1; flow.options]);
    packet.extend(payload);
    let sum = tcp::pseudo_header(&packet, flow.version, tcp_length).with(&packet[start..]);
    packet[start + 16..start + 18].copy_from_slice(&sum.checksum());
    packet
}

/// A stretch of a connection, in segments of `size` bytes and one shorter.
fn stretch(flow: &Flow, size: usize, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut flow = flow.clone();
    let count = payload.chunks(size).len();
    let segments = payload.chunks(size).enumerate().map(|(index, part)| {
        let packet = packet(&flow, if index + 1 == count { 0x18 } else { 0x10 }, part);
        flow.sequence = flow.sequence.wrapping_add(u32::try_from(part.len()).unwrap());
        flow.identification = flow.identification.wrapping_add(1);
        packet
    });
    segments.collect()
}

fn laid_out(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut bytes = Vec::new();
    let ranges = packets.iter().map(|packet| {
        let start = bytes.len();
        bytes.extend(packet);
        start..bytes.len()
    });
    let ranges = ranges.collect();
    (bytes, ranges)
}

/// What the device would be given, each with its header.
fn joined(packets: &[Vec<u8>]) -> Vec<(Offload, Vec<u8>)> {
    let (mut bytes, ranges) = laid_out(packets);
    let mut groups = Vec::new();
    join(&mut bytes, &ranges, &mut groups);
    let whole = |group: &Joined| {
        let pieces = std::iter::once(&group.first).chain(&group.rest);
        let packet = pieces.flat_map(|piece| bytes[piece.clone()].to_vec()).collect();
        (
            Offload::read(&group.offload.write(group.payload)).unwrap(),
            packet,
        )
    };
    groups.iter().map(whole).collect()
}

fn split_again(joined: Vec<(Offload, Vec<u8>)>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (offload, mut packet) in joined {
        split(&mut packet, offload, |segment| packets.push(segment.to_vec())).unwrap();
    }
    packets
}

fn is_whole(packet: &[u8]) -> bool {
    let (version, start) = match packet[0] >> 4 {
        4 => (Version::Four, 20),
        _ => (Version::Six, 40),
    };
    let internet = version == Version::Six || Sum::default().with(&packet[..20]).is_whole();
    internet
        && tcp::pseudo_header(packet, version, packet.len() - start)
            .with(&packet[start..])
            .is_whole()
}

fn flow() -> impl Strategy<Value = Flow> {
    (any::<bool>(), 1u16..4, any::<u32>(), 0usize..=10, any::<u16>()).prop_map(
        |(four, port, sequence, options, identification)| Flow {
            version: if four { Version::Four } else { Version::Six },
            port,
            sequence,
            options: options * 4,
            identification,
        },
    )
}

proptest! {
    #[test]
    fn what_is_split_of_what_was_joined_is_what_arrived(
        flow in flow(), size in 1usize..1400, payload in prop::collection::vec(any::<u8>(), 1..20_000),
    ) {
        let size = size.max(payload.len() / 40);
        let packets = stretch(&flow, size, &payload);
        let joined = joined(&packets);
        prop_assert_eq!(joined.len(), 1, "an unbroken stretch becomes one packet");
        prop_assert_eq!(split_again(joined), packets);
    }

    #[test]
    fn all_connections_keep_their_packets_and_their_order(
        flows in prop::collection::vec((flow(), 1usize..900, 1usize..4000, any::<u8>()), 1..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        damaged in any::<prop::sample::Index>(),
    ) {
        let mut waiting: Vec<_> = flows.iter().map(|(flow, size, length, flags)| {
            let mut packets = stretch(flow, size.max(&(length / 20)).to_owned(), &vec![*flags; *length]);
            // Some connections end, or only acknowledge.
            if flags & 1 != 0 { packets.push(packet(flow, flags | 0x10, &[])); }
            std::collections::VecDeque::from(packets)
        }).collect();
        let mut packets = Vec::new();
        for index in order {
            let mut left: Vec<_> = waiting.iter_mut().filter(|packets| !packets.is_empty()).collect();
            if left.is_empty() { break; }
            let place = index.index(left.len());
            packets.extend(left[place].pop_front());
        }
        packets.extend(waiting.into_iter().flatten());
        // A wrong checksum must still be wrong for whoever receives it.
        let damaged = damaged.index(packets.len());
        *packets[damaged].last_mut().unwrap() ^= 0x55;
        let again = split_again(joined(&packets));
        let of = |packets: &[Vec<u8>], port: u16, version: u8| -> Vec<Vec<u8>> {
            let start = if version == 4 { 20 } else { 40 };
            packets.iter().filter(|packet| packet[0] >> 4 == version && tcp::number(packet, start) == port).cloned().collect()
        };
        for port in 1..4 {
            for version in [4, 6] {
                prop_assert_eq!(of(&again, port, version), of(&packets, port, version));
            }
        }
    }

    #[test]
    fn a_super_packet_becomes_segments_that_a_wire_carries(
        flow in flow(), size in 1usize..2000, payload in prop::collection::vec(any::<u8>(), 1..30_000), flags: u8,
    ) {
        let size = size.max(payload.len() / 60);
        let mut whole = packet(&flow, flags, &payload);
        let start = if flow.version == Version::Four { 20 } else { 40 };
        let mut segments = Vec::new();
        split(&mut whole, Offload::Tcp { version: flow.version, start, size }, |segment| segments.push(segment.to_vec())).unwrap();
        let headers = start + 20 + flow.options;
        let carried: Vec<u8> = segments.iter().flat_map(|segment| segment[headers..].to_vec()).collect();
        prop_assert_eq!(carried, payload);
        let last = segments.len() - 1;
        for (index, segment) in segments.iter().enumerate() {
            prop_assert!(is_whole(segment));
            let expected = flow.sequence.wrapping_add(u32::try_from(index * size).unwrap());
            prop_assert_eq!(tcp::sequence(segment, start), expected);
            let dropped = if index < last { 0x09 } else { 0 } | if index > 0 { 0x80 } else { 0 };
            prop_assert_eq!(segment[start + 13], flags & !dropped);
        }
    }

    #[test]
    fn noise_is_neither_lost_nor_panics(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 1..20),
        first in prop::sample::select(vec![0x45u8, 0x46, 0x60, 0x00]),
        header in prop::array::uniform10(any::<u8>()),
    ) {
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|mut packet| {
            packet[0] = first;
            if packet.len() > 9 { packet[9] = 6; packet[6] = 6; }
            packet
        }).collect();
        prop_assert_eq!(split_again(joined(&packets)).len(), packets.len());
        for mut packet in packets {
            if let Some(offload) = Offload::read(&header) {
                let _ = split(&mut packet, offload, |_| {});
            }
        }
    }
}

#[test]
fn a_checksum_that_was_left_to_us_is_made() {
    let flow = Flow {
        version: Version::Four,
        port: 1,
        sequence: 7,
        options: 0,
        identification: 1,
    };
    let right = packet(&flow, 0x10, b"odd");
    let mut left = right.clone();
    let sum = tcp::pseudo_header(&left, Version::Four, left.len() - 20).folded();
    left[36..38].copy_from_slice(&sum);
    let mut made = Vec::new();
    split(
        &mut left,
        Offload::Checksum {
            start: 20,
            offset: 16,
        },
        |packet| made = packet.to_vec(),
    )
    .unwrap();
    assert_eq!(made, right);
}

#[test]
fn an_offload_that_does_not_fit_is_refused() {
    let mut short = vec![0x45; 30];
    let tcp = Offload::Tcp {
        version: Version::Four,
        start: 20,
        size: 1,
    };
    for offload in [
        tcp,
        Offload::Checksum { start: 29, offset: 0 },
        Offload::Checksum {
            start: usize::MAX,
            offset: 1,
        },
    ] {
        assert!(split(&mut short, offload, |_| panic!("emitted")).is_err());
    }
}

#[test]
fn a_joined_packet_is_no_longer_than_ip_allows() {
    let flow = Flow {
        version: Version::Four,
        port: 1,
        sequence: 0,
        options: 0,
        identification: 0,
    };
    let packets: Vec<_> = stretch(&flow, 1000, &vec![5; 60_000])
        .into_iter()
        .chain(stretch(
            &Flow {
                sequence: 60_000,
                identification: 60,
                ..flow.clone()
            },
            1000,
            &vec![6; 60_000],
        ))
        .collect();
    // Without PSH in between, nothing but the length ends the first.
    let packets: Vec<_> = packets
        .iter()
        .enumerate()
        .map(|(index, old)| {
            packet(
                &Flow {
                    sequence: u32::try_from(index * 1000).unwrap(),
                    identification: u16::try_from(index).unwrap(),
                    ..flow.clone()
                },
                0x10,
                &old[40..],
            )
        })
        .collect();
    let joined = joined(&packets);
    assert_eq!(
        joined.iter().map(|(_, packet)| packet.len()).collect::<Vec<_>>(),
        [65_040, 55_040]
    );
    assert_eq!(split_again(joined), packets);
}
