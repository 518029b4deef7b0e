//! The protocol as clients see it, from datagram to datagram.

use super::*;
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const FIXED: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 11);
const KNOWN: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0x11]);
const STRANGER: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0x99]);

fn settings(config: DhcpConfig) -> DhcpSettings {
    DhcpSettings {
        interface: "br0".to_owned(),
        address: "10.10.0.1/24".parse().unwrap(),
        router: Some(SERVER),
        http_base: "http://10.10.0.1".to_owned(),
        http_loader: Some("http://10.10.0.1/boot/files/ab/core.efi".to_owned()),
        config,
    }
}

fn pool() -> PoolConfig {
    PoolConfig {
        first: Ipv4Addr::new(10, 10, 0, 100),
        last: Ipv4Addr::new(10, 10, 0, 109),
        lease_time_s: 600,
    }
}

fn server() -> Dhcp {
    server_with(DhcpConfig {
        pool: Some(pool()),
        ..DhcpConfig::default()
    })
}

fn server_with(config: DhcpConfig) -> Dhcp {
    let settings = settings(config);
    settings.check().unwrap();
    Dhcp::new(settings)
}

fn directory(mac: MacAddress) -> Option<LenderAddress> {
    (mac == KNOWN).then(|| LenderAddress {
        mac,
        address: "10.10.0.11/24".parse().unwrap(),
        router: None,
        mtu: 9000,
    })
}

fn message(mac: MacAddress, kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0x1234_5678, none, none, none, none, &mac.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}

fn class(text: &str) -> DhcpOption {
    DhcpOption::ClassIdentifier(text.as_bytes().to_vec())
}

fn architectures(numbers: &[u16]) -> DhcpOption {
    let bytes = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    DhcpOption::Unknown(UnknownOption::new(OptionCode::ClientSystemArchitecture, bytes))
}

struct Answer {
    message: Message,
    reply: Reply,
}

impl Answer {
    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    fn boot_file(&self) -> Option<String> {
        let Some(DhcpOption::BootfileName(name)) = self.option(OptionCode::BootfileName) else {
            assert_eq!(self.message.fname(), None);
            return None;
        };
        let name = String::from_utf8(name.clone()).unwrap();
        let field = String::from_utf8(self.message.fname().unwrap().to_vec()).unwrap();
        assert_eq!(field.trim_end_matches('\0'), name);
        Some(name)
    }
}

fn ask_at(server: &mut Dhcp, message: &Message, now: Instant) -> Option<Answer> {
    let reply = handle_datagram(server, &message.to_vec().unwrap(), directory, now).unwrap()?;
    assert!(
        reply.bytes.len() >= 300 && reply.bytes.len() <= 548,
        "{} bytes",
        reply.bytes.len()
    );
    let answer = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    assert_eq!(answer.xid(), message.xid());
    assert_eq!(answer.chaddr(), message.chaddr());
    Some(Answer {
        message: answer,
        reply,
    })
}

fn ask(server: &mut Dhcp, message: &Message) -> Option<Answer> {
    ask_at(server, message, Instant::now())
}

fn boot_file(config: DhcpConfig, options: impl IntoIterator<Item = DhcpOption>) -> Option<String> {
    ask(
        &mut server_with(config),
        &message(KNOWN, MessageType::Discover, options),
    )
    .unwrap()
    .boot_file()
}

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
    assert_eq!(ignored, Err(Ignored::Relayed));
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
fn each_client_gets_the_program_that_it_can_run() {
    let pxe = |numbers: &[u16]| [class("PXEClient:Arch:00000:UNDI:002001"), architectures(numbers)];
    let grub = DhcpConfig::default();
    let ipxe = DhcpConfig {
        first_loader: FirstLoader::Ipxe,
        ..DhcpConfig::default()
    };
    for (config, numbers, expected) in [
        (&grub, &[0][..], Some("grub/core.0")),
        (&grub, &[7], Some("grub/core.efi")),
        (&grub, &[9], Some("grub/core.efi")),
        // A list: the first that we know. dhcproto's own decoder would lose step here.
        (&grub, &[6, 7], Some("grub/core.efi")),
        (&grub, &[6], None),
        (&grub, &[11], None),
        (&ipxe, &[0], Some("ipxe/undionly.kpxe")),
        (&ipxe, &[7], Some("ipxe/snponly.efi")),
    ] {
        assert_eq!(
            boot_file(config.clone(), pxe(numbers)).as_deref(),
            expected,
            "{numbers:?}"
        );
    }
    let named_only = [class("PXEClient:Arch:00007:UNDI:003000")];
    assert_eq!(
        boot_file(grub.clone(), named_only).as_deref(),
        Some("grub/core.efi")
    );
    assert_eq!(boot_file(grub.clone(), [class("leaseboot")]), None);
    assert_eq!(boot_file(grub, []), None);
}

#[test]
fn ipxe_gets_its_servers_script_or_grub() {
    let bare = DhcpOption::UserClass(b"iPXE".to_vec());
    let by_the_rfc = DhcpOption::UserClass(b"\x01x\x04iPXE".to_vec());
    let script = "http://10.10.0.1/boot/ipxe/52:54:00:00:00:11.ipxe";
    for user_class in [bare.clone(), by_the_rfc] {
        let options = [
            class("PXEClient:Arch:00000:UNDI:002001"),
            user_class,
            architectures(&[0]),
        ];
        assert_eq!(boot_file(DhcpConfig::default(), options).as_deref(), Some(script));
    }
    let chain = DhcpConfig {
        ipxe_chain: IpxeChain::Grub,
        ..DhcpConfig::default()
    };
    let efi = [bare.clone(), architectures(&[7])];
    assert_eq!(boot_file(chain.clone(), efi).as_deref(), Some("grub/core.efi"));
    assert_eq!(boot_file(chain, [bare]).as_deref(), Some("grub/core.0"));
    let not_ipxe = [DhcpOption::UserClass(b"\xffiPXE".to_vec()), class("PXEClient")];
    assert_eq!(
        boot_file(DhcpConfig::default(), not_ipxe).as_deref(),
        Some("grub/core.0")
    );
}

