//! What a search looks at of a server's hardware, in the units in which it is asked for. Servers of one model have the same shape, so it
//! holds nothing that differs from one to the next, such as serial numbers.

use super::{GIB, MIB, plugged_in_mib};
use leaseboot_protocol::hardware::{DiskKind, Firmware, HardwareReport, PciClass, PciId};
use std::fmt::Write as _;

/// The hardware of one or many servers. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Whether the server ever reported; if not, all else is empty.
    pub(super) known: bool,
    pub(super) architecture: String,
    pub(super) cores: u32,
    pub(super) threads: u32,
    pub(super) flags: Vec<String>,
    /// As the modules say; without them, as the kernel's share lets guess.
    pub(super) memory_mib: u64,
    /// As it is told to people.
    pub(super) told_memory_mib: u64,
    /// Size in bytes, and kind.
    pub(super) disks: Vec<(u64, DiskKind)>,
    /// The fastest speed that is known of each card, in Mbit/s; 0 when none is.
    pub(super) nics: Vec<u32>,
    pub(super) pci: Vec<(PciClass, PciId)>,
    pub(super) firmware: Firmware,
    pub(super) tpm: bool,
    pub(super) tpm_version: String,
}

/// Compared from the first to the last: what is dearest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size {
    accelerators: u32,
    memory_mib: u64,
    cores: u32,
    disk_bytes: u64,
    nics: usize,
}

impl From<Option<&HardwareReport>> for Shape {
    fn from(report: Option<&HardwareReport>) -> Self {
        let Some(report) = report else {
            return Self::default();
        };
        let modules = report.memory_modules.iter();
        let modules_mib = modules.fold(0u64, |sum, module| sum.saturating_add(module.size_bytes)) / MIB;
        let (memory_mib, told_memory_mib) = match modules_mib {
            0 => (plugged_in_mib(report.memory_bytes), report.memory_bytes / MIB),
            modules => (modules, modules),
        };
        let mut shape = Self {
            known: true,
            architecture: report.architecture.clone(),
            cores: report.cpu.cores,
            threads: report.cpu.threads,
            flags: report.cpu.flags.clone(),
            memory_mib,
            told_memory_mib,
            disks: report
                .disks
                .iter()
                .map(|disk| (disk.size_bytes, disk.kind))
                .collect(),
            nics: report
                .nics
                .iter()
                .map(|nic| nic.max_speed_mbps.max(nic.speed_mbps).unwrap_or(0))
                .collect(),
            // A report may hold anything; what is no PCI function cannot be asked for.
            pci: report
                .pci
                .iter()
                .filter_map(|device| Some((device.class.parse().ok()?, device.id.parse().ok()?)))
                .collect(),
            firmware: report.firmware,
            tpm: report.tpm,
            tpm_version: report.tpm_version.clone(),
        };
        shape.sort();
        shape
    }
}

impl Shape {
    fn sort(&mut self) {
        self.flags.sort_unstable();
        self.flags.dedup();
        self.disks.sort_unstable();
        self.nics.sort_unstable();
        self.pci.sort_unstable();
    }

    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags
            .binary_search_by(|known| known.as_str().cmp(flag))
            .is_ok()
    }

    pub(super) fn size(&self) -> Size {
        Size {
            accelerators: super::count(self.pci.iter().filter(|(class, _)| is_accelerator(*class))),
            memory_mib: self.memory_mib,
            cores: self.cores,
            disk_bytes: self
                .disks
                .iter()
                .fold(0, |sum, (size, _)| sum.saturating_add(*size)),
            nics: self.nics.len(),
        }
    }

    pub(super) fn disks_in_words(&self) -> String {
        let disk = |(size, kind): &(u64, DiskKind)| {
            format!("{}{} GiB", super::check::kind_in_words(*kind), size / GIB)
        };
        counted(self.disks.iter().map(disk))
    }

    pub(super) fn nics_in_words(&self) -> String {
        counted(self.nics.iter().map(|speed| match speed {
            0 => "of unknown speed".to_owned(),
            speed => format!("{speed} Mbit/s"),
        }))
    }

    pub(super) fn pci_in_words(&self) -> String {
        let told = self.pci.iter().filter(|(class, _)| is_accelerator(*class));
        match counted(told.map(|(class, id)| format!("{id} (class {class})"))) {
            none if none == "none" => "no accelerators".to_owned(),
            some => format!("accelerators: {some}"),
        }
    }
}

/// 3D controllers and processing accelerators (PCI Code and ID Assignment Specification, 1.4 and 1.19). Display controllers of class 0300
/// are on nearly every board.
fn is_accelerator(class: PciClass) -> bool {
    class.starts_with(&[0x03, 0x02]) || class.starts_with(&[0x12])
}

/// Equal neighbours are counted.
fn counted(items: impl Iterator<Item = String>) -> String {
    let mut runs: Vec<(u32, String)> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some((count, last)) if *last == item => *count += 1,
            _ => runs.push((1, item)),
        }
    }
    if runs.is_empty() {
        return "none".to_owned();
    }
    let mut words = String::new();
    for (index, (count, item)) in runs.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let times = if *count > 1 {
            format!("{count} x ")
        } else {
            String::new()
        };
        let _ = write!(words, "{comma}{times}{item}");
    }
    words
}
