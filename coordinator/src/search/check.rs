//! One requirement, and what to say of a server that fails it.

use super::matching::{Wish, are_met, is_met};
use super::shape::Shape;
use leaseboot_protocol::hardware::{DiskKind, PciClass, PciId};
use leaseboot_protocol::labels::{LabelExpression, Labels};
use leaseboot_protocol::requirements::{
    DiskRequirement, FirmwareRequirement, NicRequirement, PciRequirement, TpmRequirement,
};

/// A requirement of the hardware. What it means is said here, of one shape; [`Columns`](super::columns::Columns) answers most of them for all shapes at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Check {
    /// The server told what it is made of. It fails alone: of a server that did not, nothing else can be said.
    Report,
    Architecture(String),
    Cores(u32),
    Threads(u32),
    Flags(Vec<String>),
    MemoryMib(u64),
    Disk(DiskRequirement),
    /// Each entry is met, but by the same disks.
    Disks(Vec<DiskRequirement>),
    Nics(u32),
    Nic(NicRequirement),
    FastNics(Vec<NicRequirement>),
    Pci(PciRequirement),
    PciDevices(Vec<PciRequirement>),
    Firmware(FirmwareRequirement),
    Tpm(TpmRequirement),
}

/// A requirement of the labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LabelCheck {
    Is(String, String),
    Where(LabelExpression),
}

impl Check {
    pub(super) fn is_met(&self, shape: &Shape) -> bool {
        match self {
            Check::Report => shape.known,
            _ if !shape.known => true,
            Check::Architecture(wanted) => shape.architecture == *wanted,
            Check::Cores(wanted) => shape.cores >= *wanted,
            Check::Threads(wanted) => shape.threads >= *wanted,
            Check::Flags(wanted) => wanted.iter().all(|flag| shape.has_flag(flag)),
            Check::MemoryMib(wanted) => shape.memory_mib >= *wanted,
            Check::Disk(wanted) => is_met(wanted, &shape.disks),
            Check::Disks(wanted) => met_together(wanted, &shape.disks),
            Check::Nics(wanted) => super::count(shape.nics.iter()) >= *wanted,
            Check::Nic(wanted) => is_met(wanted, &shape.nics),
            Check::FastNics(wanted) => met_together(wanted, &shape.nics),
            Check::Pci(wanted) => is_met(wanted, &shape.pci),
            Check::PciDevices(wanted) => met_together(wanted, &shape.pci),
            Check::Firmware(wanted) => wanted.is_met_by(shape.firmware),
            Check::Tpm(TpmRequirement::Any) => shape.tpm,
            Check::Tpm(TpmRequirement::V2) => shape.tpm && shape.tpm_version == "2.0",
        }
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Check::Report => "a hardware report".to_owned(),
            Check::Architecture(wanted) => format!("architecture {wanted}"),
            Check::Cores(wanted) => format!("at least {wanted} cores"),
            Check::Threads(wanted) => format!("at least {wanted} threads"),
            Check::Flags(wanted) => format!("processor flags {}", wanted.join(" ")),
            Check::MemoryMib(wanted) => format!("memory at least {wanted} MiB"),
            Check::Disk(wanted) => disk_in_words(wanted),
            Check::Disks(wanted) => each_of_its_own(wanted, disk_in_words),
            Check::Nics(wanted) => format!("at least {wanted} Ethernet cards"),
            Check::Nic(wanted) => nic_in_words(wanted),
            Check::FastNics(wanted) => each_of_its_own(wanted, nic_in_words),
            Check::Pci(wanted) => pci_in_words(wanted),
            Check::PciDevices(wanted) => each_of_its_own(wanted, pci_in_words),
            Check::Firmware(FirmwareRequirement::Bios) => "boot by BIOS".to_owned(),
            Check::Firmware(FirmwareRequirement::Uefi) => "boot by UEFI".to_owned(),
            Check::Firmware(FirmwareRequirement::UefiSecureBoot) => {
                "boot by UEFI with Secure Boot".to_owned()
            }
            Check::Tpm(TpmRequirement::Any) => "a TPM".to_owned(),
            Check::Tpm(TpmRequirement::V2) => "a TPM 2.0".to_owned(),
        }
    }

    /// What a server has instead.
    pub(super) fn found_in_words(&self, shape: &Shape) -> String {
        match self {
            Check::Report => "not reported yet".to_owned(),
            Check::Architecture(_) => shape.architecture.clone(),
            Check::Cores(_) => shape.cores.to_string(),
            Check::Threads(_) => shape.threads.to_string(),
            Check::Flags(wanted) => {
                let missing = wanted.iter().filter(|flag| !shape.has_flag(flag));
                let missing: Vec<_> = missing.map(String::as_str).collect();
                format!("not {}", missing.join(" "))
            }
            Check::MemoryMib(_) => format!("{} MiB", shape.told_memory_mib),
            Check::Disk(_) | Check::Disks(_) => shape.disks_in_words(),
            Check::Nics(_) => shape.nics.len().to_string(),
            Check::Nic(_) | Check::FastNics(_) => shape.nics_in_words(),
            Check::Pci(_) | Check::PciDevices(_) => shape.pci_in_words(),
            Check::Firmware(_) => format!("{:?}", shape.firmware),
            Check::Tpm(_) if !shape.tpm => "none".to_owned(),
            Check::Tpm(_) if shape.tpm_version.is_empty() => "one of unknown version".to_owned(),
            Check::Tpm(_) => shape.tpm_version.clone(),
        }
    }
}

