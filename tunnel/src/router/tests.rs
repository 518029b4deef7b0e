//! Two routers, and what crosses between them.

use super::*;
use proptest::prelude::*;

struct End {
    router: Router,
    key: WireguardPublicKey,
    address: SocketAddr,
}

fn end(address: &str) -> End {
    let key = PrivateKey::generate();
    End {
        router: Router::new(&key),
        key: key.public(),
        address: address.parse().unwrap(),
    }
}

fn pair(server_may_use: &str) -> (End, End) {
    let (gateway, server) = (end("192.0.2.1:51820"), end("192.0.2.2:40000"));
    gateway.lets_in(&server, &[server_may_use]);
    server.router.set_peer(&PeerSettings {
        public_key: gateway.key,
        endpoint: Some(gateway.address),
        allowed_ips: vec!["10.99.0.0/24".parse().unwrap()],
        keepalive_s: Some(15),
    });
    (gateway, server)
}

impl End {
    fn lets_in(&self, peer: &End, networks: &[&str]) {
        self.router.set_peer(&PeerSettings {
            public_key: peer.key,
            endpoint: None,
            allowed_ips: networks.iter().map(|network| network.parse().unwrap()).collect(),
            keepalive_s: None,
        });
    }

    /// A packet from the device.
    fn sends(&self, packet: &[u8]) -> Datagrams {
        let mut network = Datagrams::default();
        self.router
            .carry_out(&mut packet.to_vec(), Offload::Whole, &mut network);
        network
    }

    /// Datagrams from `from`: what is answered, and what reaches the device.
    fn hears(&self, datagrams: &Datagrams, from: SocketAddr) -> (Datagrams, Vec<Vec<u8>>) {
        let (mut network, mut packets) = (Datagrams::default(), Packets::default());
        for (_, datagram) in datagrams.iter() {
            self.router
                .carry_in(datagram, datagram.len(), from, &mut network, &mut packets);
        }
        (network, packets.iter().map(<[u8]>::to_vec).collect())
    }
}

fn ipv4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

fn from_server(payload: &[u8]) -> Vec<u8> {
    ipv4([10, 99, 0, 10], [10, 99, 0, 1], payload)
}

/// Carries datagrams between the ends until both are quiet; returns what reached the gateway's device.
fn exchange(gateway: &End, server: &End, mut to_gateway: Datagrams) -> Vec<Vec<u8>> {
    let mut delivered = Vec::new();
    for _ in 0..8 {
        let (to_server, packets) = gateway.hears(&to_gateway, server.address);
        assert!(to_server.iter().all(|(to, _)| to == server.address));
        delivered.extend(packets);
        to_gateway = server.hears(&to_server, gateway.address).0;
    }
    delivered
}

#[test]
fn a_packet_crosses_after_the_handshake_that_it_caused() {
    let (gateway, server) = pair("10.99.0.10/32");
    let packet = from_server(b"hello");
    assert_eq!(exchange(&gateway, &server, server.sends(&packet)), [packet]);
    let status = &gateway.router.status()[0];
    assert!(status.last_handshake.is_some());
    assert_eq!(status.endpoint, Some(server.address));
}

#[test]
fn a_source_outside_allowed_ips_is_dropped() {
    let (gateway, server) = pair("10.99.0.11/32");
    assert!(exchange(&gateway, &server, server.sends(&from_server(b"spoofed"))).is_empty());
}

#[test]
fn every_packet_of_a_session_is_held_against_allowed_ips() {
    let (gateway, server) = pair("10.99.0.10/32");
    exchange(&gateway, &server, server.sends(&from_server(b"first")));
    let honest = from_server(b"honest");
    let spoofed = ipv4([10, 99, 0, 11], [10, 99, 0, 1], b"stolen");
    // As the kernel coalesces them: the datagrams of one message are decrypted under one lock.
    let mut message = Datagrams::default();
    for packet in [&honest, &spoofed, &honest] {
        server
            .router
            .carry_out(&mut packet.clone(), Offload::Whole, &mut message);
    }
    assert_eq!(message.messages().len(), 1);
    let bytes = message.bytes(message.messages()[0].range.clone());
    let (mut network, mut packets) = (Datagrams::default(), Packets::default());
    let segment = message.messages()[0].segment;
    gateway
        .router
        .carry_in(bytes, segment, server.address, &mut network, &mut packets);
    assert_eq!(packets.iter().collect::<Vec<_>>(), [&honest, &honest]);
}

