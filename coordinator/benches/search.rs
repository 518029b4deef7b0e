//! Run by `cargo xtask bench search`: searches among 10,000 servers, on one core.
//!
//! Two fleets: one of forty models in a hundred racks, as fleets are bought, and one in which no two servers are alike, in their hardware or
//! in their labels. Two kinds of questions: a mix of what tenants ask, and the dearest one, which nothing fits, so that every
//! server is judged and counted. A taken server is given back after a while, so that the index is also changed all the time.
//!
//! What is measured is the time on the processor (clock_gettime(2), `CLOCK_THREAD_CPUTIME_ID`): what else the machine does is not the search's.
//!
//! Numbers come from a small generator with a fixed seed: every run asks the same.

use leaseboot_lm::search::{Candidate, Index, Query};
use leaseboot_protocol::hardware::{Cpu, Disk, DiskKind, Firmware, HardwareReport, Nic, PciDevice};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels::Labels;
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::requirements::Requirements;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

const SERVERS: usize = 10_000;
const SEARCHES: usize = 4_000;
/// Servers that are lent at a time, of those that the bench lends.
const LENT: usize = 2_000;

fn main() {
    for (name, unlike) in [("40 models", false), ("all unlike", true)] {
        let mut fleet = Fleet::new(unlike);
        let mixed = measure(|numbers| fleet.lend(numbers));
        say(&format!("{name}, mixed requests"), mixed);
        let nothing = Query::new(&requirements(
            r#"{"min_memory_mib": 999999999, "min_cores": 5000, "disks": [{"count": 90, "min_size_gib": 1}]}"#,
        ));
        let index = &fleet.index;
        let refused = measure(|_| {
            let _ = black_box(index.find(black_box(&nothing)).is_err());
        });
        say(&format!("{name}, nothing fits"), refused);
    }
}

/// The time that each search took, sorted.
fn measure(mut search: impl FnMut(&mut Numbers)) -> Vec<Duration> {
    let mut numbers = Numbers(1);
    let mut times: Vec<_> = (0..SEARCHES)
        .map(|_| {
            let before = on_processor();
            search(&mut numbers);
            on_processor().saturating_sub(before)
        })
        .collect();
    times.sort_unstable();
    times
}

fn on_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every Linux has this clock")
        .into()
}

