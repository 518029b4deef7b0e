use super::*;
use leaseboot_protocol::hardware::{Firmware, PciDevice};
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn disk(serial: &str, gib: u64) -> Disk {
    Disk {
        by_id: if serial.is_empty() {
            String::new()
        } else {
            format!("nvme-{serial}")
        },
        serial: serial.to_owned(),
        size_bytes: gib * GIB,
        ..Disk::default()
    }
}

fn module(slot: &str, serial: &str) -> MemoryModule {
    MemoryModule {
        slot: slot.to_owned(),
        serial: serial.to_owned(),
        size_bytes: 16 * GIB,
        ..MemoryModule::default()
    }
}

fn nic(last: u8) -> Nic {
    Nic {
        name: format!("eth{last}"),
        mac: leaseboot_protocol::network::MacAddress([2, 0, 0, 0, 0, last]),
        driver: String::new(),
        speed_mbps: None,
        max_speed_mbps: None,
        carrier: true,
    }
}

fn server() -> HardwareReport {
    let mut report = HardwareReport {
        architecture: "x86_64".to_owned(),
        memory_bytes: 31 * GIB,
        memory_modules: vec![module("A1", "M1"), module("B1", "M2")],
        disks: vec![disk("D1", 100), disk("D2", 100)],
        nics: vec![nic(1), nic(2)],
        firmware: Firmware::Uefi,
        tpm: true,
        pci: vec![PciDevice {
            address: "0000:3b:00.0".to_owned(),
            id: "10de:2330".to_owned(),
            class: "030200".to_owned(),
        }],
        ..HardwareReport::default()
    };
    report.cpu.model = "X 1".to_owned();
    report.cpu.cores = 8;
    report.dmi.serial = "S1".to_owned();
    report
}

/// What is told after `change`.
fn told(change: impl FnOnce(&mut HardwareReport)) -> Vec<(DifferenceKind, String)> {
    let mut found = server();
    change(&mut found);
    let differences = compare(&server(), Basis::Reported, &found);
    differences
        .into_iter()
        .map(|difference| (difference.kind, difference.words))
        .collect()
}

fn one(kind: DifferenceKind, words: &str) -> Vec<(DifferenceKind, String)> {
    vec![(kind, words.to_owned())]
}

#[test]
fn each_change_is_told_in_words() {
    use DifferenceKind::{Chassis, Cpu, Disk, Firmware as Boot, Memory, Nic as Card, Pci, Tpm};
    assert_eq!(
        told(|found| drop(found.memory_modules.pop())),
        one(
            Memory,
            "the memory module of 16384 MiB in B1 (serial number M2) is missing"
        )
    );
    assert_eq!(
        told(|found| found.memory_modules[0].serial = "M9".to_owned()),
        one(
            Memory,
            "the memory module of 16384 MiB in A1 (serial number M1) was replaced by the memory module of 16384 MiB in A1 (serial number M9)"
        )
    );
    assert_eq!(
        told(|found| found.disks[1] = disk("D9", 100)),
        one(
            Disk,
            "the disk nvme-D2 of 100 GiB was swapped for the disk nvme-D9 of 100 GiB"
        )
    );
    assert_eq!(
        told(|found| drop(found.disks.remove(0))),
        one(Disk, "the disk nvme-D1 of 100 GiB is missing")
    );
    assert_eq!(
        told(|found| found.nics.push(nic(9))),
        one(Card, "the Ethernet card 02:00:00:00:00:09 is new")
    );
    assert_eq!(
        told(|found| found.pci.clear()),
        one(Pci, "1 PCI device 10de:2330 of class 030200 is missing")
    );
    assert_eq!(
        told(|found| found.cpu.cores = 6),
        one(Cpu, "the number of cores is 6, on record is 8")
    );
    assert_eq!(
        told(|found| found.firmware = Firmware::Bios),
        one(Boot, "the firmware is Bios, on record is Uefi")
    );
    assert_eq!(told(|found| found.tpm = false), one(Tpm, "the TPM is missing"));
    assert_eq!(
        told(|found| found.dmi.serial = "S2".to_owned()),
        one(Chassis, "the system's serial number is S2, on record is S1")
    );
}

#[test]
fn what_changes_by_itself_is_not_told() {
    let nothing = told(|found| {
        found.disks.reverse();
        found.disks[0].name = "sdz".to_owned();
        found.nics.reverse();
        found.nics[0].carrier = false;
        found.nics[0].speed_mbps = Some(1000);
        found.cpu.flags = vec!["new".to_owned()];
        found.memory_bytes -= 100 << 20;
        found.pci[0].address = "0000:5e:00.0".to_owned();
    });
    assert_eq!(nothing, []);
}

#[test]
fn without_modules_the_memory_is_compared_roughly() {
    let memory = |bytes| HardwareReport {
        memory_bytes: bytes,
        ..HardwareReport::default()
    };
    let differences = |record, found| compare(&memory(record), Basis::Reported, &memory(found)).len();
    assert_eq!(differences(64 * GIB, 63 * GIB), 0);
    assert_eq!(differences(64 * GIB, 48 * GIB), 1);
}

#[test]
fn what_the_lender_left_out_may_be_anything() {
    let declared = HardwareReport {
        disks: vec![disk("", 100), disk("", 100)],
        ..HardwareReport::default()
    };
    assert_eq!(compare(&declared, Basis::Declared, &server()), []);
    let mut more = declared.clone();
    more.disks.push(disk("", 100));
    let differences = compare(&more, Basis::Declared, &server());
    assert_eq!(
        differences[0].words,
        "a disk of 100 GiB without serial number is missing"
    );
}

fn any_report() -> impl Strategy<Value = HardwareReport> {
    let disks = prop::collection::vec(
        ("[AB]?", 1u64..3).prop_map(|(serial, gib)| disk(&serial, gib)),
        0..4,
    );
    let modules = prop::collection::vec(
        ("[ab]?", "[12]?").prop_map(|(slot, serial)| module(&slot, &serial)),
        0..4,
    );
    let nics = prop::collection::btree_set(0u8..4, 0..3);
    (disks, modules, nics, any::<bool>()).prop_map(|(disks, memory_modules, nics, tpm)| HardwareReport {
        disks,
        memory_modules,
        nics: nics.into_iter().map(nic).collect(),
        tpm,
        ..HardwareReport::default()
    })
}

proptest! {
    #[test]
    fn a_server_is_like_itself(report in any_report()) {
        prop_assert_eq!(compare(&report, Basis::Reported, &report), []);
        prop_assert_eq!(compare(&report, Basis::Declared, &report), []);
    }

    #[test]
    fn a_card_more_or_less_is_always_told(report in any_report(), found in any_report()) {
        let cards = |report: &HardwareReport| report.nics.iter().map(|nic| nic.mac).collect::<Vec<_>>();
        let told = compare(&report, Basis::Reported, &found).iter().any(|difference| difference.kind == DifferenceKind::Nic);
        prop_assert_eq!(told, cards(&report) != cards(&found));
    }
}
