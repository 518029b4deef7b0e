//! Networks behind relays.

use super::*;
use dhcproto::v4::relay::{RelayAgentInformation, RelayInfo};

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 254);
/// Circuit and remote identifier, as a switch sends them.
const INFORMATION: [u8; 10] = [1, 4, 0, 7, 0, 3, 2, 2, 0xca, 0xfe];

fn subnet() -> SubnetConfig {
    SubnetConfig {
        network: "10.20.0.0/24".parse().unwrap(),
        router: Some(RELAY),
        pool: Some(PoolConfig {
            first: Ipv4Addr::new(10, 20, 0, 100),
            last: Ipv4Addr::new(10, 20, 0, 109),
            lease_time_s: 600,
        }),
    }
}

fn server_behind_relay() -> Dhcp {
    let settings = DhcpSettings {
        subnets: vec![subnet()],
        ..settings(DhcpConfig {
            pool: Some(pool()),
            ..DhcpConfig::default()
        })
    };
    settings.check().unwrap();
    Dhcp::new(settings)
}

fn relayed(mac: MacAddress, kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let mut message = message(mac, kind, options);
    message.set_giaddr(RELAY).set_hops(1);
    let mut information = RelayAgentInformation::default();
    information.insert(RelayInfo::AgentCircuitId(vec![0, 7, 0, 3]));
    information.insert(RelayInfo::AgentRemoteId(vec![0xca, 0xfe]));
    message
        .opts_mut()
        .insert(DhcpOption::RelayAgentInformation(information));
    message
}

/// Option 82 is the last one, as it came.
fn ends_with_information(answer: &Answer) -> bool {
    let option = [&[82, 10][..], &INFORMATION, &[255]].concat();
    let end = answer.reply.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    answer.reply.bytes[..=end].ends_with(&option)
}

#[test]
fn a_stranger_behind_a_relay_gets_an_address_of_its_own_network() {
    let mut server = server_behind_relay();
    let offer = ask(
        &mut server,
        &relayed(STRANGER, MessageType::Discover, [class("PXEClient")]),
    )
    .unwrap();
    let address = offer.message.yiaddr();
    assert!(subnet().pool.unwrap().contains(address), "{address}");
    assert_eq!(offer.reply.to.to_string(), "10.20.0.254:67");
    assert_eq!((offer.message.giaddr(), offer.message.siaddr()), (RELAY, SERVER));
    assert_eq!(
        offer.option(OptionCode::Router),
        Some(&DhcpOption::Router(vec![RELAY]))
    );
    assert!(offer.boot_file().is_some() && ends_with_information(&offer));
    let accept = [
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::RequestedIpAddress(address),
    ];
    let ack = ask(&mut server, &relayed(STRANGER, MessageType::Request, accept)).unwrap();
    assert_eq!(
        (ack.reply.kind, ack.message.yiaddr()),
        (MessageType::Ack, address)
    );
    assert!(ends_with_information(&ack));
    // It renews without the relay, by its address.
    let mut renewal = message(STRANGER, MessageType::Request, []);
    renewal.set_ciaddr(address);
    let ack = ask(&mut server, &renewal).unwrap();
    assert_eq!(
        (ack.reply.kind, ack.reply.to.to_string()),
        (MessageType::Ack, format!("{address}:68"))
    );
}

#[test]
fn a_refusal_goes_back_through_the_relay_to_everybody() {
    let elsewhere = [DhcpOption::RequestedIpAddress(FIXED)];
    let nak = ask(
        &mut server_behind_relay(),
        &relayed(STRANGER, MessageType::Request, elsewhere),
    )
    .unwrap();
    assert_eq!(
        (nak.reply.kind, nak.reply.to.to_string()),
        (MessageType::Nak, "10.20.0.254:67".to_owned())
    );
    assert!(nak.message.flags().broadcast() && ends_with_information(&nak));
}

#[test]
fn a_server_on_record_that_was_moved_gets_no_address_of_the_wrong_network() {
    let mut server = server_behind_relay();
    assert!(ask(&mut server, &relayed(KNOWN, MessageType::Discover, [])).is_none());
    let mut at_home = message(KNOWN, MessageType::Discover, []);
    at_home.set_giaddr(Ipv4Addr::new(10, 10, 0, 254));
    assert_eq!(ask(&mut server, &at_home).unwrap().message.yiaddr(), FIXED);
}

#[test]
fn subnets_that_cannot_work_are_refused() {
    let check = |subnets: Vec<SubnetConfig>| {
        let settings = DhcpSettings {
            subnets,
            ..settings(DhcpConfig::default())
        };
        settings.check()
    };
    let network = |network: &str| SubnetConfig {
        network: network.parse().unwrap(),
        router: None,
        pool: None,
    };
    assert_eq!(
        check(vec![network("10.20.0.0/24"), network("10.21.0.0/24")]),
        Ok(())
    );
    assert!(matches!(
        check(vec![network("10.10.0.0/16")]),
        Err(DhcpSettingsError::Overlap { .. })
    ));
    assert!(matches!(
        check(vec![network("10.20.0.0/24"), network("10.20.0.128/25")]),
        Err(DhcpSettingsError::Overlap { .. })
    ));
    let astray = SubnetConfig {
        router: Some(SERVER),
        ..subnet()
    };
    assert!(matches!(
        check(vec![astray]),
        Err(DhcpSettingsError::Router { .. })
    ));
    let pool_outside = SubnetConfig {
        pool: Some(pool()),
        ..subnet()
    };
    assert!(matches!(
        check(vec![pool_outside]),
        Err(DhcpSettingsError::PoolOutside { .. })
    ));
}
