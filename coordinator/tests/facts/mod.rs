//! One server and one lease's settings, as the merge wants them: for the validators' tests and the bench.

use leaseboot_lm::boot::KernelWord;
use leaseboot_lm::merge::{Lender, Merged, TenantFacts, merge};
use leaseboot_protocol::hardware::{Disk, Firmware, HardwareReport, Nic};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::leases::MergeProblem;
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use leaseboot_protocol::requirements::Requirements;
use leaseboot_protocol::settings::InstallSettings;

/// A lender's server with 4 GiB and one disk of 16 GiB.
pub struct Facts {
    server: ServerId,
    place: LenderAddress,
    console: Option<KernelWord>,
    hardware: HardwareReport,
    requirements: Requirements,
}

impl Facts {
    pub fn new(console: Option<&str>) -> Self {
        let mac: MacAddress = "52:54:00:4c:42:01".parse().expect("a MAC address");
        Self {
            server: "lab0001".parse().expect("a name"),
            place: LenderAddress {
                mac,
                address: "10.10.0.11/24".parse().expect("an address"),
                router: Some("10.10.0.1".parse().expect("an address")),
                mtu: 9000,
                vlan: None,
            },
            console: console.map(|console| console.parse().expect("a console")),
            hardware: HardwareReport {
                memory_bytes: 4 << 30,
                disks: vec![Disk {
                    by_id: "virtio-LAB0001".to_owned(),
                    size_bytes: 16 << 30,
                    ..Disk::default()
                }],
                nics: vec![Nic {
                    name: "eth0".to_owned(),
                    mac,
                    driver: String::new(),
                    speed_mbps: None,
                    max_speed_mbps: None,
                    carrier: true,
                }],
                firmware: Firmware::Bios,
                ..HardwareReport::default()
            },
            requirements: Requirements::default(),
        }
    }

    pub fn merge(&self, settings: &InstallSettings) -> Result<Merged, Vec<MergeProblem>> {
        let lender = Lender {
            server: &self.server,
            place: &self.place,
            console: self.console.as_ref(),
            hardware: &self.hardware,
            requirements: &self.requirements,
            tenant: TenantFacts {
                taken: &[],
                sealed_secrets: true,
            },
        };
        merge(&lender, settings)
    }
}

pub fn settings(installer: Installer, text: &str) -> InstallSettings {
    let sample = include_str!("../../../protocol/samples/settings.json");
    InstallSettings {
        installer,
        kickstart: text.to_owned(),
        ..serde_json::from_str(sample).expect("the protocol's sample")
    }
}
