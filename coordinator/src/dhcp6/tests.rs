//! The protocol as clients see it, from datagram to datagram. Clients' messages are written and read by dhcproto, which nobody here wrote.

pub(super) use super::fuzzing::settings;
use super::*;
use dhcproto::v6::{DhcpOption, IAAddr, IANA, Message, MessageType, OptionCode, Status as Code};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use proptest::prelude::*;
use std::time::Duration;

const CARD: MacAddress = MacAddress([0x52, 0x54, 0, 0x4c, 0x42, 1]);
const FIXED: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x11);
/// A firmware's: of SMBIOS's UUID, so it names no card.
const UUID: [u8; 18] = [0, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
const SERVER_ID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

fn server() -> Dhcp6 {
    let settings = settings();
    settings.config.check().unwrap();
    Dhcp6::new(settings, SERVER_ID.to_vec())
}

/// The link-local address of the client's card.
fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe4c, 0x4200 | u16::from(number))
}

fn message(kind: MessageType, duid: &[u8]) -> Message {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    message.opts_mut().insert(DhcpOption::ClientId(duid.to_vec()));
    message
}

fn to_server(mut message: Message) -> Message {
    message
        .opts_mut()
        .insert(DhcpOption::ServerId(SERVER_ID.to_vec()));
    message
}

fn asking(mut message: Message, addresses: &[Ipv6Addr]) -> Message {
    let mut opts = dhcproto::v6::DhcpOptions::new();
    for address in addresses {
        opts.insert(DhcpOption::IAAddr(IAAddr {
            addr: *address,
            preferred_life: 0,
            valid_life: 0,
            opts: dhcproto::v6::DhcpOptions::new(),
        }));
    }
    let (id, t1, t2) = (7, 0, 0);
    message
        .opts_mut()
        .insert(DhcpOption::IANA(IANA { id, t1, t2, opts }));
    message
}

fn solicit() -> Message {
    asking(message(MessageType::Solicit, &UUID), &[])
}

fn say(
    server: &mut Dhcp6,
    message: &Message,
    from: Ipv6Addr,
    known: Option<Known>,
) -> Result<Option<Message>, Ignored> {
    let bytes = message.to_vec().unwrap();
    let reply = handle_datagram(server, &bytes, from, |_| known, Instant::now())?;
    Ok(reply.map(|reply| {
        assert_eq!(reply.port, 546);
        Message::decode(&mut Decoder::new(&reply.bytes)).unwrap()
    }))
}

fn heard(server: &mut Dhcp6, message: &Message, number: u8) -> Option<Message> {
    say(server, message, link_local(number), None).unwrap()
}

/// The addresses of an answer and how long they may be used.
fn addresses(message: &Message) -> Vec<(Ipv6Addr, u32)> {
    let Some(DhcpOption::IANA(ia)) = message.opts().get(OptionCode::IANA) else {
        return Vec::new();
    };
    let options = ia.opts.iter();
    let each = options.filter_map(|option| match option {
        DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
        _ => None,
    });
    each.collect()
}

fn status(message: &Message) -> Option<Code> {
    match message.opts().get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

#[test]
fn four_messages_give_an_address_that_lasts() {
    let mut server = server();
    let offer = heard(&mut server, &solicit(), 1).unwrap();
    assert_eq!(offer.msg_type(), MessageType::Advertise);
    assert_eq!(offer.xid(), [1, 2, 3]);
    assert_eq!(
        offer.opts().get(OptionCode::ServerId),
        Some(&DhcpOption::ServerId(SERVER_ID.to_vec()))
    );
    assert_eq!(
        offer.opts().get(OptionCode::Preference),
        Some(&DhcpOption::Preference(255))
    );
    let [(address, 600)] = addresses(&offer)[..] else {
        panic!("{offer:?}");
    };
    let request = asking(to_server(message(MessageType::Request, &UUID)), &[address]);
    let reply = heard(&mut server, &request, 1).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert_eq!(addresses(&reply), [(address, 600)]);
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let again = message(kind, &UUID);
        let again = if kind == MessageType::Renew {
            to_server(again)
        } else {
            again
        };
        let reply = heard(&mut server, &asking(again, &[address]), 1).unwrap();
        assert_eq!(addresses(&reply), [(address, 600)], "{kind:?}");
    }
    // The LM was restarted, and remembers nothing.
    let mut server = self::server();
    let renew = asking(to_server(message(MessageType::Renew, &UUID)), &[address]);
    let reply = heard(&mut server, &renew, 1).unwrap();
    assert_eq!(addresses(&reply), [(address, 600)]);
    let other = heard(
        &mut server,
        &asking(message(MessageType::Solicit, &UUID), &[address]),
        2,
    )
    .unwrap();
    assert_ne!(addresses(&other)[0].0, address, "it is the first one's");
}

