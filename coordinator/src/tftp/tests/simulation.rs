//! [`Transfer`] against a client of RFC 1350 and 7440 over a network that delays, reorders, doubles and loses packets, in virtual time.

use crate::tftp::transfer::{CONFIRMED_SENDS, UNCONFIRMED_SENDS};
use crate::tftp::{End, Event, Outgoing, ReadRequest, Terms, Transfer};
use bytes::Bytes;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How long the client waits before it says again what it said last.
const CLIENT_WAIT: Duration = Duration::from_secs(3);
const CLIENT_TRIES: u32 = 12;

/// What the network does to the packets, in the order in which they are sent: the list starts again at its end.
#[derive(Clone, Debug)]
struct Network {
    fates: Vec<Fate>,
    sent: usize,
}

#[derive(Clone, Copy, Debug)]
struct Fate {
    lost: bool,
    doubled: bool,
    delay_ms: u64,
}

impl Network {
    fn next(&mut self) -> Fate {
        let fate = self.fates[self.sent % self.fates.len()];
        self.sent += 1;
        fate
    }
}

/// A client that acknowledges each full window, each gap once, and its last block again when that comes again.
struct Client {
    block_size: usize,
    window: u64,
    negotiated: bool,
    received: Vec<u8>,
    blocks: u64,
    since_ack: u64,
    gap_told: bool,
    complete: bool,
    tries: u32,
}

impl Client {
    fn receive(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let opcode = packet[1];
        if opcode == 6 {
            return (self.blocks == 0).then(|| ack(0));
        }
        assert_eq!(opcode, 3, "the server sends OACK and DATA only");
        self.tries = 0;
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        let expected = u16::try_from((self.blocks + 1) & 0xffff).unwrap();
        if number != expected || self.complete {
            let ahead = number.wrapping_sub(expected) < 0x8000;
            // Lockstep clients acknowledge what comes again, window clients tell a gap once.
            let tell = if ahead && !self.complete {
                !std::mem::replace(&mut self.gap_told, true)
            } else {
                self.window == 1 || self.complete
            };
            return tell.then(|| self.ack());
        }
        self.blocks += 1;
        self.since_ack += 1;
        self.gap_told = false;
        self.received.extend_from_slice(&packet[4..]);
        self.complete = packet.len() - 4 < self.block_size;
        (self.complete || self.since_ack >= self.window).then(|| self.ack())
    }

    fn ack(&mut self) -> Vec<u8> {
        self.since_ack = 0;
        ack(u16::try_from(self.blocks & 0xffff).unwrap())
    }

    /// `None` when it gives up. The request itself is not sent again here: the service ignores repetitions.
    fn timeout(&mut self) -> Option<Vec<u8>> {
        self.tries += 1;
        (self.tries < CLIENT_TRIES && !self.complete && (self.blocks > 0 || self.negotiated))
            .then(|| self.ack())
    }
}

fn ack(number: u16) -> Vec<u8> {
    let [a, b] = number.to_be_bytes();
    vec![0, 4, a, b]
}

#[derive(Debug)]
struct Outcome {
    end: End,
    received: Vec<u8>,
    client_complete: bool,
    data_sent: usize,
    took: Duration,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    AtClient(Vec<u8>),
    AtServer(Vec<u8>),
    /// The client has heard nothing since this many packets.
    ClientTimer(u64),
}

fn terms(options: &[(&str, u64)], size: usize) -> Terms {
    let options = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
        .collect();
    let request = ReadRequest {
        name: "x".to_owned(),
        mode: "octet".to_owned(),
        options,
    };
    Terms::negotiate(&request, size as u64, 1500)
}

struct World {
    network: Network,
    arrivals: BinaryHeap<Reverse<(Instant, u64, Arrival)>>,
    sequence: u64,
    now: Instant,
    client: Client,
    heard: u64,
    data_sent: usize,
}

impl World {
    fn new(terms: &Terms, network: Network) -> Self {
        let client = Client {
            block_size: terms.block_size,
            window: terms.window,
            negotiated: false,
            received: Vec::new(),
            blocks: 0,
            since_ack: 0,
            gap_told: false,
            complete: false,
            tries: 0,
        };
        let (arrivals, now) = (BinaryHeap::new(), Instant::now());
        Self {
            network,
            arrivals,
            sequence: 0,
            now,
            client,
            heard: 0,
            data_sent: 0,
        }
    }

    fn send(&mut self, arrival: impl Fn(Vec<u8>) -> Arrival, packet: &[u8]) {
        let fate = self.network.next();
        for copy in 0..=u64::from(fate.doubled) {
            if !fate.lost {
                self.at(
                    Duration::from_millis(fate.delay_ms + copy * 40),
                    arrival(packet.to_vec()),
                );
            }
        }
    }

    fn at(&mut self, delay: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals
            .push(Reverse((self.now + delay, self.sequence, arrival)));
    }

