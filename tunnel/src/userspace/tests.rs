//! Two stacks back to back, without sockets and with a clock of our own; and a tunnel over loopback.

use super::stack::{OpenError, Stack};
use super::*;
use crate::packets::Packets;
use crate::{InterfaceSettings, PeerSettings, PrivateKey};
use proptest::prelude::*;
use smoltcp::socket::tcp::State;
use std::time::Duration;

const PORT: u16 = 80;

struct Pair {
    client: Stack,
    server: Stack,
    now: Instant,
    to_server: Packets,
    to_client: Packets,
}

impl Pair {
    fn new(mtu: u16) -> Self {
        let now = Instant::now();
        Self {
            client: Stack::new("10.99.0.10/24".parse().unwrap(), mtu, 1, now),
            server: Stack::new("172.20.0.2/24".parse().unwrap(), mtu, 2, now),
            now,
            to_server: Packets::default(),
            to_client: Packets::default(),
        }
    }

    /// A millisecond in which packets cross, but those that `lost` takes away. Gives the longest one.
    fn step(&mut self, mut lost: impl FnMut() -> bool) -> usize {
        self.now += Duration::from_millis(1);
        self.client.give(self.now, &mut self.to_server);
        self.server.give(self.now, &mut self.to_client);
        let sent = std::mem::take(&mut self.to_server);
        let answered = std::mem::take(&mut self.to_client);
        for packet in sent.iter().filter(|_| !lost()) {
            self.server.take(packet, self.now, &mut self.to_client);
        }
        for packet in answered.iter().filter(|_| !lost()) {
            self.client.take(packet, self.now, &mut self.to_server);
        }
        sent.iter()
            .chain(answered.iter())
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0)
    }
}

fn server() -> SocketAddrV4 {
    "172.20.0.2:80".parse().unwrap()
}

/// Downloads `bytes` through `pair`; gives what came and the longest packet.
fn download(pair: &mut Pair, bytes: &[u8], mut lost: impl FnMut() -> bool) -> (Vec<u8>, usize) {
    let listening = pair.server.listen(PORT);
    let connection = pair.client.connect(server()).unwrap();
    let (mut sent, mut longest, mut received) = (0, 0, Vec::new());
    for _ in 0..200_000 {
        longest = longest.max(pair.step(&mut lost));
        if pair.server.tcp(listening).can_send() {
            sent += pair.server.tcp(listening).send_slice(&bytes[sent..]).unwrap();
            if sent == bytes.len() {
                pair.server.tcp(listening).close();
            }
        }
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = pair.client.tcp(connection).recv_slice(&mut piece) {
            received.extend_from_slice(&piece[..length]);
        }
        if pair.client.tcp(connection).state() == State::CloseWait && received.len() == bytes.len() {
            break;
        }
    }
    pair.client.tcp(connection).close();
    pair.client.abandon(connection);
    for _ in 0..2_000 {
        pair.step(&mut lost);
    }
    (received, longest)
}

#[test]
fn a_connection_carries_its_bytes_and_leaves_nothing_behind() {
    let mut pair = Pair::new(1420);
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n / 7) as u8).collect();
    let (received, longest) = download(&mut pair, &bytes, || false);
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    assert_eq!(longest, 1420);
    assert_eq!(pair.client.count(), 0);
}

#[test]
fn a_smaller_mtu_holds_from_the_next_packet_on() {
    let mut pair = Pair::new(1420);
    let handle = pair.server.listen(PORT);
    let connection = pair.client.connect(server()).unwrap();
    for _ in 0..10 {
        pair.step(|| false);
    }
    pair.client.set_mtu(600, 3);
    assert!(pair.client.tcp(connection).may_send());
    pair.client.tcp(connection).send_slice(&[7; 5000]).unwrap();
    let longest = (0..50).map(|_| pair.step(|| false)).max().unwrap();
    assert_eq!(longest, 600);
    assert_eq!(pair.server.tcp(handle).recv_queue(), 5000);
}

