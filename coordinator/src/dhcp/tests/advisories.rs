//! What broke other servers, sent to ours: each test names the advisory that it is shaped after.

use super::*;

/// A message whose options are these bytes.
fn with_options(kind: MessageType, options: &[u8]) -> Vec<u8> {
    let mut bytes = message(STRANGER, kind, []).to_vec().unwrap();
    bytes.truncate(243);
    bytes.extend_from_slice(options);
    bytes.push(255);
    bytes
}

fn handle(server: &mut Dhcp, bytes: &[u8]) -> Result<Option<Reply>, Ignored> {
    handle_datagram(server, bytes, directory, Instant::now())
}

#[test]
fn a_client_of_no_subnet_is_ignored() {
    // Kea, CVE-2025-40779: options of a client for which no subnet is found trip an assertion.
    let far = Ipv4Addr::new(203, 0, 113, 9);
    for options in [
        &[55, 3, 1, 3, 6][..],
        &[118, 4, 203, 0, 113, 9],
        &[82, 2, 1, 0],
        &[61, 1, 0],
        &[81, 3, 0, 0, 0],
    ] {
        let mut bytes = with_options(MessageType::Discover, options);
        bytes[24..28].copy_from_slice(&far.octets());
        assert!(matches!(handle(&mut server(), &bytes), Ok(None)), "{options:?}");
        // The same asked for by an address that is not of this wire.
        let mut renewal = with_options(MessageType::Request, options);
        renewal[12..16].copy_from_slice(&far.octets());
        let answer = handle(&mut server(), &renewal).unwrap();
        let gives = answer.map(|reply| Message::decode(&mut Decoder::new(&reply.bytes)).unwrap().yiaddr());
        assert_ne!(gives, Some(far), "{options:?}");
    }
}

#[test]
fn a_long_name_costs_nothing_and_changes_nothing() {
    // ISC, CVE-2022-2929: an FQDN option with a label of more than 63 bytes leaks memory at each message.
    let mut fqdn = vec![81, 203, 0, 0, 0, 200];
    fqdn.extend([b'a'; 199]);
    let mut server = server();
    let plain = handle(&mut server, &with_options(MessageType::Discover, &[]))
        .unwrap()
        .unwrap();
    let address = |reply: &Reply| Message::decode(&mut Decoder::new(&reply.bytes)).unwrap().yiaddr();
    for _ in 0..1000 {
        let reply = handle(&mut server, &with_options(MessageType::Discover, &fqdn))
            .unwrap()
            .unwrap();
        assert_eq!(address(&reply), address(&plain), "one client has one offer");
    }
}

#[test]
fn clients_without_end_take_no_more_than_the_pool() {
    // Kea 1.4, CVE-2018-5739: memory grows with each message, until there is none.
    let mut server = server();
    let mut offers = std::collections::BTreeSet::new();
    for number in 0..20_000u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let client = MacAddress([2, 0, a, b, c, d]);
        let bytes = message(client, MessageType::Discover, []).to_vec().unwrap();
        if let Some(reply) = handle(&mut server, &bytes).unwrap() {
            offers.insert(Message::decode(&mut Decoder::new(&reply.bytes)).unwrap().yiaddr());
        }
    }
    assert!(offers.iter().all(|offer| pool().contains(*offer)), "{offers:?}");
    assert!(offers.len() <= 10, "{offers:?}");
}

#[test]
fn options_that_end_behind_the_packet_are_not_read() {
    // dnsmasq, CVE-2017-14493 and its neighbours: lengths that are believed.
    for options in [
        &[12, 255][..],
        &[53],
        &[82, 250, 1, 255],
        &[43, 200, 6, 1],
        &[52, 1, 3, 67, 255],
        &[61, 0],
        &[50, 0],
    ] {
        let mut bytes = with_options(MessageType::Discover, options);
        bytes.pop();
        let _ = handle(&mut server(), &bytes);
        for cut in 236..bytes.len() {
            let _ = handle(&mut server(), &bytes[..cut]);
        }
    }
    // What stands in front of the broken option is heard.
    let reply = handle(&mut server(), &with_options(MessageType::Discover, &[12, 255])).unwrap();
    assert!(reply.is_some());
}