impl LabelCheck {
    pub(super) fn in_words(&self) -> String {
        match self {
            LabelCheck::Is(name, value) => format!("label {name}={value}"),
            LabelCheck::Where(expression) => format!("labels {expression}"),
        }
    }

    /// Only labels that the tenant asked about.
    pub(super) fn found_in_words(&self, labels: &Labels) -> String {
        let names = match self {
            LabelCheck::Is(name, _) => vec![name.as_str()],
            LabelCheck::Where(expression) => expression.names(),
        };
        let found = names
            .into_iter()
            .filter_map(|name| Some(format!("{name}={}", labels.get(name)?)));
        match found.collect::<Vec<_>>() {
            none if none.is_empty() => "none".to_owned(),
            some => some.join(", "),
        }
    }
}

/// True also when an entry is not met alone: that is said by its own check, and is cheaper to find out.
fn met_together<W: Wish>(wishes: &[W], things: &[W::Thing]) -> bool {
    !wishes.iter().all(|wish| is_met(wish, things)) || are_met(wishes, things)
}

impl Wish for DiskRequirement {
    type Thing = (u64, DiskKind);

    fn count(&self) -> u32 {
        self.count
    }

    fn suits(&self, (size, kind): &Self::Thing) -> bool {
        super::suits(self, *size, *kind)
    }
}

impl Wish for NicRequirement {
    type Thing = u32;

    fn count(&self) -> u32 {
        self.count
    }

    fn suits(&self, speed: &u32) -> bool {
        *speed >= self.min_speed_mbps
    }
}

impl Wish for PciRequirement {
    type Thing = (PciClass, PciId);

    fn count(&self) -> u32 {
        self.count
    }

    fn suits(&self, (class, id): &Self::Thing) -> bool {
        is_asked_for(self, (*class, *id))
    }
}

/// Whether a PCI function is of the kind that is asked for.
pub(super) fn is_asked_for(wanted: &PciRequirement, (class, id): (PciClass, PciId)) -> bool {
    wanted.device.is_none_or(|device| device == id) && wanted.class.is_none_or(|asked| asked.contains(class))
}

/// Whether a disk is of the kind that is asked for, whatever its size.
pub(super) fn kind_fits(wanted: &DiskRequirement, kind: DiskKind) -> bool {
    wanted.kind.is_none_or(|asked| asked == kind)
}

pub(super) fn kind_in_words(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Nvme => "NVMe ",
        DiskKind::Ssd => "SSD ",
        DiskKind::Rotating => "rotating ",
        DiskKind::Other => "",
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn disk_in_words(wanted: &DiskRequirement) -> String {
    let DiskRequirement {
        count,
        min_size_gib,
        kind,
    } = wanted;
    let kind = kind.map_or("", kind_in_words);
    format!(
        "{count} {kind}disk{} of at least {min_size_gib} GiB",
        plural(*count)
    )
}

fn nic_in_words(wanted: &NicRequirement) -> String {
    let NicRequirement {
        count,
        min_speed_mbps,
    } = wanted;
    format!(
        "{count} Ethernet card{} of at least {min_speed_mbps} Mbit/s",
        plural(*count)
    )
}

fn pci_in_words(wanted: &PciRequirement) -> String {
    let PciRequirement { count, device, class } = wanted;
    let mut words = format!("{count} PCI device{}", plural(*count));
    if let Some(device) = device {
        words += &format!(" {device}");
    }
    if let Some(class) = class {
        words += &format!(" of class {class}");
    }
    words
}

fn each_of_its_own<W>(wishes: &[W], in_words: impl Fn(&W) -> String) -> String {
    let together: Vec<_> = wishes.iter().map(in_words).collect();
    format!("{}, each of its own", together.join(" and "))
}
