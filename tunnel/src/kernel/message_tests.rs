//! What is written is read again by the reader, which knows the same attributes; noise is refused and never more.

use super::*;
use proptest::prelude::*;

fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(address, prefix)| (IpAddr::from(address), prefix));
    let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(address, prefix)| (IpAddr::from(address), prefix));
    prop_oneof![v4, v6].prop_map(|(address, prefix)| IpNet::new(address, prefix).unwrap().trunc())
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from);
    prop_oneof![v4, v6]
}

fn peer(number: u32, networks: usize) -> impl Strategy<Value = PeerSettings> {
    let networks = prop::collection::vec(network(), 0..networks);
    let keepalive = prop::option::of(1..=u16::MAX);
    (prop::option::of(endpoint()), networks, keepalive).prop_map(
        move |(endpoint, allowed_ips, keepalive_s)| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_ne_bytes());
            PeerSettings {
                public_key: WireguardPublicKey(key),
                endpoint,
                allowed_ips,
                keepalive_s,
            }
        },
    )
}

fn peers(most: u32, networks: usize) -> impl Strategy<Value = Vec<PeerSettings>> {
    (0..=most).prop_flat_map(move |count| {
        (0..count)
            .map(|number| peer(number, networks))
            .collect::<Vec<_>>()
    })
}

/// What a device that had no peers reports after the change.
fn reported(messages: &[Zeroizing<Vec<u8>>]) -> DeviceReport {
    let mut report = DeviceReport::default();
    for message in messages {
        assert!(message.len() <= MOST, "{} bytes", message.len());
        report.take(message).unwrap();
    }
    report
}

fn same(peer: &PeerSettings, report: &PeerReport) -> bool {
    peer.public_key == report.public_key
        && peer.endpoint == report.endpoint
        && peer.keepalive_s == report.keepalive_s
        && peer.allowed_ips == report.allowed_ips
}

proptest! {
    #[test]
    fn every_peer_arrives_however_many_messages_it_takes(peers in peers(300, 6)) {
        let change = DeviceChange { peers: peers.iter().map(PeerChange::from).collect(), ..DeviceChange::default() };
        let report = reported(&change.messages(7));
        prop_assert_eq!(report.peers.len(), peers.len());
        prop_assert!(peers.iter().zip(&report.peers).all(|(peer, report)| same(peer, report)));
    }

    #[test]
    fn a_peer_with_many_networks_is_continued(peers in peers(3, 1500)) {
        let change = DeviceChange { peers: peers.iter().map(PeerChange::from).collect(), ..DeviceChange::default() };
        let report = reported(&change.messages(7));
        prop_assert!(peers.iter().zip(&report.peers).all(|(peer, report)| same(peer, report)));
        prop_assert_eq!(report.peers.len(), peers.len());
    }

    #[test]
    fn noise_is_refused_or_read_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = DeviceReport::default().take(&bytes);
        let _ = PeerReport::read(&bytes);
    }

    #[test]
    fn a_damaged_report_is_refused_or_read(peers in peers(5, 5), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let change = DeviceChange { peers: peers.iter().map(PeerChange::from).collect(), ..DeviceChange::default() };
        let mut message = change.messages(7).remove(0).to_vec();
        let at = at.index(message.len());
        message[at] = byte;
        let mut report = DeviceReport::default();
        let _ = report.take(&message);
        let _ = report.take(&message[..at]);
    }
}

#[test]
fn the_bytes_are_those_of_the_kernels_headers() {
    let settings = PeerSettings {
        public_key: WireguardPublicKey([2; 32]),
        endpoint: Some("192.0.2.1:258".parse().unwrap()),
        allowed_ips: vec!["10.0.0.0/8".parse().unwrap()],
        keepalive_s: Some(25),
    };
    let change = DeviceChange {
        listen_port: Some(51820),
        replace_peers: true,
        peers: vec![PeerChange::from(&settings)],
        ..DeviceChange::default()
    };
    let messages = change.messages(3);
    let number = u16::to_ne_bytes;
    let expected = [
        // The index, the flag that there are no other peers, the port with its padding.
        &[number(8), number(1)].concat()[..],
        &3u32.to_ne_bytes(),
        &[number(8), number(5)].concat(),
        &1u32.to_ne_bytes(),
        &[number(6), number(6), number(51820), number(0)].concat(),
        // Nested: the peers, one without a kind, and in it key, flags, endpoint, keepalive.
        &[number(112), number(0x8008), number(108), number(0x8000)].concat(),
        &[number(36), number(1)].concat(),
        &[2; 32],
        &[number(8), number(3)].concat(),
        &2u32.to_ne_bytes(),
        &[number(20), number(4), number(2)].concat(),
        &[1, 2, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[number(6), number(5), number(25), number(0)].concat(),
        // Nested: the AllowedIPs, one without a kind, and in it family, address, prefix.
        &[number(32), number(0x8009), number(28), number(0x8000)].concat(),
        &[number(6), number(1), number(2), number(0)].concat(),
        &[number(8), number(2)].concat(),
        &[10, 0, 0, 0],
        &[number(5), number(3)].concat(),
        &[8, 0, 0, 0],
    ]
    .concat();
    assert_eq!(messages[0].as_slice(), expected);
    assert_eq!(messages.len(), 1);
}

#[test]
fn a_key_is_in_the_first_message_only_and_a_removal_says_no_more_than_that() {
    const COUNT: usize = 600;
    let key = PrivateKey::generate();
    let secret = key.inner().to_bytes();
    let peers: Vec<_> = (0..=255)
        .cycle()
        .take(COUNT)
        .map(|n| PeerChange::removal(WireguardPublicKey([n; 32])))
        .collect();
    let change = DeviceChange {
        private_key: Some(&key),
        peers,
        ..DeviceChange::default()
    };
    let messages = change.messages(1);
    let holds = |message: &[u8]| message.windows(32).any(|window| window == secret);
    let held: Vec<_> = messages.iter().map(|message| holds(message)).collect();
    assert!(held.len() > 1 && held[0] && !held[1..].contains(&true));
    let flags = [8u16.to_ne_bytes(), kinds::PEER_FLAGS.to_ne_bytes()].concat();
    let removal = [&flags[..], &REMOVE_ME.to_ne_bytes()].concat();
    let removals = messages
        .iter()
        .map(|message| message.windows(8).filter(|window| *window == removal).count());
    assert_eq!(removals.sum::<usize>(), COUNT);
}

#[test]
fn never_is_not_the_beginning_of_1970() {
    assert_eq!(read_time(&[0; 16]), Ok(None));
    let time = [100i64.to_ne_bytes(), 5i64.to_ne_bytes()].concat();
    assert_eq!(read_time(&time), Ok(Some(Duration::new(100, 5))));
    assert_eq!(read_time(&[0; 12]), Err(Malformed::Length));
}
