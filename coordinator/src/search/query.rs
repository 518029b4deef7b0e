//! Requirements as a list of checks, which are numbered: those of the labels first.

use super::check::{Check, LabelCheck};
use super::shape::Shape;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels::{LabelExpression, Labels};
use leaseboot_protocol::requirements::{MOST_ENTRIES, Preference, Requirements};

/// Requirements, ready for a search.
#[derive(Clone, Debug)]
pub struct Query {
    pub(super) labels: Vec<LabelCheck>,
    pub(super) hardware: Vec<Check>,
    prefer: Vec<Preference>,
    /// Servers that count as not free.
    not: Vec<ServerId>,
}

impl Query {
    /// Of each list no more than the first [`MOST_ENTRIES`] entries count: [`Requirements::check`] refuses longer ones.
    pub fn new(requirements: &Requirements) -> Self {
        let labels = requirements.labels.iter().take(MOST_ENTRIES);
        let mut labels: Vec<_> = labels
            .map(|(name, value)| LabelCheck::Is(name.clone(), value.clone()))
            .collect();
        labels.extend(requirements.matching.clone().map(LabelCheck::Where));
        Self {
            labels,
            hardware: hardware(requirements),
            prefer: first(&requirements.prefer).to_vec(),
            not: Vec::new(),
        }
    }

    /// Only servers with these labels, whatever the tenant asked for.
    #[must_use]
    pub fn restricted_to(mut self, expression: LabelExpression) -> Self {
        self.labels.push(LabelCheck::Where(expression));
        self
    }

    /// As if these servers were not free.
    #[must_use]
    pub fn without(mut self, names: &[ServerId]) -> Self {
        self.not.extend_from_slice(names);
        self
    }

    pub(super) fn leaves_out(&self, name: &ServerId) -> bool {
        self.not.contains(name)
    }

    pub(super) fn has_preferences(&self) -> bool {
        !self.prefer.is_empty()
    }

    /// What makes a server better than others.
    pub(super) fn preferences(&self) -> &[Preference] {
        &self.prefer
    }

    /// The requirement behind a number.
    pub(super) fn in_words(&self, check: usize) -> String {
        match self.labels.get(check) {
            Some(label) => label.in_words(),
            None => self.hardware[check - self.labels.len()].in_words(),
        }
    }

    /// The requirement behind a number, and what a server that fails it has.
    pub(super) fn lack_in_words(&self, check: usize, shape: &Shape, labels: &Labels) -> String {
        let found = match self.labels.get(check) {
            Some(label) => label.found_in_words(labels),
            None => self.hardware[check - self.labels.len()].found_in_words(shape),
        };
        format!("{} (it has {found})", self.in_words(check))
    }
}

fn first<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(MOST_ENTRIES)]
}

fn hardware(requirements: &Requirements) -> Vec<Check> {
    let Requirements {
        architecture,
        min_cores,
        min_threads,
        cpu_flags,
        min_memory_mib,
        disks,
        min_nics,
        nics,
        pci,
        firmware,
        tpm,
        labels: _,
        matching: _,
        prefer: _,
    } = requirements;
    let mut checks = vec![Check::Report];
    checks.extend(architecture.clone().map(Check::Architecture));
    let numbers = [
        (*min_cores > 0).then_some(Check::Cores(*min_cores)),
        (*min_threads > 0).then_some(Check::Threads(*min_threads)),
        (!cpu_flags.is_empty()).then(|| Check::Flags(first(cpu_flags).to_vec())),
        (*min_memory_mib > 0).then_some(Check::MemoryMib(*min_memory_mib)),
        (*min_nics > 0).then_some(Check::Nics(*min_nics)),
    ];
    checks.extend(numbers.into_iter().flatten());
    each_and_all(&mut checks, first(disks), Check::Disk, Check::Disks);
    each_and_all(&mut checks, first(nics), Check::Nic, Check::FastNics);
    each_and_all(&mut checks, first(pci), Check::Pci, Check::PciDevices);
    checks.extend(firmware.map(Check::Firmware));
    checks.extend(tpm.map(Check::Tpm));
    checks
}

/// Each entry alone, equal ones once, and all of them together.
fn each_and_all<T: Clone>(
    checks: &mut Vec<Check>,
    entries: &[T],
    each: fn(T) -> Check,
    all: fn(Vec<T>) -> Check,
) {
    for entry in entries {
        let check = each(entry.clone());
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    if entries.len() > 1 {
        checks.push(all(entries.to_vec()));
    }
}