#[test]
fn all_clients_of_a_card_have_one_address() {
    let mut server = server();
    let of = |server: &mut Dhcp6, duid: &[u8], number| {
        let solicit = asking(message(MessageType::Solicit, duid), &[]);
        addresses(&heard(server, &solicit, number).unwrap())[0].0
    };
    let firmware = of(&mut server, &UUID, 1);
    let agent = of(&mut server, &[&[0, 3, 0, 1], &CARD.0[..]].concat(), 1);
    assert_eq!(firmware, agent);
    assert_ne!(firmware, of(&mut server, &UUID, 2), "two machines of one UUID");
}

#[test]
fn a_server_on_record_has_its_own_address_where_the_pool_is_full() {
    let mut server = server();
    for number in 2..6 {
        let mut rapid = solicit();
        rapid.opts_mut().insert(DhcpOption::RapidCommit);
        let reply = heard(&mut server, &rapid, number).unwrap();
        assert_eq!(reply.msg_type(), MessageType::Reply, "at once");
        assert_eq!(addresses(&reply).len(), 1);
    }
    let refused = heard(&mut server, &solicit(), 9).unwrap();
    let Some(DhcpOption::IANA(ia)) = refused.opts().get(OptionCode::IANA) else {
        panic!("{refused:?}");
    };
    assert!(matches!(
        ia.opts.get(OptionCode::StatusCode),
        Some(DhcpOption::StatusCode(code)) if code.status == Code::NoAddrsAvail
    ));
    let fixed = Known {
        address: Some(FIXED),
        ..Known::default()
    };
    let offer = say(&mut server, &solicit(), link_local(1), Some(fixed)).unwrap();
    assert_eq!(addresses(&offer.unwrap()), [(FIXED, 3600)]);
    // It had another one before it was written down.
    let stale = FIXED.segments()[7] + 0xef;
    let stale = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, stale);
    let renew = asking(to_server(message(MessageType::Renew, &UUID)), &[stale]);
    let reply = say(&mut server, &renew, link_local(1), Some(fixed))
        .unwrap()
        .unwrap();
    let mut told = addresses(&reply);
    told.sort_unstable();
    assert_eq!(told, [(FIXED, 3600), (stale, 0)]);
}

#[test]
fn what_a_client_has_is_confirmed_and_taken_back() {
    let mut server = server();
    let here = addresses(&heard(&mut server, &solicit(), 1).unwrap())[0].0;
    let confirm = |address| asking(message(MessageType::Confirm, &UUID), &[address]);
    let reply = heard(&mut server, &confirm(here), 1).unwrap();
    assert_eq!(status(&reply), Some(Code::Success));
    let elsewhere = "2001:db8::1".parse().unwrap();
    let reply = heard(&mut server, &confirm(elsewhere), 1).unwrap();
    assert_eq!(status(&reply), Some(Code::NotOnLink));
    let nothing = asking(message(MessageType::Confirm, &UUID), &[]);
    assert_eq!(heard(&mut server, &nothing, 1), None);
    let release = |address| asking(to_server(message(MessageType::Release, &UUID)), &[address]);
    let reply = heard(&mut server, &release(here), 2).unwrap();
    assert!(
        reply.opts().get(OptionCode::IANA).is_some(),
        "it is another card's"
    );
    let reply = heard(&mut server, &release(here), 1).unwrap();
    assert!(reply.opts().get(OptionCode::IANA).is_none());
    assert_eq!(status(&reply), Some(Code::Success));
    let wish = asking(message(MessageType::Solicit, &UUID), &[here]);
    let other = addresses(&heard(&mut server, &wish, 2).unwrap())[0].0;
    assert_ne!(other, here, "what firmware released, its agent goes on with");
    let again = heard(&mut server, &solicit(), 1).unwrap();
    assert_eq!(addresses(&again)[0].0, here);
    let decline = asking(to_server(message(MessageType::Decline, &UUID)), &[here]);
    heard(&mut server, &decline, 1).unwrap();
    let again = heard(&mut server, &wish, 1).unwrap();
    assert_ne!(addresses(&again)[0].0, here, "somebody uses it");
}