    fn send_all(&mut self, transfer: &Transfer, out: &mut Vec<Outgoing>) {
        let mut packet = Vec::new();
        for outgoing in out.drain(..) {
            self.data_sent += usize::from(matches!(outgoing, Outgoing::Block(_)));
            transfer.encode(outgoing, &mut packet);
            self.send(Arrival::AtClient, &packet);
        }
    }

    /// Lets time pass until something concerns the server: a packet, or (`None`) its deadline.
    fn until_server(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        while self
            .arrivals
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= deadline)
        {
            let Reverse((at, _, arrival)) = self.arrivals.pop().unwrap();
            self.now = at;
            match arrival {
                Arrival::AtServer(packet) => return Some(packet),
                other => self.at_client(other),
            }
        }
        self.now = deadline;
        None
    }

    fn at_client(&mut self, arrival: Arrival) {
        let said = match arrival {
            Arrival::AtClient(packet) => {
                self.client.negotiated = true;
                self.heard += 1;
                self.at(CLIENT_WAIT, Arrival::ClientTimer(self.heard));
                self.client.receive(&packet)
            }
            Arrival::ClientTimer(heard) if heard == self.heard => {
                self.at(CLIENT_WAIT, Arrival::ClientTimer(heard));
                self.client.timeout()
            }
            _ => None,
        };
        if let Some(said) = said {
            self.send(Arrival::AtServer, &said);
        }
    }
}

fn simulate(file: &[u8], options: &[(&str, u64)], network: Network) -> Outcome {
    let terms = terms(options, file.len());
    let mut world = World::new(&terms, network);
    let (start, mut out) = (world.now, Vec::new());
    world.at(CLIENT_WAIT, Arrival::ClientTimer(0));
    let mut transfer = Transfer::start(Bytes::copy_from_slice(file), terms, start, &mut out);
    let end = loop {
        world.send_all(&transfer, &mut out);
        let packet = world.until_server(transfer.deadline());
        let event = packet.as_deref().map_or(Event::Deadline, Event::Datagram);
        transfer = match transfer.step(event, world.now, &mut out) {
            Ok(transfer) => transfer,
            Err(end) => break end,
        };
    };
    Outcome {
        end,
        received: world.client.received,
        client_complete: world.client.complete,
        data_sent: world.data_sent,
        took: world.now - start,
    }
}

fn perfect() -> Network {
    Network {
        fates: vec![Fate {
            lost: false,
            doubled: false,
            delay_ms: 1,
        }],
        sent: 0,
    }
}

fn dead() -> Network {
    Network {
        fates: vec![Fate {
            lost: true,
            doubled: false,
            delay_ms: 0,
        }],
        sent: 0,
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from((index / 7 + index / 512) % 251).unwrap())
        .collect()
}

#[test]
fn sizes_at_the_edge_of_a_block_arrive_whole() {
    for size in [0, 1, 511, 512, 513, 1024] {
        for options in [&[][..], &[("tsize", 0)], &[("windowsize", 4)]] {
            let outcome = simulate(&content(size), options, perfect());
            assert_eq!(
                (outcome.end, outcome.received == content(size)),
                (End::Complete, true),
                "{size} {options:?}"
            );
            assert_eq!(outcome.data_sent, size / 512 + 1);
        }
    }
}

#[test]
fn block_numbers_go_on_behind_65535() {
    let file = content(8 * 140_000 + 3);
    let outcome = simulate(&file, &[("blksize", 8), ("windowsize", 64)], perfect());
    assert_eq!(outcome.end, End::Complete);
    assert!(outcome.received == file);
}

#[test]
fn somebody_who_never_asked_gets_three_packets() {
    for (options, packets) in [(&[][..], UNCONFIRMED_SENDS), (&[("windowsize", 64)], 0)] {
        let outcome = simulate(&content(100_000), options, dead());
        assert_eq!((outcome.end, outcome.data_sent), (End::Silence, packets as usize));
        assert!(outcome.took <= Duration::from_secs(8), "{:?}", outcome.took);
    }
}

#[test]
fn a_client_that_vanishes_is_given_up_in_two_minutes() {
    let mut fates = vec![
        Fate {
            lost: false,
            doubled: false,
            delay_ms: 1
        };
        9
    ];
    fates.extend(vec![
        Fate {
            lost: true,
            doubled: false,
            delay_ms: 1
        };
        100_000
    ]);
    let outcome = simulate(&content(100_000), &[], Network { fates, sent: 0 });
    assert_eq!(outcome.end, End::Silence);
    assert!(
        outcome.data_sent <= 9 + CONFIRMED_SENDS as usize && outcome.took <= Duration::from_secs(120),
        "{outcome:?}"
    );
}

