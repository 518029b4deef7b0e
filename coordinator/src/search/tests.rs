use super::*;
use leaseboot_protocol::hardware::{Cpu, DiskKind, Firmware, HardwareReport, MemoryModule, Nic, PciDevice};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::Refusal;
use leaseboot_protocol::requirements::{FirmwareRequirement, NicRequirement, PciRequirement, TpmRequirement};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn report(cores: u32, memory_mib: u64, disks_gib: &[u64]) -> HardwareReport {
    let disk = |gib: &u64| Disk {
        size_bytes: gib * GIB,
        ..Disk::default()
    };
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            cores,
            ..Cpu::default()
        },
        memory_bytes: memory_mib * MIB,
        disks: disks_gib.iter().map(disk).collect(),
        ..HardwareReport::default()
    }
}

#[derive(Debug)]
struct Rack {
    names: Vec<ServerId>,
    labels: BTreeMap<String, String>,
    reports: Vec<(bool, Option<HardwareReport>)>,
}

impl Rack {
    fn new(reports: Vec<(bool, Option<HardwareReport>)>) -> Self {
        let names = (0..reports.len())
            .map(|number| format!("s{number}").parse().unwrap())
            .collect();
        Self {
            names,
            labels: BTreeMap::from([("rack".to_owned(), "1".to_owned())]),
            reports,
        }
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let servers = self.names.iter().zip(&self.reports);
        servers.map(|(name, (free, hardware))| Candidate {
            name,
            free: *free,
            labels: &self.labels,
            hardware: hardware.as_ref(),
        })
    }

    fn find(&self, requirements: &Requirements) -> Result<String, Refusal> {
        let index: Index = self.candidates().collect();
        let found = index.find(&Query::new(requirements))?;
        Ok(found.to_string())
    }
}

fn found(name: &str) -> Result<String, Refusal> {
    Ok(name.to_owned())
}

fn disks(wanted: &[(u32, u64)]) -> Requirements {
    let disk = |&(count, min_size_gib): &(u32, u64)| DiskRequirement {
        count,
        min_size_gib,
        kind: None,
    };
    Requirements {
        disks: wanted.iter().map(disk).collect(),
        ..Requirements::default()
    }
}

#[test]
fn the_smallest_that_is_sufficient_is_found() {
    let rack = Rack::new(vec![
        (true, Some(report(64, 262_144, &[1000]))),
        (true, Some(report(4, 8000, &[100]))),
        (false, Some(report(2, 4000, &[100]))),
        (true, Some(report(4, 8000, &[100]))),
        (true, None),
    ]);
    assert_eq!(rack.find(&Requirements::default()), found("s1"));
    assert_eq!(
        rack.find(&Requirements {
            min_cores: 5,
            ..Requirements::default()
        }),
        found("s0")
    );
}

#[test]
fn what_the_kernel_keeps_for_itself_does_not_count_against_a_server() {
    let rack = Rack::new(vec![(true, Some(report(2, 1960, &[])))]);
    assert_eq!(
        rack.find(&Requirements {
            min_memory_mib: 2048,
            ..Requirements::default()
        }),
        found("s0")
    );
    assert!(
        rack.find(&Requirements {
            min_memory_mib: 2304,
            ..Requirements::default()
        })
        .is_err()
    );
}

#[test]
fn a_refusal_counts_what_is_in_the_way() {
    let rack = Rack::new(vec![
        (true, Some(report(2, 2048, &[10]))),
        (true, Some(report(8, 2048, &[10]))),
        (false, Some(report(8, 65_536, &[500]))),
    ]);
    let wanted = Requirements {
        min_cores: 8,
        min_memory_mib: 65_536,
        ..Requirements::default()
    };
    let Err(Refusal::NothingFits {
        free,
        busy,
        unmet,
        nearest,
        ..
    }) = rack.find(&wanted)
    else {
        panic!("it fits")
    };
    assert_eq!((free, busy), (2, 1));
    let unmet: Vec<_> = unmet
        .iter()
        .map(|unmet| (unmet.requirement.as_str(), unmet.servers))
        .collect();
    assert_eq!(unmet, [("memory at least 65536 MiB", 2), ("at least 8 cores", 1)]);
    assert_eq!(nearest, ["memory at least 65536 MiB (it has 2048 MiB)"]);
}

