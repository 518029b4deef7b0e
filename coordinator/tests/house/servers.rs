//! What the servers of a house are made of, and how `servers.toml` says so. A server's number makes its card and its address.

use super::House;
use leaseboot_protocol::hardware::{Cpu, Disk, HardwareReport, Nic};
use leaseboot_protocol::network::MacAddress;
use std::net::IpAddr;

/// The number of a server: it makes card and address.
pub fn mac(number: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, number])
}

pub fn address(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 1, number])
}

pub fn hardware(number: u8) -> HardwareReport {
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            cores: 2,
            ..Cpu::default()
        },
        memory_bytes: 2 << 30,
        disks: vec![Disk {
            name: "vda".to_owned(),
            by_id: format!("virtio-DISK{number}"),
            size_bytes: 8 << 30,
            ..Disk::default()
        }],
        nics: vec![Nic {
            name: "eth0".to_owned(),
            mac: mac(number),
            driver: String::new(),
            speed_mbps: None,
            max_speed_mbps: None,
            carrier: true,
        }],
        ..HardwareReport::default()
    }
}

/// The entry of a server, with its hardware; `outcome` as in [`House::server`].
pub fn described(number: u8, outcome: &str) -> String {
    let report = toml::to_string(&hardware(number)).unwrap();
    // Tables of the report become tables below server.hardware.
    let below = report
        .replace("[[", "[[server.hardware.")
        .replace("\n[cpu", "\n[server.hardware.cpu")
        .replace("\n[dmi", "\n[server.hardware.dmi");
    format!("{}[server.hardware]\n{below}", House::server(number, outcome))
}