#[test]
fn an_address_that_was_taken_away_is_dropped_at_once() {
    let (gateway, server) = pair("10.99.0.10/32");
    exchange(&gateway, &server, server.sends(&from_server(b"first")));
    let late = server.sends(&from_server(b"late"));
    gateway.lets_in(&end("192.0.2.3:1"), &["10.99.0.10/32"]);
    assert!(gateway.hears(&late, server.address).1.is_empty());
}

#[test]
fn a_removed_peer_gets_no_answer() {
    let (gateway, server) = pair("10.99.0.10/32");
    gateway.router.remove_peer(&server.key);
    assert!(exchange(&gateway, &server, server.sends(&from_server(b"late"))).is_empty());
    assert!(gateway.router.status().is_empty());
}

#[test]
fn a_peer_without_addresses_shakes_hands_and_nothing_more() {
    let (gateway, server) = pair("10.99.0.10/32");
    gateway.lets_in(&server, &[]);
    assert!(exchange(&gateway, &server, server.sends(&from_server(b"early"))).is_empty());
    assert!(gateway.router.status()[0].last_handshake.is_some());
}

#[test]
fn two_peers_with_one_address_the_later_owns_it() {
    let (gateway, server) = pair("10.99.0.10/32");
    let member = end("192.0.2.3:1");
    gateway.lets_in(&member, &["10.99.0.10/32"]);
    let table = gateway.router.table();
    let owner = table.routes.lookup("10.99.0.10".parse().unwrap()).unwrap();
    assert_eq!(table.peers[&owner].public_key, member.key);
    assert_eq!(table.by_key.len(), 2, "{:?} stays known", server.key);
}

#[test]
fn a_session_carries_only_so_many_messages_and_is_renewed_before() {
    let (gateway, mut server) = pair("10.99.0.10/32");
    server.router.remove_peer(&gateway.key);
    server.router.messages = MessageLimits {
        rekey_after: 5,
        reject_after: 8,
    };
    server.router.set_peer(&PeerSettings {
        public_key: gateway.key,
        endpoint: Some(gateway.address),
        allowed_ips: vec!["10.99.0.0/24".parse().unwrap()],
        keepalive_s: Some(15),
    });
    exchange(&gateway, &server, server.sends(&from_server(b"first")));
    let kinds = |datagrams: &Datagrams| datagrams.iter().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>();
    // The keepalive and the first packet were the messages 0 and 1.
    for message in 2..5 {
        assert_eq!(
            kinds(&server.sends(&from_server(b"on"))),
            [4],
            "message {message}"
        );
    }
    let renewing = server.sends(&from_server(b"on"));
    assert_eq!(kinds(&renewing), [4, 1], "the rekeying begins");
    for _ in 6..8 {
        assert_eq!(
            kinds(&server.sends(&from_server(b"on"))),
            [4],
            "one handshake at a time"
        );
    }
    for _ in 0..3 {
        assert!(kinds(&server.sends(&from_server(b"over"))).is_empty());
    }
    exchange(&gateway, &server, renewing);
    let packet = from_server(b"anew");
    let fresh = server.sends(&packet);
    assert_eq!(gateway.hears(&fresh, server.address).1, [packet]);
}