#[test]
fn identifiers_say_whether_a_message_is_for_us() {
    let mut server = server();
    let nobody = asking(Message::new_with_id(MessageType::Solicit, [1, 2, 3]), &[]);
    let mut outcome = |message: &Message| say(&mut server, message, link_local(1), None);
    assert_eq!(outcome(&nobody), Err(Ignored::Identifiers));
    assert_eq!(outcome(&to_server(solicit())), Err(Ignored::Identifiers));
    let unaddressed = asking(message(MessageType::Request, &UUID), &[]);
    assert_eq!(outcome(&unaddressed), Err(Ignored::Identifiers));
    let mut others = unaddressed;
    others
        .opts_mut()
        .insert(DhcpOption::ServerId(vec![0, 3, 0, 1, 9]));
    assert_eq!(outcome(&others), Err(Ignored::OtherServer));
    assert_eq!(
        outcome(&message(MessageType::Advertise, &UUID)),
        Err(Ignored::NotOfClient)
    );
    let mut question = message(MessageType::InformationRequest, &UUID);
    question.opts_mut().insert(DhcpOption::ORO(dhcproto::v6::ORO {
        opts: vec![OptionCode::DomainNameServers],
    }));
    let reply = outcome(&question).unwrap().unwrap();
    assert!(reply.opts().get(OptionCode::DomainNameServers).is_some());
    assert!(addresses(&reply).is_empty());
}

fn firmware(class: &str, platform: u16) -> Message {
    let mut message = solicit();
    let options = message.opts_mut();
    options.insert(raw(
        OptionCode::VendorClass,
        &[&343u32.to_be_bytes()[..], &counted(class)].concat(),
    ));
    options.insert(raw(OptionCode::from(61), &platform.to_be_bytes()));
    message
}

