//! The protocol as clients see it, from datagram to datagram.

mod advisories;
mod leases;
mod noise;
mod programs;
mod proxies;
mod relays;

use super::*;
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use std::net::Ipv4Addr;
use std::time::Instant;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const FIXED: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 11);
const KNOWN: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0x11]);
const STRANGER: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 0x99]);

/// What `cargo xtask image` makes.
const LOADERS: [&str; 4] = [
    "grub/core.0",
    "grub/core.efi",
    "ipxe/undionly.kpxe",
    "ipxe/snponly.efi",
];

fn settings(config: DhcpConfig) -> DhcpSettings {
    DhcpSettings {
        interface: "br0".to_owned(),
        address: "10.10.0.1/24".parse().unwrap(),
        router: Some(SERVER),
        http_base: "http://10.10.0.1".to_owned(),
        loaders: LOADERS.map(str::to_owned).into(),
        subnets: Vec::new(),
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

fn directory(mac: MacAddress) -> Option<Card> {
    (mac == KNOWN).then(|| Card {
        place: LenderAddress {
            mac,
            address: "10.10.0.11/24".parse().unwrap(),
            router: None,
            mtu: 9000,
            vlan: None,
        },
        address6: None,
        choice: LoaderChoice::default(),
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
