//! What is different about a server since its hardware was put on record: a pure function of two reports, in words for the lender.
//!
//! Things are known by what does not change: a disk by its serial number, an Ethernet card by its address, a memory module by its socket, PCI
//! functions by what they are. What differs from boot to boot without anybody touching the server is not compared: kernel names, links and their
//! speed, the feature flags of the processor (a kernel or microcode of another age shows others) and the few MiB that kernels keep.

use leaseboot_protocol::hardware::{Cpu, Disk, HardwareReport, MemoryModule, Nic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Memory that kernels of different ages manage of the same modules differs by less than this part.
const MEMORY_TOLERANCE: u64 = 32;

/// Where the record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The agent's report of an earlier boot: it names everything.
    Reported,
    /// The lender's own words: what they leave out may be anything.
    Declared,
}

/// One thing that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Of what kind.
    pub kind: DifferenceKind,
    /// In words.
    pub words: String,
}

/// What a difference is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// The machine itself: board or case.
    Chassis,
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Disk,
    /// Ethernet cards.
    Nic,
    /// Other PCI functions.
    Pci,
    /// The way it boots.
    Firmware,
    /// The trusted platform module.
    Tpm,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// What `found` has otherwise than `record`, or not, or besides.
pub fn compare(record: &HardwareReport, basis: Basis, found: &HardwareReport) -> Vec<Difference> {
    let mut differences = Differences::default();
    let said = |is_empty: bool| basis == Basis::Reported || !is_empty;
    chassis(&mut differences, record, found);
    cpu(&mut differences, &record.cpu, &found.cpu);
    if !record.architecture.is_empty() && record.architecture != found.architecture {
        differences.changed(
            DifferenceKind::Cpu,
            "the architecture",
            &record.architecture,
            &found.architecture,
        );
    }
    memory(&mut differences, record, found);
    if said(record.disks.is_empty()) {
        disks(&mut differences, &record.disks, &found.disks);
    }
    if said(record.nics.is_empty()) {
        nics(&mut differences, &record.nics, &found.nics);
    }
    // Agents of an earlier age did not list them, and no server is without.
    if !record.pci.is_empty() {
        pci(&mut differences, record, found);
    }
    if said(record.firmware == leaseboot_protocol::hardware::Firmware::Unknown)
        && record.firmware != found.firmware
    {
        let name = |report: &HardwareReport| format!("{:?}", report.firmware);
        differences.changed(
            DifferenceKind::Firmware,
            "the firmware",
            &name(record),
            &name(found),
        );
    }
    if said(!record.tpm) && record.tpm != found.tpm {
        let words = if found.tpm {
            "a TPM is new"
        } else {
            "the TPM is missing"
        };
        differences.push(DifferenceKind::Tpm, words.to_owned());
    }
    differences.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn push(&mut self, kind: DifferenceKind, words: String) {
        self.0.push(Difference { kind, words });
    }

    fn changed(&mut self, kind: DifferenceKind, what: &str, record: &str, found: &str) {
        self.push(kind, format!("{what} is {found}, on record is {record}"));
    }
}

fn chassis(differences: &mut Differences, record: &HardwareReport, found: &HardwareReport) {
    let (record, found) = (&record.dmi, &found.dmi);
    for (what, record, found) in [
        ("the system's serial number", &record.serial, &found.serial),
        ("the system's UUID", &record.uuid, &found.uuid),
        ("the product", &record.product, &found.product),
    ] {
        if !record.is_empty() && record != found {
            differences.changed(DifferenceKind::Chassis, what, record, found);
        }
    }
}

fn cpu(differences: &mut Differences, record: &Cpu, found: &Cpu) {
    if !record.model.is_empty() && record.model != found.model {
        differences.changed(DifferenceKind::Cpu, "the processor", &record.model, &found.model);
    }
    for (what, record, found) in [
        ("the number of processors", record.sockets, found.sockets),
        ("the number of cores", record.cores, found.cores),
        ("the number of threads", record.threads, found.threads),
    ] {
        if record != 0 && record != found {
            differences.changed(DifferenceKind::Cpu, what, &record.to_string(), &found.to_string());
        }
    }
}

fn memory(differences: &mut Differences, record: &HardwareReport, found: &HardwareReport) {
    if !record.memory_modules.is_empty() && !found.memory_modules.is_empty() {
        return modules(differences, &record.memory_modules, &found.memory_modules);
    }
    let (record, found) = (record.memory_bytes, found.memory_bytes);
    if record != 0 && record.abs_diff(found) > record.max(found) / MEMORY_TOLERANCE {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        differences.changed(DifferenceKind::Memory, "the memory", &mib(record), &mib(found));
    }
}

fn modules(differences: &mut Differences, record: &[MemoryModule], found: &[MemoryModule]) {
    let (record, found) = (by_slot(record), by_slot(found));
    for (slot, module) in &record {
        match found.get(slot) {
            None => differences.push(
                DifferenceKind::Memory,
                format!("{} is missing", module_in_words(module)),
            ),
            Some(other) if is_another(module, other) => differences.push(
                DifferenceKind::Memory,
                format!(
                    "{} was replaced by {}",
                    module_in_words(module),
                    module_in_words(other)
                ),
            ),
            Some(_) => {}
        }
    }
    for (_, module) in found.iter().filter(|(slot, _)| !record.contains_key(*slot)) {
        differences.push(
            DifferenceKind::Memory,
            format!("{} is new", module_in_words(module)),
        );
    }
}