#[test]
fn a_probe_for_the_size_ends_with_the_clients_error() {
    let mut out = Vec::new();
    let transfer = Transfer::start(
        Bytes::from_static(b"x"),
        terms(&[("tsize", 0)], 1),
        Instant::now(),
        &mut out,
    );
    assert_eq!(out, [Outgoing::Oack]);
    let end = transfer
        .step(
            Event::Datagram(b"\0\x05\0\x08User aborted\0"),
            Instant::now(),
            &mut out,
        )
        .unwrap_err();
    assert_eq!(
        end,
        End::ClientError {
            code: 8,
            message: "User aborted".to_owned()
        }
    );
}

#[test]
fn a_client_that_keeps_asking_without_end_is_sent_away() {
    let (mut out, start) = (Vec::new(), Instant::now());
    let mut transfer = Transfer::start(
        Bytes::from(content(1 << 20)),
        terms(&[], 1 << 20),
        start,
        &mut out,
    );
    let ended = (1u16..2000).find_map(|number| {
        let now = start + Duration::from_secs(u64::from(number));
        let step = std::mem::replace(
            &mut transfer,
            Transfer::start(Bytes::new(), terms(&[], 0), start, &mut out),
        );
        match step.step(Event::Datagram(&ack(number)), now, &mut out) {
            Ok(next) => {
                transfer = next;
                None
            }
            Err(end) => Some((number, end)),
        }
    });
    assert_eq!(ended, Some((900, End::TooLong)));
}

fn fate(loss: u32, longest_delay: u64) -> impl Strategy<Value = Fate> {
    (0u32..100, 0u32..100, 0..=longest_delay).prop_map(move |(lost, doubled, delay_ms)| Fate {
        lost: lost < loss,
        doubled: doubled < 20,
        delay_ms,
    })
}

fn network(loss: u32, longest_delay: u64) -> impl Strategy<Value = Network> {
    // A prime number of fates, so that the same packet does not meet the same fate for ever.
    prop::collection::vec(fate(loss, longest_delay), 197).prop_map(|fates| Network { fates, sent: 0 })
}

/// A block size and a file of at most 1,000 such blocks. In a network that reorders every packet a window brings about one
/// block, so that many more of them come to the limit of a transfer's length, which is another property.
fn block_and_size() -> impl Strategy<Value = (u64, usize)> {
    (8usize..1500).prop_flat_map(|block| (Just(block as u64), 0..60_000.min(1000 * block)))
}

proptest! {
    #[test]
    fn doubling_and_reordering_never_stop_a_transfer(
        (block, size) in block_and_size(), window in 1u64..80, network in network(0, 300),
    ) {
        let file = content(size);
        let outcome = simulate(&file, &[("blksize", block), ("windowsize", window)], network);
        prop_assert_eq!(&outcome.end, &End::Complete);
        prop_assert!(outcome.received == file);
    }

    #[test]
    fn two_lost_packets_anywhere_never_stop_a_transfer(
        size in 0usize..20_000, window in 1u64..20, first in 0usize..60, second in 0usize..60,
    ) {
        let mut fates = vec![Fate { lost: false, doubled: false, delay_ms: 2 }; 100_000];
        fates[first].lost = true;
        fates[second].lost = true;
        let file = content(size);
        let outcome = simulate(&file, &[("windowsize", window)], Network { fates, sent: 0 });
        // When the very last ACK is lost, the client has all and may be gone: only the server cannot know.
        prop_assert!(outcome.client_complete && outcome.received == file, "{:?}", outcome.end);
    }

    #[test]
    fn a_bad_network_never_falsifies_a_file(
        size in 0usize..30_000, window in 1u64..70, network in network(25, 2000),
    ) {
        let file = content(size);
        let outcome = simulate(&file, &[("windowsize", window)], network);
        prop_assert!(file.starts_with(&outcome.received));
        if outcome.end == End::Complete {
            prop_assert!(outcome.client_complete && outcome.received == file);
        }
    }

    /// No storm: duplicated ACKs must not multiply the data (the sorcerer's apprentice).
    #[test]
    fn doubled_packets_do_not_multiply(size in 1usize..60_000, window in 1u64..70) {
        let fates = vec![Fate { lost: false, doubled: true, delay_ms: 1 }];
        let outcome = simulate(&content(size), &[("windowsize", window)], Network { fates, sent: 0 });
        prop_assert_eq!(&outcome.end, &End::Complete);
        prop_assert!(outcome.data_sent <= 3 * (size / 512 + 1) + 70, "{} blocks for {size} bytes", outcome.data_sent);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), opcode in 0u8..8) {
        let mut out = Vec::new();
        let with_opcode = [&[0, opcode][..], &bytes].concat();
        for datagram in [&bytes, &with_opcode] {
            let transfer = Transfer::start(Bytes::from_static(b"abc"), terms(&[("tsize", 0)], 3), Instant::now(), &mut out);
            let _ = transfer.step(Event::Datagram(datagram), Instant::now(), &mut out);
        }
    }
}