#[test]
fn messages_beyond_the_end_of_a_session_are_not_taken() {
    let (mut gateway, server) = pair("10.99.0.10/32");
    gateway.router.remove_peer(&server.key);
    gateway.router.messages = MessageLimits {
        rekey_after: u64::MAX,
        reject_after: 4,
    };
    gateway.lets_in(&server, &["10.99.0.10/32"]);
    exchange(&gateway, &server, server.sends(&from_server(b"first")));
    // The keepalive and the first packet were the messages 0 and 1. All of these are well encrypted.
    let taken = (2..8).map(|_| {
        let datagrams = server.sends(&from_server(b"on"));
        gateway.hears(&datagrams, server.address).1.len()
    });
    assert_eq!(taken.collect::<Vec<_>>(), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn the_largest_datagrams_and_packets_neither_panic_nor_pass() {
    let (gateway, server) = pair("10.99.0.10/32");
    exchange(&gateway, &server, server.sends(&from_server(b"first")));
    for length in [65_476, 65_507, 65_535 - 20] {
        assert_eq!(server.sends(&from_server(&vec![0; length])).len(), 0, "{length}");
    }
    let largest = from_server(&vec![7; 65_475 - 20]);
    let datagrams = server.sends(&largest);
    assert_eq!(gateway.hears(&datagrams, server.address).1, [largest]);
    for length in [0, 1, 3, 4, 15, 16, 31, 32, 1500, 9000, 65_507, 65_535] {
        for kind in 0..=5 {
            let mut datagram = vec![0; length];
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            let mut datagrams = Datagrams::default();
            datagrams.push(gateway.address, &datagram);
            assert!(gateway.hears(&datagrams, server.address).1.is_empty());
        }
    }
}

#[test]
fn a_cookie_is_good_for_one_port() {
    let (gateway, server) = pair("10.99.0.10/32");
    let initiation = server.sends(&from_server(b"first"));
    let elsewhere = SocketAddr::new(server.address.ip(), server.address.port() + 1);
    // The limiter is above its limit until the next tick.
    for _ in 0..LIMITER_COUNTS {
        let _ = gateway.hears(&initiation, "198.51.100.1:1".parse().unwrap());
    }
    let cookie = gateway.hears(&initiation, server.address).0;
    assert_eq!(cookie.iter().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>(), [3]);
    server.hears(&cookie, gateway.address);
    // What the server says now carries the cookie.
    let mut again = Datagrams::default();
    let index = server.router.table().by_key[&gateway.key];
    server.router.table().peers[&index]
        .session()
        .begin_handshake(true, &mut again);
    let answers = |from| {
        let answer = gateway.hears(&again, from).0;
        answer.iter().map(|(_, bytes)| bytes[0]).collect::<Vec<_>>()
    };
    assert_eq!(
        answers(elsewhere),
        [3],
        "the same address at another port is asked for its own"
    );
    assert_eq!(
        answers(server.address),
        [2],
        "the port that it was given to is let in"
    );
}

#[test]
fn an_address_gets_only_so_many_handshakes() {
    let (gateway, server) = pair("10.99.0.10/32");
    let (mut asked_for_cookies, mut answered) = (0, 0);
    for _ in 0..800 {
        // Each is fresh: a repeated one would be refused for its time.
        let mut fresh = Datagrams::default();
        let index = server.router.table().by_key[&gateway.key];
        server.router.table().peers[&index]
            .session()
            .begin_handshake(true, &mut fresh);
        let answer = gateway.hears(&fresh, server.address).0;
        match answer.iter().next().map(|(_, bytes)| bytes[0]) {
            Some(3) => asked_for_cookies += 1,
            Some(kind) => answered += usize::from(kind == 2),
            None => {}
        }
        server.hears(&answer, gateway.address);
    }
    assert!(asked_for_cookies > 0, "the second limit is behind the first");
    assert!((500..790).contains(&answered), "{answered} were answered");
}

proptest! {
    #[test]
    fn noise_from_the_network_never_panics_nor_reaches_the_device(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
        kind in 0u8..6,
        segment in 0usize..300,
    ) {
        let (gateway, server) = pair("10.99.0.10/32");
        let (mut network, mut packets) = (Datagrams::default(), Packets::default());
        for mut datagram in datagrams {
            if datagram.len() >= 4 { datagram[..4].copy_from_slice(&[kind, 0, 0, 0]); }
            gateway.router.carry_in(&datagram, segment, server.address, &mut network, &mut packets);
        }
        prop_assert_eq!(packets.iter().count(), 0);
    }

    #[test]
    fn noise_from_the_device_never_panics(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, server) = pair("10.99.0.10/32");
        server.sends(&packet);
    }
}