/// Makers give several sockets one name: then they are numbered.
fn by_slot(modules: &[MemoryModule]) -> BTreeMap<(&str, u32), &MemoryModule> {
    let mut slots = BTreeMap::new();
    for module in modules {
        let number = (0..).find(|number| !slots.contains_key(&(module.slot.as_str(), *number)));
        slots.insert((module.slot.as_str(), number.unwrap_or(u32::MAX)), module);
    }
    slots
}

fn is_another(record: &MemoryModule, found: &MemoryModule) -> bool {
    let words = [(&record.serial, &found.serial), (&record.part, &found.part)];
    record.size_bytes != found.size_bytes
        || words
            .iter()
            .any(|(record, found)| !record.is_empty() && record != found)
}

fn module_in_words(module: &MemoryModule) -> String {
    let MemoryModule {
        slot,
        size_bytes,
        serial,
        ..
    } = module;
    let mut words = format!("the memory module of {} MiB", size_bytes >> 20);
    if !slot.is_empty() {
        words += &format!(" in {slot}");
    }
    if !serial.is_empty() {
        words += &format!(" (serial number {serial})");
    }
    words
}

fn disks(differences: &mut Differences, record: &[Disk], found: &[Disk]) {
    let mut new: Vec<&Disk> = found.iter().collect();
    let mut missing = Vec::new();
    // Those with a name of their own choose first.
    let (named, nameless): (Vec<_>, Vec<_>) = record.iter().partition(|disk| identity(disk).is_some());
    for disk in named.into_iter().chain(nameless) {
        match new.iter().position(|other| is_same_disk(disk, other)) {
            Some(place) => {
                let same = new.remove(place);
                if disk.size_bytes != 0 && disk.size_bytes != same.size_bytes {
                    let words = format!("{} has {} bytes now", disk_in_words(disk), same.size_bytes);
                    differences.push(DifferenceKind::Disk, words);
                }
            }
            None => missing.push(disk),
        }
    }
    for disk in missing {
        // One that is gone and one of its size that came are told as one swap.
        let words = match new.iter().position(|other| other.size_bytes == disk.size_bytes) {
            Some(place) => format!(
                "{} was swapped for {}",
                disk_in_words(disk),
                disk_in_words(new.remove(place))
            ),
            None => format!("{} is missing", disk_in_words(disk)),
        };
        differences.push(DifferenceKind::Disk, words);
    }
    for disk in new {
        differences.push(DifferenceKind::Disk, format!("{} is new", disk_in_words(disk)));
    }
}

/// Without a name of its own a disk is known by its size only.
fn is_same_disk(record: &Disk, found: &Disk) -> bool {
    let same = |record: &str, found: &str| !record.is_empty() && record == found;
    match identity(record) {
        Some(_) => same(&record.by_id, &found.by_id) || same(&record.serial, &found.serial),
        None => record.size_bytes == found.size_bytes,
    }
}

fn identity(disk: &Disk) -> Option<&str> {
    [disk.by_id.as_str(), disk.serial.as_str()]
        .into_iter()
        .find(|name| !name.is_empty())
}

fn disk_in_words(disk: &Disk) -> String {
    let gib = disk.size_bytes >> 30;
    match identity(disk) {
        Some(name) => format!("the disk {name} of {gib} GiB"),
        None => format!("a disk of {gib} GiB without serial number"),
    }
}

fn nics(differences: &mut Differences, record: &[Nic], found: &[Nic]) {
    let addresses = |nics: &[Nic]| nics.iter().map(|nic| nic.mac).collect::<BTreeSet<_>>();
    let (record, found) = (addresses(record), addresses(found));
    for mac in record.difference(&found) {
        differences.push(DifferenceKind::Nic, format!("the Ethernet card {mac} is missing"));
    }
    for mac in found.difference(&record) {
        differences.push(DifferenceKind::Nic, format!("the Ethernet card {mac} is new"));
    }
}

/// Ethernet cards and disks are told by the kinds of their own.
fn pci(differences: &mut Differences, record: &HardwareReport, found: &HardwareReport) {
    let told = |class: &str| class.starts_with("02") || class.starts_with("01");
    let count = |report: &HardwareReport| {
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        for device in report.pci.iter().filter(|device| !told(&device.class)) {
            *counts
                .entry((device.id.clone(), device.class.clone()))
                .or_default() += 1;
        }
        counts
    };
    let (record, found) = (count(record), count(found));
    let kinds: BTreeSet<_> = record.keys().chain(found.keys()).collect();
    for kind in kinds {
        let number = |counts: &BTreeMap<_, i64>| counts.get(kind).copied().unwrap_or(0);
        let (before, now) = (number(&record), number(&found));
        let (id, class) = kind;
        let words = match now - before {
            0 => continue,
            fewer @ ..0 => format!("{} PCI device {id} of class {class} is missing", -fewer),
            more => format!("{more} PCI device {id} of class {class} is new"),
        };
        differences.push(DifferenceKind::Pci, words);
    }
}

#[cfg(test)]
mod tests;
