//! Beside another DHCP server.

use super::*;
use dhcproto::v4::Opcode;
use std::net::SocketAddrV4;

fn proxy() -> Dhcp {
    server_with(DhcpConfig {
        mode: DhcpMode::Proxy,
        ..DhcpConfig::default()
    })
}

fn pxe(mac: MacAddress, kind: MessageType, number: u16) -> Message {
    let machine = DhcpOption::ClientMachineIdentifier([vec![0], vec![7; 16]].concat());
    message(
        mac,
        kind,
        [
            class("PXEClient:Arch:00007:UNDI:003016"),
            architectures(&[number]),
            machine,
        ],
    )
}

#[test]
fn firmware_is_told_its_program_and_no_address() {
    for mac in [KNOWN, STRANGER] {
        let offer = ask(&mut proxy(), &pxe(mac, MessageType::Discover, 7)).unwrap();
        assert_eq!(
            (offer.reply.kind, offer.message.opcode()),
            (MessageType::Offer, Opcode::BootReply)
        );
        assert_eq!(
            (offer.message.yiaddr(), offer.message.siaddr()),
            (Ipv4Addr::UNSPECIFIED, SERVER)
        );
        assert_eq!(offer.reply.to.to_string(), "255.255.255.255:68");
        assert_eq!(offer.boot_file().as_deref(), Some("ipxe/snponly.efi"));
        assert_eq!(
            offer.option(OptionCode::ClassIdentifier),
            Some(&class("PXEClient"))
        );
        let vendor = DhcpOption::VendorExtensions(vec![6, 1, 8, 10, 4, 0, b'P', b'X', b'E', 255]);
        assert_eq!(offer.option(OptionCode::VendorExtensions), Some(&vendor));
        assert!(offer.option(OptionCode::ClientMachineIdentifier).is_some());
        for absent in [
            OptionCode::AddressLeaseTime,
            OptionCode::SubnetMask,
            OptionCode::Router,
        ] {
            assert_eq!(offer.option(absent), None);
        }
    }
}

#[test]
fn ipxe_and_http_boot_are_told_theirs() {
    let ipxe = [
        class("PXEClient:Arch:00000:UNDI:002001"),
        DhcpOption::UserClass(b"iPXE".to_vec()),
    ];
    let offer = ask(&mut proxy(), &message(KNOWN, MessageType::Discover, ipxe)).unwrap();
    assert!(offer.boot_file().unwrap().ends_with(".ipxe"));
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&class("PXEClient"))
    );
    // "no-pxedhcp" would have it overlook this very answer.
    assert_eq!(offer.option(OptionCode::from(175)), None);
    let http = [class("HTTPClient:Arch:00016:UNDI:003001"), architectures(&[16])];
    let offer = ask(&mut proxy(), &message(KNOWN, MessageType::Discover, http)).unwrap();
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&class("HTTPClient"))
    );
    assert_eq!(
        offer.boot_file().as_deref(),
        Some("http://10.10.0.1/ipxe/snponly.efi")
    );
}

#[test]
fn what_is_the_other_servers_gets_no_answer() {
    let wanted = DhcpOption::RequestedIpAddress(FIXED);
    let mut server = proxy();
    assert!(ask(&mut server, &message(KNOWN, MessageType::Discover, [])).is_none());
    assert!(ask(&mut server, &message(KNOWN, MessageType::Request, [wanted])).is_none());
    assert!(ask(&mut server, &pxe(KNOWN, MessageType::Request, 7)).is_none());
    assert!(ask(&mut server, &pxe(KNOWN, MessageType::Discover, 0xeeee)).is_none());
}

#[test]
fn the_boot_server_port_answers_its_own_clients_only() {
    let at_boot_server = |message: &Message, from: Ipv4Addr| {
        let request = Request::parse(&message.to_vec().unwrap()).unwrap();
        proxy().boot_server_answer(&request, SocketAddrV4::new(from, 68))
    };
    let mut request = pxe(KNOWN, MessageType::Request, 7);
    request.set_ciaddr(FIXED);
    let reply = at_boot_server(&request, FIXED).unwrap();
    assert_eq!(
        (reply.kind, reply.to),
        (MessageType::Ack, SocketAddrV4::new(FIXED, 68))
    );
    let ack = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    assert_eq!((ack.ciaddr(), ack.siaddr()), (FIXED, SERVER));
    assert!(ack.opts().contains(OptionCode::BootfileName));
    assert_eq!(at_boot_server(&request, Ipv4Addr::new(8, 8, 8, 8)), None);
    assert_eq!(at_boot_server(&pxe(KNOWN, MessageType::Discover, 7), FIXED), None);
    // A client that picks an item of a boot server hears that it is this one.
    let item = UnknownOption::new(
        OptionCode::VendorExtensions,
        vec![9, 0, 71, 4, 0x80, 1, 0, 0, 255],
    );
    request.opts_mut().insert(DhcpOption::Unknown(item));
    let reply = at_boot_server(&request, FIXED).unwrap();
    let ack = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    let echoed = DhcpOption::VendorExtensions(vec![71, 4, 0x80, 1, 0, 0, 255]);
    assert_eq!(ack.opts().get(OptionCode::VendorExtensions), Some(&echoed));
}

#[test]
fn a_proxy_has_no_addresses_to_give() {
    let config = DhcpConfig {
        mode: DhcpMode::Proxy,
        pool: Some(pool()),
        ..DhcpConfig::default()
    };
    assert_eq!(settings(config).check(), Err(DhcpSettingsError::PoolOfProxy));
    assert_eq!(
        toml::from_str::<DhcpConfig>("mode = \"proxy\"").unwrap().mode,
        DhcpMode::Proxy
    );
}
