use super::*;
use leaseboot_protocol::hardware::Cpu;
use proptest::prelude::*;

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

    fn find(&self, requirements: &Requirements) -> Result<&str, Refusal> {
        let candidates: Vec<_> = self
            .names
            .iter()
            .zip(&self.reports)
            .map(|(name, (free, hardware))| Candidate {
                name,
                free: *free,
                labels: &self.labels,
                hardware: hardware.as_ref(),
            })
            .collect();
        find(requirements, &candidates).map(ServerId::as_str)
    }
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
    assert_eq!(rack.find(&Requirements::default()), Ok("s1"));
    assert_eq!(
        rack.find(&Requirements {
            min_cores: 5,
            ..Requirements::default()
        }),
        Ok("s0")
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
        Ok("s0")
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
