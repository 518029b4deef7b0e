//! What reads bytes of strangers, one function for each reader: for `cargo xtask fuzz`, and for the unit test below, which feeds each with its corpus and with
//! what becomes of that by small changes. A function must not panic, must answer soon, and must not give more than the protocol's bounds.

use crate::boot::fuzzing as boot;
use crate::config::fuzzing as config;
use crate::dhcp::{
    Card, Dhcp, DhcpConfig, DhcpMode, DhcpSettings, LoaderChoice, PoolConfig, Request, SubnetConfig,
};
use crate::dhcp6::fuzzing::dhcp6;
use crate::merge::{Lender, TenantFacts, merge};
use crate::search::{Candidate, Index, Query};
use crate::tftp::{FromClient, Terms};
use ipnet::Ipv4Net;
use leaseboot_protocol::console::{Decoder, LONGEST_PAYLOAD, Party};
use leaseboot_protocol::erasure::{ErasureKey, SignedErasure};
use leaseboot_protocol::hardware::{Cpu, Disk, HardwareReport, Nic};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::labels::{LabelExpression, Labels};
use leaseboot_protocol::leases::SearchRequest;
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use leaseboot_protocol::requirements::Requirements;
use leaseboot_protocol::settings::InstallSettings;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

/// A reader, with its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every reader, by the name of its folder in `tests/fuzz/corpus`.
pub const TARGETS: [Target; 14] = [
    ("dhcp", dhcp),
    ("dhcp6", dhcp6),
    ("tftp", tftp),
    ("http", boot::http),
    ("kickstart", kickstart),
    ("preseed", preseed),
    ("autoinstall", autoinstall),
    ("settings", settings),
    ("search", search),
    ("servers_toml", config::servers_toml),
    ("servers_csv", config::servers_csv),
    ("labels", labels),
    ("erasure", erasure),
    ("console", console),
];

const LM: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);

fn network(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

/// An authoritative server with a pool and a relay's network, or one beside another's.
fn dhcp_server(mode: DhcpMode) -> Dhcp {
    let pool = |third| PoolConfig {
        first: Ipv4Addr::new(10, 10, third, 100),
        last: Ipv4Addr::new(10, 10, third, 103),
        lease_time_s: 600,
    };
    Dhcp::new(DhcpSettings {
        interface: "br0".to_owned(),
        address: network("10.10.0.1/24"),
        router: Some(LM),
        http_base: "http://10.10.0.1".to_owned(),
        loaders: [
            "grub/core.0",
            "grub/core.efi",
            "ipxe/undionly.kpxe",
            "ipxe/snponly.efi",
        ]
        .map(str::to_owned)
        .into(),
        subnets: vec![SubnetConfig {
            network: network("10.10.1.0/24"),
            router: None,
            pool: Some(pool(1)),
        }],
        config: DhcpConfig {
            mode,
            pool: Some(pool(0)).filter(|_| mode == DhcpMode::Authoritative),
            ..DhcpConfig::default()
        },
    })
}

/// Feeds the target of this name.
///
/// # Panics
/// When there is none, or it panics.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.expect("a target of this name");
    target(bytes);
}

/// What an agent in rescue mode sends on a console, and what a person does, in pieces as they may come.
pub fn console(bytes: &[u8]) {
    for party in [Party::Person, Party::Server] {
        let mut decoder = Decoder::new(party);
        for piece in bytes.chunks(7) {
            let Ok(frames) = decoder.read(piece) else {
                break;
            };
            for frame in frames {
                assert!(frame.terminal_bytes() <= LONGEST_PAYLOAD);
                let again = Decoder::new(party).read(&frame.encode());
                assert_eq!(again.as_deref(), Ok(std::slice::from_ref(&frame)));
            }
        }
    }
}

/// One datagram to port 67, and the same to port 4011.
pub fn dhcp(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else {
        return;
    };
    let known = Card {
        place: LenderAddress {
            mac: request.mac,
            address: network("10.10.0.11/24"),
            router: None,
            mtu: 9000,
            vlan: None,
        },
        address6: None,
        choice: LoaderChoice::default(),
    };
    let now = Instant::now();
    for mode in [DhcpMode::Authoritative, DhcpMode::Proxy] {
        let mut server = dhcp_server(mode);
        let replies = [
            server.answer(&request, None, now),
            server.answer(&request, Some(&known), now),
            server.boot_server_answer(&request, SocketAddrV4::new(Ipv4Addr::new(10, 10, 0, 11), 68)),
        ];
        for reply in replies.into_iter().flatten() {
            assert!(reply.bytes.len() <= 1472, "{} bytes", reply.bytes.len());
        }
    }
}