#[test]
fn uefi_http_boot_gets_a_url_and_its_own_class_back() {
    let options = [class("HTTPClient:Arch:00016:UNDI:003001"), architectures(&[16])];
    let offer = ask(&mut server(), &message(KNOWN, MessageType::Discover, options)).unwrap();
    assert_eq!(
        offer.boot_file().as_deref(),
        Some("http://10.10.0.1/boot/files/ab/core.efi")
    );
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&class("HTTPClient"))
    );
}

#[test]
fn identifiers_come_back_as_they_were_sent() {
    let machine = DhcpOption::ClientMachineIdentifier([vec![0], vec![7; 16]].concat());
    let client = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
    let options = [class("PXEClient"), machine.clone(), client.clone()];
    let offer = ask(&mut server(), &message(KNOWN, MessageType::Discover, options)).unwrap();
    assert_eq!(offer.option(OptionCode::ClientMachineIdentifier), Some(&machine));
    assert_eq!(offer.option(OptionCode::ClientIdentifier), Some(&client));
}

#[test]
fn the_largest_answer_fits_into_the_smallest_packet() {
    let config = DhcpConfig {
        name_servers: vec![SERVER; 3],
        pool: Some(pool()),
        ..DhcpConfig::default()
    };
    let mut server = Dhcp::new(DhcpSettings {
        http_loader: Some(format!(
            "http://255.255.255.255/boot/files/{}/core.efi",
            "a".repeat(64)
        )),
        ..settings(config)
    });
    let options = [
        class("HTTPClient:Arch:00016:UNDI:003001"),
        architectures(&[16]),
        DhcpOption::ClientMachineIdentifier(vec![7; 17]),
        DhcpOption::ClientIdentifier(vec![7; 17]),
    ];
    assert!(
        ask(&mut server, &message(KNOWN, MessageType::Discover, options))
            .unwrap()
            .boot_file()
            .is_some()
    );
}

#[test]
fn an_option_that_makes_no_sense_hides_no_other() {
    let mut bytes = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
    bytes.truncate(240);
    // A host name that is not UTF-8, Rapid Commit with a body, and an address of three bytes.
    bytes.extend([12, 2, 0xff, 0xfe, 80, 1, 9, 50, 3, 1, 2, 3, 53, 1, 1, 60, 9]);
    bytes.extend(b"PXEClient");
    bytes.push(255);
    let reply = handle_datagram(&mut server(), &bytes, directory, Instant::now())
        .unwrap()
        .unwrap();
    let answer = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    assert_eq!(answer.yiaddr(), FIXED);
    assert!(answer.opts().contains(OptionCode::BootfileName));
}

#[test]
fn what_is_not_for_us_is_ignored() {
    let good = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        handle_datagram(&mut server(), &bytes, directory, Instant::now())
    };
    assert_eq!(changed(0, 2), Err(Ignored::NotARequest));
    assert_eq!(changed(236, 0), Err(Ignored::NotARequest));
    for length in [0, 5, 7, 16, 17, 255] {
        assert_eq!(
            changed(2, length),
            Err(Ignored::Hardware),
            "hardware address of {length} bytes"
        );
    }
    assert_eq!(changed(28, 0xff), Err(Ignored::Hardware));
    assert_eq!(
        handle_datagram(&mut server(), &good[..239], directory, Instant::now()),
        Err(Ignored::Short)
    );
    assert_eq!(
        handle_datagram(&mut server(), &good[..240], directory, Instant::now()),
        Err(Ignored::NoType)
    );
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

fn any_kind() -> impl Strategy<Value = MessageType> {
    (0u8..20).prop_map(MessageType::from)
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = handle_datagram(&mut server(), &bytes, directory, Instant::now());
    }

    /// Valid headers with random options reach the code behind the first checks.
    #[test]
    fn never_panics_on_random_options(options in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
        bytes.truncate(243);
        bytes.extend(options);
        let _ = handle_datagram(&mut server(), &bytes, directory, Instant::now());
    }

    #[test]
    fn never_panics_on_changed_bytes(
        kind in any_kind(),
        known in any::<bool>(),
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..8),
        cut in 0usize..400,
    ) {
        let options = [class("PXEClient:Arch:00000"), architectures(&[0, 7]), DhcpOption::UserClass(b"iPXE".to_vec()),
            DhcpOption::RequestedIpAddress(FIXED), DhcpOption::ClientMachineIdentifier(vec![1; 17])];
        let mut bytes = message(if known { KNOWN } else { STRANGER }, kind, options).to_vec().unwrap();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 8));
        if let Ok(Some(reply)) = handle_datagram(&mut server(), &bytes, directory, Instant::now()) {
            prop_assert!(reply.bytes.len() <= 1024);
            let to = *reply.to.ip();
            prop_assert!(to.is_broadcast() || settings(DhcpConfig::default()).address.contains(&to));
        }
    }
}