#[test]
fn nobody_there_is_refused_and_a_dropped_connection_is_reset() {
    let mut pair = Pair::new(1420);
    let refused = pair.client.connect(server()).unwrap();
    for _ in 0..5 {
        pair.step(|| false);
    }
    assert_eq!(pair.client.tcp(refused).state(), State::Closed);
    pair.client.abandon(refused);
    let listening = pair.server.listen(PORT);
    let dropped = pair.client.connect(server()).unwrap();
    for _ in 0..5 {
        pair.step(|| false);
    }
    assert_eq!(pair.server.tcp(listening).state(), State::Established);
    pair.client.abandon(dropped);
    for _ in 0..5 {
        pair.step(|| false);
    }
    assert_eq!(pair.server.tcp(listening).state(), State::Closed);
    assert_eq!(pair.client.count(), 0);
}

#[test]
fn connections_are_bounded_and_their_ports_differ() {
    let mut stack = Stack::new("10.99.0.10/24".parse().unwrap(), 1420, 0x3ffe, Instant::now());
    let mut ports = std::collections::BTreeSet::new();
    let refused = loop {
        match stack.connect(server()) {
            Ok(handle) => assert!(ports.insert(stack.tcp(handle).local_endpoint().unwrap().port)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, OpenError::TooMany);
    assert_eq!(ports.len(), 256);
    assert_eq!(stack.flow().err(), Some(OpenError::TooMany));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn losses_cost_time_and_no_bytes(
        length in 1usize..120_000, mtu in 576u16..1500, losses in prop::collection::vec(0u8..100, 50..200),
    ) {
        let mut pair = Pair::new(mtu);
        let bytes: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
        let mut losses = losses.iter().cycle();
        let (received, longest) = download(&mut pair, &bytes, || *losses.next().unwrap() < 5);
        prop_assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
        prop_assert!(longest <= usize::from(mtu));
    }

    #[test]
    fn no_packet_breaks_it(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let mut pair = Pair::new(1420);
        pair.client.connect(server()).unwrap();
        for packet in packets {
            pair.client.take(&packet, pair.now, &mut Packets::default());
        }
    }
}

fn settings(key: &PrivateKey, address: &str) -> InterfaceSettings {
    InterfaceSettings {
        name: "unused".to_owned(),
        private_key: key.clone(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        addresses: vec![address.parse().unwrap()],
        mtu: 1420,
    }
}

#[tokio::test]
async fn a_stream_goes_through_two_tunnels_over_loopback() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (near, far) = (PrivateKey::generate(), PrivateKey::generate());
    let reserved = UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = reserved.local_addr().unwrap();
    drop(reserved);
    let mut listening = settings(&far, "172.20.0.2/24");
    listening.listen = Some(there);
    let server_end = UserTunnel::start(&listening).unwrap();
    server_end.set_peer(&PeerSettings {
        public_key: near.public(),
        endpoint: None,
        allowed_ips: vec!["10.99.0.10/32".parse().unwrap()],
        keepalive_s: None,
    });
    let client_end = UserTunnel::start(&settings(&near, "10.99.0.10/24")).unwrap();
    client_end.set_peer(&PeerSettings {
        public_key: far.public(),
        endpoint: Some(there),
        allowed_ips: vec!["172.20.0.0/24".parse().unwrap()],
        keepalive_s: Some(15),
    });
    let shared = Arc::clone(&server_end.dialler.shared);
    let handle = shared.stack().listen(PORT);
    let dialler = client_end.dialler();
    let (served, stream) = tokio::join!(Stream::accepted(&shared, handle), dialler.connect(server()));
    let (mut served, mut stream) = (served.unwrap(), stream.unwrap());
    let request: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let answering = async {
        let mut all = Vec::new();
        served.read_to_end(&mut all).await.unwrap();
        served.write_all(&all).await.unwrap();
        served.shutdown().await.unwrap();
    };
    let asking = async {
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    };
    let ((), answer) = tokio::join!(answering, asking);
    assert!(answer == request);
    let status = client_end.status();
    assert!(status[0].last_handshake.is_some() && status[0].received_bytes > 300_000);
}