/// In the words of the bench frame (`leaseboot_tests::bench`), which this crate must not import.
fn say(name: &str, times: Vec<Duration>) {
    let all: Duration = times.iter().sum();
    let rate = times.len() as f64 / all.as_secs_f64();
    let p99 = times[times.len() * 99 / 100].as_secs_f64() * 1000.0;
    println!(r#"row {{"name":"{name}","unit":"searches/s","ours":{rate:.0},"goal":{{"at_least":1000.0}}}}"#);
    println!(r#"row {{"name":"{name}, p99","unit":"ms","ours":{p99:.4},"goal":{{"at_most":10.0}}}}"#);
}

/// A linear congruential generator (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Fleet {
    index: Index,
    requests: Vec<Requirements>,
    lent: VecDeque<ServerId>,
}

impl Fleet {
    fn new(unlike: bool) -> Self {
        let mut numbers = Numbers(7);
        let servers: Vec<_> = (0..SERVERS)
            .map(|number| {
                let model = numbers.below(40);
                let report = report(model, number, if unlike { number as u64 } else { 0 });
                (server_name(number), labels(number, unlike), report)
            })
            .collect();
        let candidates = servers.iter().map(|(name, labels, report)| Candidate {
            name,
            free: true,
            labels,
            hardware: Some(report),
        });
        let index = candidates.collect();
        let texts = [
            r#"{"min_cores": 4, "min_memory_mib": 8192}"#,
            r#"{"architecture": "x86_64", "min_cores": 32, "min_memory_mib": 131072, "disks": [{"count": 2, "min_size_gib": 800, "kind": "nvme"}]}"#,
            r#"{"cpu_flags": ["flag-17", "flag-60"], "nics": [{"count": 2, "min_speed_mbps": 25000}], "where": "rack in (r3, r4, r50) and row != 2"}"#,
            r#"{"pci": [{"device": "10de:2330", "count": 4}], "firmware": "uefi", "min_memory_mib": 65536}"#,
            r#"{"where": "owner and !spare", "prefer": [{"where": "row = 1", "weight": 3}, {"where": "rack = r7", "weight": 5}]}"#,
            r#"{"disks": [{"count": 6, "min_size_gib": 400}, {"count": 2, "min_size_gib": 900, "kind": "ssd"}], "tpm": "2.0"}"#,
        ];
        Self {
            index,
            requests: texts.into_iter().map(requirements).collect(),
            lent: VecDeque::new(),
        }
    }

    /// A whole request: the requirements are made ready, a server is found and taken, and an older one is given back.
    fn lend(&mut self, numbers: &mut Numbers) {
        let request = &self.requests[numbers.below(self.requests.len() as u64) as usize];
        let found = self.index.find(&Query::new(request)).cloned();
        if let Ok(name) = found {
            self.index.set_free(&name, false);
            self.lent.push_back(name);
        }
        if self.lent.len() > LENT
            && let Some(oldest) = self.lent.pop_front()
        {
            self.index.set_free(&oldest, true);
        }
    }
}

fn requirements(json: &str) -> Requirements {
    serde_json::from_str(json).expect("requirements are well formed")
}

fn server_name(number: usize) -> ServerId {
    format!("server-{number}").parse().expect("a plain name")
}

fn labels(number: usize, unlike: bool) -> Labels {
    let mut labels = Labels::from([
        ("rack".to_owned(), format!("r{}", number / 100)),
        ("row".to_owned(), format!("{}", number / 1000)),
    ]);
    if unlike {
        labels.insert("asset".to_owned(), format!("A-{number:06}"));
    }
    if number % 300 < 100 {
        labels.insert("owner".to_owned(), "team-x".to_owned());
    }
    labels
}

fn report(model: u64, number: usize, unlike: u64) -> HardwareReport {
    let kind = [DiskKind::Nvme, DiskKind::Ssd, DiskKind::Rotating][model as usize % 3];
    let disk = |slot: u64| Disk {
        serial: format!("D{number}-{slot}"),
        size_bytes: (240 << 30) * (1 + model % 5) + (unlike << 20),
        kind,
        ..Disk::default()
    };
    let nic = |port: u8| Nic {
        name: format!("eth{port}"),
        mac: MacAddress([
            2,
            0,
            port,
            (number >> 16) as u8,
            (number >> 8) as u8,
            number as u8,
        ]),
        driver: "mlx5_core".to_owned(),
        speed_mbps: None,
        max_speed_mbps: Some([1_000, 10_000, 25_000, 100_000][model as usize % 4]),
        carrier: true,
    };
    let gpu = |slot: u64| PciDevice {
        address: format!("0000:{slot:02x}:00.0"),
        id: "10de:2330".to_owned(),
        class: "030200".to_owned(),
    };
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            cores: 4 << (model % 6),
            threads: 8 << (model % 6),
            flags: (0..100 + model % 3).map(|flag| format!("flag-{flag}")).collect(),
            ..Cpu::default()
        },
        memory_bytes: (16 << (model % 7) << 30) + (unlike << 20),
        disks: (0..2 + model % 10).map(disk).collect(),
        nics: (0..2 + (model % 3) as u8).map(nic).collect(),
        pci: (0..if model % 10 == 9 { 8 } else { 0 }).map(gpu).collect(),
        firmware: if model.is_multiple_of(2) {
            Firmware::Uefi
        } else {
            Firmware::Bios
        },
        tpm: true,
        tpm_version: "2.0".to_owned(),
        ..HardwareReport::default()
    }
}
