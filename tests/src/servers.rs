//! The lender's list of servers, as its operator would write it.

use crate::machine::{Bus, Disk, Firmware, Hardware, NetworkBoot, NicModel};
use crate::redfish::{Redfish, USER};
use crate::vlan_switch;
use anyhow::Result;
use leaseboot_protocol::hardware::{self, Cpu, HardwareReport, Nic, PciDevice};
use leaseboot_protocol::network::MacAddress;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// A bare server of a scenario and what the lender wrote down about it.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it is made of.
    pub hardware: Hardware,
    /// Its address on the lender's wire.
    pub address: Ipv4Addr,
    /// Its address on a wire of IPv6; none is one of the pool's.
    pub address6: Option<Ipv6Addr>,
    /// Whether it stands in the tagged network of [`vlan_switch`] once it is lent.
    pub tagged: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The PCI functions that the lender wrote down, as vendor and device with the class; none is no word about them.
    pub functions: Vec<(&'static str, &'static str)>,
    /// Whether the lender knows the hardware already. Otherwise the server is booted once to report it.
    pub on_record: bool,
}

impl Server {
    /// The `number`th server of the rack, counted from 1: BIOS, two cores, 2 GiB, one empty disk.
    pub fn numbered(number: u8) -> Self {
        let hardware = Hardware {
            name: format!("lab{number:04}"),
            mac: MacAddress([0x52, 0x54, 0x00, 0x4c, 0x42, number]),
            firmware: Firmware::Bios,
            network_boot: NetworkBoot::default(),
            nic: NicModel::Virtio,
            unwired: [0, 0],
            memory_mib: 2048,
            cores: 2,
            disks: vec![Disk::new(Bus::Virtio, &format!("LAB{number:04}"), 8 << 10)],
        };
        Self {
            hardware,
            address: Ipv4Addr::new(10, 10, 0, 10 + number),
            address6: None,
            tagged: false,
            labels: BTreeMap::new(),
            functions: Vec::new(),
            on_record: true,
        }
    }

    /// The same server, but the lender has only its card's address.
    #[must_use]
    pub fn unknown_hardware(mut self) -> Self {
        self.on_record = false;
        self
    }

    /// The same server with a label.
    #[must_use]
    pub fn labelled(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What the agent would report, as far as a lease depends on it.
    fn report(&self) -> HardwareReport {
        let hardware = &self.hardware;
        let disks = hardware.disks.iter().zip('a'..='z').map(|(disk, letter)| {
            let serial = &disk.serial;
            let (name, by_id) = match disk.bus {
                Bus::Virtio | Bus::Plain => (format!("vd{letter}"), format!("virtio-{serial}")),
                Bus::Sata => (format!("sd{letter}"), format!("ata-QEMU_HARDDISK_{serial}")),
                Bus::Nvme => ("nvme0n1".to_owned(), format!("nvme-QEMU_NVMe_Ctrl_{serial}")),
            };
            hardware::Disk {
                name,
                serial: serial.clone(),
                by_id,
                size_bytes: disk.size_mib << 20,
                ..hardware::Disk::default()
            }
        });
        HardwareReport {
            architecture: hardware.firmware.architecture().to_string(),
            cpu: Cpu {
                sockets: 1,
                cores: hardware.cores,
                threads: hardware.cores,
                ..Cpu::default()
            },
            // The kernel keeps some for itself.
            memory_bytes: u64::from(hardware.memory_mib - 64) << 20,
            disks: disks.collect(),
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac: hardware.mac,
                driver: "virtio_net".to_owned(),
                speed_mbps: None,
                max_speed_mbps: None,
                carrier: true,
            }],
            pci: self.functions.iter().map(pci_device).collect(),
            firmware: match hardware.firmware.is_uefi() {
                false => hardware::Firmware::Bios,
                true => hardware::Firmware::Uefi,
            },
            ..HardwareReport::default()
        }
    }
}

/// The functions of a server with a paravirtual card and a paravirtual disk.
pub const VIRTIO_FUNCTIONS: [(&str, &str); 2] = [("1af4:1000", "020000"), ("1af4:1001", "010000")];

fn pci_device((id, class): &(&str, &str)) -> PciDevice {
    PciDevice {
        id: (*id).to_owned(),
        class: (*class).to_owned(),
        ..PciDevice::default()
    }
}

#[derive(Serialize)]
struct ServersFile {
    server: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    mac: MacAddress,
    address: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    address6: Option<Ipv6Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged: Option<Tagged>,
    console: &'static str,
    labels: BTreeMap<String, String>,
    wiped: bool,
    power: Power,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<HardwareReport>,
}

#[derive(Serialize)]
struct Tagged {
    vlan: u16,
    address: String,
    router: Ipv4Addr,
}

#[derive(Serialize)]
struct Power {
    kind: &'static str,
    url: String,
    username: &'static str,
    password_file: PathBuf,
}

/// The text of `servers.toml`.
pub(crate) fn servers_toml(servers: &[Server], redfish: &Redfish) -> Result<String> {
    let entry = |server: &Server| Entry {
        name: server.hardware.name.clone(),
        mac: server.hardware.mac,
        address: server.address,
        address6: server.address6,
        tagged: server.tagged.then(|| Tagged {
            vlan: vlan_switch::TAG,
            address: format!("{}/{}", vlan_switch::SERVER_ADDRESS, vlan_switch::PREFIX),
            router: vlan_switch::ROUTER,
        }),
        console: server.hardware.firmware.console(),
        labels: server.labels.clone(),
        wiped: true,
        power: Power {
            kind: "redfish",
            url: redfish.system(&server.hardware.name),
            username: USER,
            password_file: redfish.password_file().to_owned(),
        },
        hardware: server.on_record.then(|| server.report()),
    };
    let file = ServersFile {
        server: servers.iter().map(entry).collect(),
    };
    Ok(toml::to_string(&file)?)
}