#[test]
fn each_wanted_disk_gets_one_of_its_own() {
    let rack = Rack::new(vec![(true, Some(report(1, 1, &[100, 10])))]);
    // The large disk must be left for the second entry, although the first is asked for earlier.
    assert!(rack.find(&disks(&[(1, 5), (1, 50)])).is_ok());
    let Err(Refusal::NothingFits { unmet, .. }) = rack.find(&disks(&[(1, 50), (1, 60)])) else {
        panic!("it fits")
    };
    assert!(unmet[0].requirement.ends_with("each of its own"), "{unmet:?}");
    assert!(rack.find(&disks(&[(u32::MAX, 1), (u32::MAX, 1)])).is_err());
}

#[test]
fn labels_and_architecture_count() {
    let rack = Rack::new(vec![(true, Some(report(1, 1, &[])))]);
    let labelled = |value: &str| Requirements {
        labels: BTreeMap::from([("rack".to_owned(), value.to_owned())]),
        ..Requirements::default()
    };
    assert!(rack.find(&labelled("1")).is_ok());
    let Err(Refusal::NothingFits { nearest, .. }) = rack.find(&labelled("2")) else {
        panic!("it fits")
    };
    assert_eq!(nearest, ["label rack=2 (it has rack=1)"]);
    let other = Requirements {
        architecture: Some("aarch64".to_owned()),
        ..Requirements::default()
    };
    assert!(rack.find(&other).is_err());
}

fn any_rack() -> impl Strategy<Value = Rack> {
    let hardware = (1u32..8, 1u64..16, prop::collection::vec(1u64..6, 0..4))
        .prop_map(|(cores, memory, disks)| report(cores, memory * 1024, &disks));
    let server = (any::<bool>(), prop::option::weighted(0.9, hardware));
    prop::collection::vec(server, 0..6).prop_map(Rack::new)
}