/// Datagrams, each behind its length in one byte: the first to the well-known port, the others to the transfer.
pub fn tftp(bytes: &[u8]) {
    if let Ok(FromClient::Read(request)) = FromClient::parse(bytes) {
        let terms = Terms::negotiate(&request, 1 << 20, 1500);
        assert!(
            (8..=1468).contains(&terms.block_size) && (1..=64).contains(&terms.window),
            "{terms:?}"
        );
    }
    crate::tftp::fuzzing::transfer(bytes);
}

/// A lender with one server of two disks.
fn merged(settings: &InstallSettings) {
    let place = LenderAddress {
        mac: MacAddress([0x52, 0x54, 0, 0x4c, 0x42, 1]),
        address: network("10.10.0.11/24"),
        router: Some(LM),
        mtu: 1500,
        vlan: None,
    };
    let hardware = hardware();
    let lender = Lender {
        server: &name(),
        place: &place,
        console: None,
        hardware: &hardware,
        requirements: &Requirements::default(),
        tenant: TenantFacts {
            taken: &[],
            sealed_secrets: true,
        },
    };
    match merge(&lender, settings) {
        Ok(merged) => assert!(merged.kickstart.len() < settings.kickstart.len() + (64 << 10)),
        Err(problems) => assert!((1..=101).contains(&problems.len())),
    }
}

fn name() -> ServerId {
    "lab0001".parse().expect("a name")
}

fn hardware() -> HardwareReport {
    let disk = |serial: &str, gib: u64| Disk {
        name: serial.to_ascii_lowercase(),
        by_id: format!("virtio-{serial}"),
        size_bytes: gib << 30,
        ..Disk::default()
    };
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            cores: 2,
            ..Cpu::default()
        },
        memory_bytes: 2 << 30,
        disks: vec![disk("VDA", 1), disk("VDB", 20)],
        nics: vec![Nic {
            name: "eth0".to_owned(),
            mac: MacAddress([0x52, 0x54, 0, 0x4c, 0x42, 1]),
            driver: String::new(),
            speed_mbps: None,
            max_speed_mbps: None,
            carrier: true,
        }],
        ..HardwareReport::default()
    }
}

fn with_text(installer: Installer, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let sample = include_str!("../../protocol/samples/settings.json");
    merged(&InstallSettings {
        installer,
        kickstart: text.to_owned(),
        ..serde_json::from_str(sample).expect("the protocol's sample")
    });
}

/// A kickstart, and its merge.
pub fn kickstart(bytes: &[u8]) {
    with_text(Installer::default(), bytes);
}

/// A preseed file, and its merge.
pub fn preseed(bytes: &[u8]) {
    with_text(Installer::Preseed {}, bytes);
}

/// An autoinstall file, and its merge.
pub fn autoinstall(bytes: &[u8]) {
    with_text(Installer::Autoinstall {}, bytes);
}

/// The body of `PUT /v1/leases/{id}/settings`.
pub fn settings(bytes: &[u8]) {
    if let Ok(settings) = serde_json::from_slice::<InstallSettings>(bytes) {
        merged(&settings);
    }
}

/// The body of `POST /v1/search`.
pub fn search(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<SearchRequest>(bytes) else {
        return;
    };
    if request.requirements.check().is_err() {
        return;
    }
    let (name, labels, hardware) = (
        name(),
        Labels::from([("rack".to_owned(), "a".to_owned())]),
        hardware(),
    );
    let candidate = Candidate {
        name: &name,
        free: true,
        labels: &labels,
        hardware: Some(&hardware),
    };
    let index: Index = [candidate].into_iter().collect();
    let query = Query::new(&request.requirements);
    let answer = index.look(&query, request.group.as_ref());
    assert!(answer.servers <= 1 && answer.fitting <= answer.free);
    assert_eq!(index.find(&query).is_ok(), answer.fitting == 1);
}

/// An expression over labels: it prints as one that means the same.
pub fn labels(bytes: &[u8]) {
    let Some(expression) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<LabelExpression>().ok())
    else {
        return;
    };
    let again: LabelExpression = expression
        .to_string()
        .parse()
        .expect("what was printed can be read");
    assert_eq!(again, expression);
    assert!(expression.names().len() <= bytes.len());
    let _ = expression.matches(&Labels::from([("rack".to_owned(), "a".to_owned())]));
}

/// An erasure record as it is verified by anyone.
pub fn erasure(bytes: &[u8]) {
    let key = ErasureKey {
        public_key: "A".repeat(43) + "=",
    };
    if let Ok(signed) = serde_json::from_slice::<SignedErasure>(bytes) {
        assert!(signed.verify(&key).is_err(), "nobody has signed with this key");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_reader_is_broken_by_its_corpus_or_by_small_changes_to_it() {
        for (name, target) in super::TARGETS {
            leaseboot_tests::fuzz::replay(name, target);
        }
    }
}