/// A text behind its length.
fn counted(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// dhcproto 0.15 writes the number of classes where their length belongs.
fn raw(code: OptionCode, data: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(dhcproto::v6::UnknownOption::new(code, data.to_vec()))
}

/// The URL of an answer, as text, out of its bytes: what dhcproto makes of an option on the way back is another matter.
fn url(message: &[u8]) -> Option<String> {
    let found = message::options(&message[4..])
        .flatten()
        .find(|(code, _)| *code == 59);
    found.map(|(_, url)| String::from_utf8(url.to_vec()).unwrap())
}

#[test]
fn firmware_and_ipxe_are_told_what_to_boot() {
    let mut server = server();
    let mut told = |message: &Message| {
        let bytes = message.to_vec().unwrap();
        let reply = handle_datagram(&mut server, &bytes, link_local(1), |_| None, Instant::now());
        reply.unwrap().unwrap().bytes
    };
    let class_of = |reply: &[u8]| {
        let mut options = message::options(&reply[4..]).flatten();
        let class = options.find(|(code, _)| *code == 16);
        class.map(|(_, class)| class.to_vec())
    };
    let pxe = told(&firmware("PXEClient:Arch:00007:UNDI:003016", 7));
    assert_eq!(url(&pxe).unwrap(), "tftp://[fd00:10::1]/grub/core.efi");
    assert_eq!(class_of(&pxe), None);
    let http = told(&firmware("HTTPClient:Arch:00016:UNDI:003001", 16));
    assert_eq!(url(&http).unwrap(), "http://[fd00:10::1]/grub/core.efi");
    let class = [&343u32.to_be_bytes()[..], &counted("HTTPClient")].concat();
    assert_eq!(class_of(&http), Some(class));
    let mut ipxe = firmware("PXEClient:Arch:00000:UNDI:002001", 0);
    ipxe.opts_mut()
        .insert(raw(OptionCode::UserClass, &counted("iPXE")));
    let script = "http://[fd00:10::1]/boot/ipxe/52:54:00:4c:42:01.ipxe";
    assert_eq!(url(&told(&ipxe)).unwrap(), script);
    assert_eq!(url(&told(&solicit())), None, "an operating system");
}

/// Through two relays, the nearer one between ports of a switch (RFC 6221).
#[test]
fn relays_have_back_what_they_added() {
    let mut config = settings();
    config.config.subnet = vec![Subnet6Config {
        network: "fd00:20::/64".parse().unwrap(),
        router: None,
        pool: config.config.pool.map(|pool| crate::dhcp::PoolConfig {
            first: "fd00:20::100".parse().unwrap(),
            last: "fd00:20::1ff".parse().unwrap(),
            ..pool
        }),
    }];
    config.config.check().unwrap();
    let mut server = Dhcp6::new(config, SERVER_ID.to_vec());
    let forward = |hops: u8, link: &str, peer: Ipv6Addr, port: &[u8], inner: &[u8]| {
        let mut writer = message::Writer::default();
        writer.bytes(&[12, hops]);
        writer.address(link.parse().unwrap()).address(peer);
        writer.option(18, |option| {
            option.bytes(port);
        });
        writer.option(9, |option| {
            option.bytes(inner);
        });
        writer.finish()
    };
    let message = solicit().to_vec().unwrap();
    let near = forward(0, "::", link_local(1), b"port 3", &message);
    let far = forward(1, "fd00:20::1", "fe80::2".parse().unwrap(), b"vlan 9", &near);
    let router = "fd00:10::2".parse().unwrap();
    let reply = handle_datagram(&mut server, &far, router, |_| None, Instant::now());
    let reply = reply.unwrap().unwrap();
    assert_eq!((reply.port, reply.bytes[0], reply.bytes[1]), (547, 13, 1));
    let network: ipnet::Ipv6Net = "fd00:20::/64".parse().unwrap();
    assert!(network.contains(&reply.address.unwrap()));
    let unwrap = |bytes: &[u8]| {
        let read: Vec<_> = message::options(&bytes[34..]).flatten().collect();
        let of = |code| read.iter().find(|(c, _)| *c == code).unwrap().1.to_vec();
        (of(18), of(9))
    };
    let (port, inner) = unwrap(&reply.bytes);
    assert_eq!((&port[..], &inner[..2]), (&b"vlan 9"[..], &[13, 0][..]));
    let (port, inner) = unwrap(&inner);
    assert_eq!(port, b"port 3");
    let offer = Message::decode(&mut Decoder::new(&inner)).unwrap();
    assert_eq!(addresses(&offer), [(reply.address.unwrap(), 600)]);
    // A relay that nobody wrote down.
    let stray = forward(0, "fd00:30::1", link_local(1), b"", &message);
    let reply = handle_datagram(&mut server, &stray, router, |_| None, Instant::now());
    assert_eq!(reply, Ok(None));
    let mut deep = message;
    for hops in 0..9 {
        deep = forward(hops, "::", link_local(1), b"", &deep);
    }
    let reply = handle_datagram(&mut server, &deep, router, |_| None, Instant::now());
    assert_eq!(reply, Err(Ignored::TooManyRelays));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |change: &dyn Fn(&mut Dhcp6Config)| {
        let mut config = settings().config;
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    let address = refused(&|config| config.address = "fd00:10::/64".parse().unwrap());
    assert!(address.contains("dhcp6.address"), "{address}");
    let pool = refused(&|config| {
        if let Some(pool) = &mut config.pool {
            pool.last = "fd00:10::1:0".parse().unwrap();
        }
    });
    assert!(pool.contains("1024"), "{pool}");
    let subnet = || Subnet6Config {
        network: "fd00:10::/48".parse().unwrap(),
        router: None,
        pool: None,
    };
    let overlap = refused(&|config| config.subnet = vec![subnet()]);
    assert!(overlap.contains("overlaps fd00:10::/64"), "{overlap}");
    let router = refused(&|config| config.router = Some("2001:db8::1".parse().unwrap()));
    assert!(router.contains("2001:db8::1"), "{router}");
    assert!(refused(&|config| config.lease_time_s = 5).contains("60 s"));
    assert!(refused(&|config| config.router_lifetime_s = 9001).contains("9000"));
}

proptest! {
    /// Whatever clients say in whatever order, no two cards believe in one address, and all addresses are the pool's.
    #[test]
    fn two_clients_never_have_one_address(steps in prop::collection::vec((1u8..9, 0u8..6, 0x0feu16..0x106, 0u64..400), 0..120)) {
        let mut server = server();
        let pool = settings().config.pool.unwrap();
        let mut now = Instant::now();
        let mut held: std::collections::HashMap<u8, (Ipv6Addr, Instant)> = std::collections::HashMap::new();
        for (client, action, last, wait) in steps {
            now += Duration::from_secs(wait);
            let wanted = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, last);
            let kinds = [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind, MessageType::Release, MessageType::Decline];
            let kind = kinds[usize::from(action)];
            let mut said = asking(message(kind, &UUID), &[wanted]);
            if !matches!(kind, MessageType::Solicit | MessageType::Rebind) {
                said = to_server(said);
            }
            let bytes = said.to_vec().unwrap();
            let reply = handle_datagram(&mut server, &bytes, link_local(client), |_| None, now).unwrap();
            let Some(reply) = reply else { continue };
            match (kind, reply.address) {
                (MessageType::Release | MessageType::Decline, _) => {
                    if held.get(&client).is_some_and(|(address, _)| *address == wanted) {
                        held.remove(&client);
                    }
                }
                (MessageType::Solicit, Some(offered)) => prop_assert!(pool.contains(offered)),
                (_, Some(given)) => {
                    prop_assert!(pool.contains(given));
                    held.insert(client, (given, now + Duration::from_secs(600)));
                }
                (_, None) => {}
            }
            held.retain(|_, (_, until)| *until > now);
            let mut all: Vec<_> = held.values().map(|(address, _)| *address).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), held.len(), "two have one address: {:?}", held);
        }
    }

    #[test]
    fn noise_never_panics(kind in 0u8..14, mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bytes.insert(0, kind);
        fuzzing::dhcp6(&bytes);
    }
}