proptest! {
    #[test]
    fn what_is_found_is_free_sufficient_and_always_the_same(
        rack in any_rack(), cores in 0u32..9, memory in 0u64..17, wanted in prop::collection::vec((0u32..3, 0u64..6), 0..3),
    ) {
        let requirements = Requirements { min_cores: cores, min_memory_mib: memory * 1024, ..disks(&wanted) };
        let found = rack.find(&requirements);
        prop_assert_eq!(&found, &rack.find(&requirements));
        match found {
            Ok(name) => {
                let index: usize = name[1..].parse().unwrap();
                let (free, hardware) = &rack.reports[index];
                prop_assert!(*free && hardware.as_ref().is_some_and(|hardware| hardware.cpu.cores >= cores));
            }
            Err(Refusal::NothingFits { free, unmet, nearest, .. }) => {
                prop_assert_eq!(free as usize, rack.reports.iter().filter(|(free, _)| *free).count());
                prop_assert_eq!(unmet.is_empty(), free == 0);
                prop_assert_eq!(nearest.is_empty(), free == 0);
                prop_assert!(unmet.iter().all(|unmet| (1..=free).contains(&unmet.servers)));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn every_part_of_the_hardware_can_be_asked_for() {
    let mut server = report(8, 65_536, &[100]);
    server.cpu.threads = 16;
    server.cpu.flags = vec!["aes".to_owned(), "avx512f".to_owned()];
    server.firmware = Firmware::UefiSecureBoot;
    server.tpm = true;
    server.tpm_version = "1.2".to_owned();
    server.disks[0].kind = DiskKind::Nvme;
    server.nics = vec![nic(10_000), nic(25_000)];
    server.pci = vec![gpu()];
    let rack = Rack::new(vec![(true, Some(server))]);
    let pci = |device: Option<&str>, class: Option<&str>, count| PciRequirement {
        count,
        device: device.map(|text| text.parse().unwrap()),
        class: class.map(|text| text.parse().unwrap()),
    };
    let nics = |count, min_speed_mbps| NicRequirement {
        count,
        min_speed_mbps,
    };
    let any = Requirements::default;
    let met = [
        Requirements {
            min_threads: 16,
            ..any()
        },
        Requirements {
            cpu_flags: vec!["avx512f".to_owned()],
            ..any()
        },
        Requirements {
            firmware: Some(FirmwareRequirement::Uefi),
            ..any()
        },
        Requirements {
            tpm: Some(TpmRequirement::Any),
            ..any()
        },
        Requirements {
            nics: vec![nics(1, 10_000), nics(1, 25_000)],
            ..any()
        },
        Requirements {
            pci: vec![pci(Some("10de:2330"), None, 1)],
            ..any()
        },
        Requirements {
            pci: vec![pci(None, Some("0302"), 1)],
            ..any()
        },
    ];
    for requirements in met {
        assert_eq!(rack.find(&requirements), found("s0"), "{requirements:?}");
    }
    for (requirements, words) in [
        (
            Requirements {
                min_threads: 17,
                ..any()
            },
            "at least 17 threads (it has 16)",
        ),
        (
            Requirements {
                cpu_flags: vec!["aes".to_owned(), "amx".to_owned()],
                ..any()
            },
            "processor flags aes amx (it has not amx)",
        ),
        (
            Requirements {
                firmware: Some(FirmwareRequirement::Bios),
                ..any()
            },
            "boot by BIOS (it has UefiSecureBoot)",
        ),
        (
            Requirements {
                tpm: Some(TpmRequirement::V2),
                ..any()
            },
            "a TPM 2.0 (it has 1.2)",
        ),
        (
            Requirements {
                nics: vec![nics(2, 25_000)],
                ..any()
            },
            "2 Ethernet cards of at least 25000 Mbit/s (it has 10000 Mbit/s, 25000 Mbit/s)",
        ),
        (
            Requirements {
                pci: vec![pci(None, Some("03"), 1), pci(Some("10de:2330"), None, 1)],
                ..any()
            },
            "1 PCI device of class 03 and 1 PCI device 10de:2330, each of its own (it has accelerators: 10de:2330 (class 030200))",
        ),
    ] {
        let Err(Refusal::NothingFits { nearest, .. }) = rack.find(&requirements) else {
            panic!("{requirements:?} fits")
        };
        assert_eq!(nearest, [words]);
    }
}

fn nic(max_speed_mbps: u32) -> Nic {
    Nic {
        name: String::new(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        driver: String::new(),
        speed_mbps: None,
        max_speed_mbps: Some(max_speed_mbps),
        carrier: false,
    }
}

fn gpu() -> PciDevice {
    PciDevice {
        address: "0000:3b:00.0".to_owned(),
        id: "10de:2330".to_owned(),
        class: "030200".to_owned(),
    }
}

#[test]
fn a_small_need_takes_no_accelerator() {
    let mut small_with_gpu = report(1, 1024, &[10]);
    small_with_gpu.pci = vec![gpu()];
    let rack = Rack::new(vec![
        (true, Some(small_with_gpu)),
        (true, Some(report(64, 65_536, &[10]))),
    ]);
    assert_eq!(rack.find(&Requirements::default()), found("s1"));
}

#[test]
fn what_the_memory_modules_say_goes_before_what_the_kernel_manages() {
    let mut server = report(1, 60_000, &[]);
    server.memory_modules = vec![
        MemoryModule {
            size_bytes: 32 << 30,
            ..MemoryModule::default()
        };
        2
    ];
    let rack = Rack::new(vec![(true, Some(server))]);
    let memory = |min_memory_mib| Requirements {
        min_memory_mib,
        ..Requirements::default()
    };
    assert!(rack.find(&memory(65_536)).is_ok());
    assert!(rack.find(&memory(65_537)).is_err());
}

mod columns;
mod groups;
