//! Who gets which address, and where the answer goes.

use super::*;
use std::time::Duration;

#[test]
fn a_server_on_record_gets_its_address_in_four_messages() {
    let mut server = server();
    let offer = ask(&mut server, &message(KNOWN, MessageType::Discover, [])).unwrap();
    assert_eq!(
        (offer.reply.kind, offer.message.yiaddr(), offer.message.siaddr()),
        (MessageType::Offer, FIXED, SERVER)
    );
    assert_eq!(offer.reply.to.to_string(), "255.255.255.255:68");
    let accept = [
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::RequestedIpAddress(FIXED),
    ];
    let ack = ask(&mut server, &message(KNOWN, MessageType::Request, accept)).unwrap();
    assert_eq!((ack.reply.kind, ack.message.yiaddr()), (MessageType::Ack, FIXED));
    assert_eq!(
        ack.option(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)))
    );
    assert_eq!(
        ack.option(OptionCode::Router),
        Some(&DhcpOption::Router(vec![SERVER]))
    );
    assert_eq!(
        ack.option(OptionCode::AddressLeaseTime),
        Some(&DhcpOption::AddressLeaseTime(3600))
    );
    assert_eq!(
        ack.option(OptionCode::InterfaceMtu),
        Some(&DhcpOption::InterfaceMtu(9000))
    );
}

#[test]
fn a_renewal_is_answered_to_the_address_of_the_client() {
    let mut renewal = message(KNOWN, MessageType::Request, []);
    renewal.set_ciaddr(FIXED);
    let ack = ask(&mut server(), &renewal).unwrap();
    assert_eq!(
        (ack.reply.kind, ack.reply.to.to_string()),
        (MessageType::Ack, "10.10.0.11:68".to_owned())
    );
    assert_eq!(ack.message.ciaddr(), FIXED);
}

#[test]
fn a_wrong_address_is_refused_aloud() {
    let elsewhere = Ipv4Addr::new(192, 168, 7, 7);
    for mac in [KNOWN, STRANGER] {
        let wrong = message(
            mac,
            MessageType::Request,
            [DhcpOption::RequestedIpAddress(elsewhere)],
        );
        let nak = ask(&mut server(), &wrong).unwrap();
        assert_eq!(
            (nak.reply.kind, nak.message.yiaddr()),
            (MessageType::Nak, Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(nak.reply.to.to_string(), "255.255.255.255:68");
        assert_eq!(nak.boot_file(), None);
    }
}

#[test]
fn nobody_can_aim_an_answer_outside_the_wire() {
    let outside = Ipv4Addr::new(8, 8, 8, 8);
    let mut inform = message(KNOWN, MessageType::Inform, []);
    inform.set_ciaddr(outside);
    assert!(ask(&mut server(), &inform).is_none());
    let mut renewal = message(
        KNOWN,
        MessageType::Request,
        [DhcpOption::RequestedIpAddress(FIXED)],
    );
    renewal.set_ciaddr(outside);
    assert_eq!(
        ask(&mut server(), &renewal).unwrap().reply.to.to_string(),
        "255.255.255.255:68"
    );
    let mut relayed = message(KNOWN, MessageType::Discover, []);
    relayed.set_giaddr(outside);
    let ignored = handle_datagram(
        &mut server(),
        &relayed.to_vec().unwrap(),
        directory,
        Instant::now(),
    );
    assert_eq!(ignored, Ok(None));
}

#[test]
fn another_servers_offer_that_was_taken_frees_ours() {
    let config = DhcpConfig {
        pool: Some(PoolConfig {
            last: pool().first,
            ..pool()
        }),
        ..DhcpConfig::default()
    };
    let (mut server, now) = (server_with(config), Instant::now());
    assert!(ask_at(&mut server, &message(STRANGER, MessageType::Discover, []), now).is_some());
    let other = message(
        STRANGER,
        MessageType::Request,
        [DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 10, 0, 2))],
    );
    assert!(ask_at(&mut server, &other, now).is_none());
    let third = MacAddress([2, 0, 0, 0, 0, 3]);
    assert!(ask_at(&mut server, &message(third, MessageType::Discover, []), now).is_some());
}

#[test]
fn a_stranger_gets_an_address_of_the_pool_and_keeps_it() {
    let (mut server, now) = (server(), Instant::now());
    let offer = ask_at(&mut server, &message(STRANGER, MessageType::Discover, []), now).unwrap();
    let address = offer.message.yiaddr();
    assert!(pool().contains(address));
    let accept = [
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::RequestedIpAddress(address),
    ];
    let ack = ask_at(&mut server, &message(STRANGER, MessageType::Request, accept), now).unwrap();
    assert_eq!(
        ack.option(OptionCode::AddressLeaseTime),
        Some(&DhcpOption::AddressLeaseTime(600))
    );
    let later = now + Duration::from_secs(500);
    assert_eq!(
        ask_at(&mut server, &message(STRANGER, MessageType::Discover, []), later)
            .unwrap()
            .message
            .yiaddr(),
        address
    );
    let mut without_pool = server_with(DhcpConfig::default());
    assert!(ask(&mut without_pool, &message(STRANGER, MessageType::Discover, [])).is_none());
}

#[test]
fn a_restarted_server_grants_what_a_stranger_already_had() {
    let had = Ipv4Addr::new(10, 10, 0, 105);
    let mut renewal = message(STRANGER, MessageType::Request, []);
    renewal.set_ciaddr(had);
    assert_eq!(ask(&mut server(), &renewal).unwrap().reply.kind, MessageType::Ack);
}

#[test]
fn a_client_that_only_asks_for_settings_gets_no_address() {
    let mut inform = message(STRANGER, MessageType::Inform, []);
    inform.set_ciaddr(Ipv4Addr::new(10, 10, 0, 77));
    let ack = ask(&mut server(), &inform).unwrap();
    assert_eq!(
        (ack.reply.kind, ack.message.yiaddr()),
        (MessageType::Ack, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(ack.option(OptionCode::AddressLeaseTime), None);
    assert_eq!(ack.reply.to.to_string(), "10.10.0.77:68");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let check = |config| settings(config).check();
    let with = |first: [u8; 4], last: [u8; 4]| DhcpConfig {
        pool: Some(PoolConfig {
            first: first.into(),
            last: last.into(),
            lease_time_s: 600,
        }),
        ..DhcpConfig::default()
    };
    assert!(matches!(
        check(with([10, 10, 1, 1], [10, 10, 1, 9])),
        Err(DhcpSettingsError::PoolOutside { .. })
    ));
    assert!(matches!(
        check(with([10, 10, 0, 9], [10, 10, 0, 1])),
        Err(DhcpSettingsError::PoolSize { .. })
    ));
    let hasty = DhcpConfig {
        lease_time_s: 5,
        ..DhcpConfig::default()
    };
    assert_eq!(check(hasty), Err(DhcpSettingsError::LeaseTime { seconds: 5 }));
    let talkative = DhcpConfig {
        name_servers: vec![SERVER; 4],
        ..DhcpConfig::default()
    };
    assert_eq!(check(talkative), Err(DhcpSettingsError::NameServers { count: 4 }));
    assert!(toml::from_str::<DhcpConfig>("lease_tme_s = 3600").is_err());
}
