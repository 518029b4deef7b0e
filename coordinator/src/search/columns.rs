//! The shapes of a fleet turned on their side: for each thing that can be asked, what all shapes have of it, by the shapes' numbers. A check
//! is answered for ten thousand shapes by one walk along an array, where asking each shape would wait for memory each time.

use super::GIB;
use super::bits::Bits;
use super::check::{Check, kind_fits};
use super::shape::Shape;
use leaseboot_protocol::hardware::{DiskKind, Firmware, PciClass, PciId};
use leaseboot_protocol::requirements::{DiskRequirement, PciRequirement, TpmRequirement};
use std::collections::HashMap;

/// Shapes with the same of something, and how many they have of it.
type Holders = Vec<(u32, u32)>;

/// The columns. A number that is not in use any more keeps its last values until it is used again; nothing asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    known: Bits,
    architectures: HashMap<String, Bits>,
    flags: HashMap<String, Bits>,
    cores: Vec<u32>,
    threads: Vec<u32>,
    memory_mib: Vec<u64>,
    nics: Vec<Box<[u32]>>,
    disks: Vec<Box<[(u64, DiskKind)]>>,
    pci: HashMap<(PciClass, PciId), Holders>,
    firmware: Vec<Firmware>,
    tpm: Bits,
    tpm2: Bits,
}

impl Columns {
    /// Takes a shape in under its number.
    pub(super) fn put(&mut self, number: u32, shape: &Shape) {
        let at = number as usize;
        self.known.set(at, shape.known);
        self.tpm.set(at, shape.tpm);
        self.tpm2.set(at, shape.tpm && shape.tpm_version == "2.0");
        set(&mut self.cores, at, shape.cores);
        set(&mut self.threads, at, shape.threads);
        set(&mut self.memory_mib, at, shape.memory_mib);
        set(&mut self.firmware, at, shape.firmware);
        set(&mut self.nics, at, shape.nics.as_slice().into());
        set(&mut self.disks, at, shape.disks.as_slice().into());
        mark(&mut self.architectures, &shape.architecture, at);
        for flag in &shape.flags {
            mark(&mut self.flags, flag, at);
        }
        for functions in shape.pci.chunk_by(|a, b| a == b) {
            let holders = self.pci.entry(functions[0]).or_default();
            holders.push((number, super::count(functions.iter())));
        }
    }

    /// The shape's number is used no more.
    pub(super) fn remove(&mut self, number: u32, shape: &Shape) {
        let at = number as usize;
        unmark(&mut self.architectures, &shape.architecture, at);
        for flag in &shape.flags {
            unmark(&mut self.flags, flag, at);
        }
        for functions in shape.pci.chunk_by(|a, b| a == b) {
            if let Some(holders) = self.pci.get_mut(&functions[0]) {
                holders.retain(|(holder, _)| *holder != number);
                if holders.is_empty() {
                    self.pci.remove(&functions[0]);
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.cores.len()
    }

    /// The shapes that meet the check, as [`Check::is_met`] says of each; `None` for checks that must be made shape by shape.
    pub(super) fn meeting(&self, check: &Check) -> Option<Bits> {
        let bound = self.len();
        let met = match check {
            Check::Report => return Some(self.known.clone()),
            Check::Architecture(wanted) => self.architectures.get(wanted).cloned().unwrap_or_default(),
            Check::Cores(wanted) => Bits::of(bound, |at| self.cores[at] >= *wanted),
            Check::Threads(wanted) => Bits::of(bound, |at| self.threads[at] >= *wanted),
            Check::Flags(wanted) => self.with_flags(wanted),
            Check::MemoryMib(wanted) => Bits::of(bound, |at| self.memory_mib[at] >= *wanted),
            Check::Disk(wanted) => self.with_disks(wanted),
            Check::Nics(wanted) => Bits::of(bound, |at| super::count(self.nics[at].iter()) >= *wanted),
            Check::Nic(wanted) => Bits::of(bound, |at| {
                // Sorted: the fastest are last.
                let place = self.nics[at].len().checked_sub(wanted.count as usize);
                place.is_some_and(|place| {
                    self.nics[at]
                        .get(place)
                        .is_none_or(|speed| *speed >= wanted.min_speed_mbps)
                })
            }),
            Check::Pci(wanted) => self.with_pci(wanted),
            Check::Firmware(wanted) => Bits::of(bound, |at| wanted.is_met_by(self.firmware[at])),
            Check::Tpm(TpmRequirement::Any) => self.tpm.clone(),
            Check::Tpm(TpmRequirement::V2) => self.tpm2.clone(),
            Check::Disks(_) | Check::FastNics(_) | Check::PciDevices(_) => return None,
        };
        // Of a server that did not report, nothing else can be said.
        Some(met.or(&self.known.clone().not(bound)))
    }

    fn with_flags(&self, wanted: &[String]) -> Bits {
        let having = wanted
            .iter()
            .map(|flag| self.flags.get(flag).cloned().unwrap_or_default());
        having.reduce(|all, having| all.and(&having)).unwrap_or_default()
    }

    fn with_disks(&self, wanted: &DiskRequirement) -> Bits {
        let smallest = wanted.min_size_gib.saturating_mul(GIB);
        Bits::of(self.len(), |at| {
            let disks = &self.disks[at];
            let suiting = disks
                .iter()
                .filter(|(size, kind)| *size >= smallest && kind_fits(wanted, *kind));
            super::count(suiting) >= wanted.count
        })
    }

    fn with_pci(&self, wanted: &PciRequirement) -> Bits {
        let mut counts = vec![0u32; self.len()];
        let suiting = self
            .pci
            .iter()
            .filter(|(function, _)| super::check::is_asked_for(wanted, **function));
        for (number, count) in suiting.flat_map(|(_, holders)| holders) {
            counts[*number as usize] += count;
        }
        Bits::of(counts.len(), |at| counts[at] >= wanted.count)
    }
}

fn set<T: Default>(column: &mut Vec<T>, at: usize, value: T) {
    if at >= column.len() {
        column.resize_with(at + 1, T::default);
    }
    column[at] = value;
}

fn mark(postings: &mut HashMap<String, Bits>, word: &str, at: usize) {
    match postings.get_mut(word) {
        Some(bits) => bits.set(at, true),
        None => {
            let mut bits = Bits::default();
            bits.set(at, true);
            postings.insert(word.to_owned(), bits);
        }
    }
}

fn unmark(postings: &mut HashMap<String, Bits>, word: &str, at: usize) {
    if let Some(bits) = postings.get_mut(word) {
        bits.set(at, false);
        if bits.numbers().next().is_none() {
            postings.remove(word);
        }
    }
}
