//! What stands behind the number of a simulated server, a tenant or a lease: names, cards, addresses, hardware.

use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::hardware::{Cpu, Disk, DiskKind, Dmi, Firmware, HardwareReport, MemoryModule, Nic};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::network::{MacAddress, TunnelSettings, WireguardPublicKey};
use leaseboot_protocol::settings::{Blob, BootImage, InstallSettings, TenantImage};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The Lease Manager.
pub(super) const LM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where magic packets go.
pub(super) const SWITCHBOARD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 251, 1), 9);
/// Servers of one block of addresses.
const BLOCK: usize = 250;
/// How the last bytes of a card begin.
const CARD: [u8; 3] = [0x52, 0x54, 0x46];
const GIB: u64 = 1 << 30;

const KICKSTART: &str = "text\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\nrootpw --iscrypted @sealed:root_password@\n\
    part /boot --size=1024\npart / --size=8192 --grow\n%packages\n@core\nnginx\n%end\n%post\nsystemctl enable nginx\n%end\n";

/// What servers are called.
pub(super) fn name(server: usize) -> String {
    format!("s{server:05}")
}

/// The server of this name.
pub(super) fn by_name(name: &str) -> Option<usize> {
    name.strip_prefix('s')?.parse().ok()
}

/// The card that a server boots from.
pub(super) fn card(server: usize) -> MacAddress {
    let [_, a, b, c] = number(server).to_be_bytes();
    MacAddress([CARD[0], CARD[1], CARD[2], a, b, c])
}

/// The server that has this card.
pub(super) fn by_card(card: &[u8]) -> Option<usize> {
    let last: [u8; 3] = card.strip_prefix(&CARD)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes([0, last[0], last[1], last[2]])).ok()
}

/// A server's address on the lender's wire.
pub(super) fn address(server: usize) -> Ipv4Addr {
    let byte = |number: usize| u8::try_from(1 + number).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 77, byte(server / BLOCK), byte(server % BLOCK))
}

/// A tenant's address.
pub(super) fn tenant_address(tenant: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 250, u8::try_from(1 + tenant).unwrap_or(u8::MAX))
}

/// A server of a common model: what an agent reports of it, and what the lender has written down.
pub(super) fn hardware(server: usize) -> HardwareReport {
    let disk = |slot: u32| {
        let serial = format!("S4{server:05}N{slot}");
        Disk {
            name: format!("nvme{slot}n1"),
            by_id: format!("nvme-MZQL2960HCJR_{serial}"),
            serial,
            model: "MZQL2960HCJR".to_owned(),
            size_bytes: 960_197_124_096,
            kind: DiskKind::Nvme,
        }
    };
    let module = |slot: u32| MemoryModule {
        slot: format!("DIMM_A{slot}"),
        size_bytes: 32 * GIB,
        speed_mts: 4800,
        vendor: "Samsung".to_owned(),
        part: "M321R4GA3BB6-CQK".to_owned(),
        serial: format!("M{server:05}{slot}"),
    };
    let nic = |port: u8, mac: MacAddress| Nic {
        name: format!("eth{port}"),
        mac,
        driver: "mlx5_core".to_owned(),
        speed_mbps: Some(25_000),
        max_speed_mbps: Some(25_000),
        carrier: true,
    };
    let second = MacAddress([
        0x56,
        0x54,
        0x46,
        card(server).0[3],
        card(server).0[4],
        card(server).0[5],
    ]);
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            model: "AMD EPYC 9354P 32-Core Processor".to_owned(),
            sockets: 1,
            cores: 32,
            threads: 64,
            flags: ["fpu", "sse4_2", "avx2", "avx512f", "aes", "sha_ni", "svm"]
                .map(str::to_owned)
                .to_vec(),
        },
        memory_bytes: 252 * GIB,
        memory_modules: (1..=8).map(module).collect(),
        disks: vec![disk(0), disk(1)],
        nics: vec![nic(0, card(server)), nic(1, second)],
        firmware: Firmware::Uefi,
        dmi: Dmi {
            vendor: "Supermicro".to_owned(),
            product: "AS-1115CS-TNR".to_owned(),
            serial: format!("A{server:08}"),
            uuid: format!("00000000-0000-1000-8000-{server:012}"),
        },
        ..HardwareReport::default()
    }
}

/// What a tenant has installed for the lease of this number.
pub(super) fn settings(lease: usize) -> InstallSettings {
    let blob = |name: &str, size| Blob {
        path: format!("/v1/image/{name}"),
        size,
        sha256: Sha256::of(name.as_bytes()),
    };
    let [_, a, b, c] = number(lease + 256).to_be_bytes();
    InstallSettings {
        profile: "web".to_owned(),
        hostname: format!("web-{lease}")
            .parse()
            .expect("letters, digits and a dash"),
        installer: Installer::default(),
        kickstart: KICKSTART.to_owned(),
        kickstart_origin: "profiles/web/web.ks".to_owned(),
        sealed: vec!["root_password".to_owned()],
        tunnel: TunnelSettings {
            address: format!("10.{a}.{b}.{c}/8").parse().expect("an address"),
            gateway_endpoint: "198.51.100.2:51820".parse().expect("an endpoint"),
            gateway_public_key: WireguardPublicKey([7; 32]),
            allowed_ips: vec!["10.0.0.0/8".parse().expect("a network")],
            gateway_service: "10.0.0.1:80".parse().expect("an endpoint"),
            mtu: 1420,
            keepalive_s: 25,
        },
        image: TenantImage::Installer(BootImage {
            kernel: blob("kernel", 8 << 20),
            initrd: blob("initrd", 32 << 20),
            command_line: "inst.text".to_owned(),
        }),
        min_memory_mib: 2048,
        architecture: Some("x86_64".to_owned()),
    }
}

/// The key that a server makes for its boot: as random as its number.
pub(super) fn key(server: usize) -> WireguardPublicKey {
    WireguardPublicKey(*Sha256::of(&number(server).to_be_bytes()).as_bytes())
}

fn number(of: usize) -> u32 {
    u32::try_from(of).expect("a fleet of fewer than 2^24 servers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_again_and_no_two_servers_share_an_address() {
        for server in [0, 1, 249, 250, 9_999] {
            assert_eq!(by_name(&name(server)), Some(server));
            assert_eq!(by_card(&card(server).0), Some(server));
        }
        let addresses: std::collections::BTreeSet<_> = (0..10_000).map(address).collect();
        assert_eq!(addresses.len(), 10_000);
        assert!(!addresses.contains(&LM) && !addresses.contains(SWITCHBOARD.ip()));
        assert!((0..10).all(|tenant| !addresses.contains(&tenant_address(tenant))));
    }
}
