//! Which server a tenant gets: the smallest that is sufficient, so that large ones stay free for those who need
//! them.
//!
//! Pure and deterministic: the same servers and requirements give the same answer. When nothing fits, the
//! answer says what is in the way,
//! counted over the free servers, without naming any of them.

use leaseboot_protocol::hardware::{Disk, DiskKind, HardwareReport};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::{Refusal, Unmet};
use leaseboot_protocol::settings::{DiskRequirement, Requirements};
use std::collections::{BTreeMap, BTreeSet};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A server that could be lent.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a ServerId,
    /// Whether it may be lent now.
    pub free: bool,
    /// The lender's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What it is made of, when that is known.
    pub hardware: Option<&'a HardwareReport>,
}

/// Memory that is plugged in, in MiB, from what the kernel manages of it: kernels keep two to five percent for
/// themselves, so
/// a server sold as 2048 MiB reports some 1960. A sixteenth is added.
pub fn plugged_in_mib(memory_bytes: u64) -> u64 {
    (memory_bytes + memory_bytes / 16) / MIB
}

/// The best server for `requirements`.
///
/// # Errors
/// [`Refusal::NothingFits`].
pub fn find<'a>(requirements: &Requirements, candidates: &[Candidate<'a>]) -> Result<&'a ServerId, Refusal> {
    let judged: Vec<_> = candidates
        .iter()
        .map(|candidate| (candidate, lacks(requirements, candidate)))
        .collect();
    let fitting = judged
        .iter()
        .filter(|(candidate, lacks)| candidate.free && lacks.is_empty());
    match fitting.min_by_key(|(candidate, _)| size(candidate)) {
        Some((candidate, _)) => Ok(candidate.name),
        None => Err(nothing_fits(&judged)),
    }
}

fn nothing_fits(judged: &[(&Candidate<'_>, Vec<Lack>)]) -> Refusal {
    let free = || judged.iter().filter(|(candidate, _)| candidate.free);
    let mut unmet: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, lacks) in free() {
        // Two entries that ask for the same are one requirement.
        let failed: BTreeSet<_> = lacks.iter().map(|lack| lack.requirement.as_str()).collect();
        for requirement in failed {
            *unmet.entry(requirement).or_default() += 1;
        }
    }
    let mut unmet: Vec<_> = unmet
        .into_iter()
        .map(|(requirement, servers)| Unmet {
            requirement: requirement.to_owned(),
            servers,
        })
        .collect();
    unmet.sort_by(|a, b| {
        b.servers
            .cmp(&a.servers)
            .then_with(|| a.requirement.cmp(&b.requirement))
    });
    let nearest = free().min_by_key(|(candidate, lacks)| (lacks.len(), candidate.name));
    Refusal::NothingFits {
        free: count(free()),
        busy: count(
            judged
                .iter()
                .filter(|(candidate, lacks)| !candidate.free && lacks.is_empty()),
        ),
        unmet,
        nearest: nearest
            .map(|(_, lacks)| lacks.iter().map(Lack::in_words).collect())
            .unwrap_or_default(),
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Smaller first; the name decides between equals.
fn size<'a>(candidate: &Candidate<'a>) -> (u64, u32, u64, usize, &'a ServerId) {
    let nothing = HardwareReport::default();
    let hardware = candidate.hardware.unwrap_or(&nothing);
    let disks = hardware
        .disks
        .iter()
        .fold(0u64, |sum, disk| sum.saturating_add(disk.size_bytes));
    (
        hardware.memory_bytes,
        hardware.cpu.cores,
        disks,
        hardware.nics.len(),
        candidate.name,
    )
}

struct Lack {
    requirement: String,
    found: String,
}

impl Lack {
    fn in_words(&self) -> String {
        format!("{} (it has {})", self.requirement, self.found)
    }
}

fn lacks(requirements: &Requirements, candidate: &Candidate<'_>) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut check = |met: bool, requirement: String, found: String| {
        if !met {
            lacks.push(Lack { requirement, found });
        }
    };
    for (name, value) in &requirements.labels {
        let found = candidate.labels.get(name);
        let in_words = found.map_or_else(|| "none".to_owned(), |found| format!("{name}={found}"));
        check(found == Some(value), format!("label {name}={value}"), in_words);
    }
    let Some(hardware) = candidate.hardware else {
        check(
            false,
            "a hardware report".to_owned(),
            "not reported yet".to_owned(),
        );
        return lacks;
    };
    if let Some(wanted) = &requirements.architecture {
        check(
            hardware.architecture == *wanted,
            format!("architecture {wanted}"),
            hardware.architecture.clone(),
        );
    }
    let cores = hardware.cpu.cores;
    let wanted = requirements.min_cores;
    check(
        cores >= wanted,
        format!("at least {wanted} cores"),
        cores.to_string(),
    );
    let memory = plugged_in_mib(hardware.memory_bytes);
    let wanted = requirements.min_memory_mib;
    check(
        memory >= wanted,
        format!("memory at least {wanted} MiB"),
        format!("{} MiB", hardware.memory_bytes / MIB),
    );
    let (nics, wanted) = (count(hardware.nics.iter()), requirements.min_nics);
    check(
        nics >= wanted,
        format!("at least {wanted} Ethernet cards"),
        nics.to_string(),
    );
    lacks.extend(lacking_disks(&requirements.disks, &hardware.disks));
    lacks
}

fn suits(wanted: &DiskRequirement, disk: &Disk) -> bool {
    disk.size_bytes >= wanted.min_size_gib.saturating_mul(GIB)
        && wanted.kind.is_none_or(|kind| kind == disk.kind)
}

/// The first disk of a server that some requirement asks for, or any when none does.
pub fn disks_asked_for<'a>(requirements: &Requirements, disks: &'a [Disk]) -> Vec<&'a Disk> {
    let asked = |disk: &&Disk| match requirements.disks.first() {
        Some(wanted) => suits(wanted, disk),
        None => true,
    };
    disks.iter().filter(asked).collect()
}

fn lacking_disks(wanted: &[DiskRequirement], disks: &[Disk]) -> Vec<Lack> {
    let found = || match disks {
        [] => "none".to_owned(),
        disks => disks.iter().map(disk_in_words).collect::<Vec<_>>().join(", "),
    };
    let alone: Vec<_> = wanted
        .iter()
        .filter(|wanted| count(disks.iter().filter(|disk| suits(wanted, disk))) < wanted.count)
        .map(|wanted| Lack {
            requirement: requirement_in_words(wanted),
            found: found(),
        })
        .collect();
    if alone.is_empty() && !assignable(wanted, disks) {
        let together = wanted
            .iter()
            .map(requirement_in_words)
            .collect::<Vec<_>>()
            .join(" and ");
        return vec![Lack {
            requirement: format!("{together}, each of its own"),
            found: found(),
        }];
    }
    alone
}

/// Whether every wanted disk gets one of its own: a matching by augmenting paths (Kuhn). Each entry is met
/// alone, so there are
/// no more wanted disks per entry than disks.
fn assignable(wanted: &[DiskRequirement], disks: &[Disk]) -> bool {
    let total: u64 = wanted.iter().map(|wanted| u64::from(wanted.count)).sum();
    if total > disks.len() as u64 {
        return false;
    }
    let places: Vec<_> = wanted
        .iter()
        .flat_map(|wanted| (0..wanted.count).map(move |_| wanted))
        .collect();
    let mut holder: Vec<Option<usize>> = vec![None; disks.len()];
    (0..places.len()).all(|place| seat(place, &places, disks, &mut holder, &mut vec![false; disks.len()]))
}

fn seat(
    place: usize,
    places: &[&DiskRequirement],
    disks: &[Disk],
    holder: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for (index, disk) in disks.iter().enumerate() {
        if tried[index] || !suits(places[place], disk) {
            continue;
        }
        tried[index] = true;
        let available = match holder[index] {
            None => true,
            Some(other) => seat(other, places, disks, holder, tried),
        };
        if available {
            holder[index] = Some(place);
            return true;
        }
    }
    false
}

fn kind_in_words(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Nvme => "NVMe ",
        DiskKind::Ssd => "SSD ",
        DiskKind::Rotating => "rotating ",
        DiskKind::Other => "",
    }
}

fn requirement_in_words(wanted: &DiskRequirement) -> String {
    let DiskRequirement {
        count,
        min_size_gib,
        kind,
    } = wanted;
    let kind = kind.map_or("", kind_in_words);
    format!(
        "{count} {kind}disk{} of at least {min_size_gib} GiB",
        if *count == 1 { "" } else { "s" }
    )
}

fn disk_in_words(disk: &Disk) -> String {
    format!("{}{} GiB", kind_in_words(disk.kind), disk.size_bytes / GIB)
}

#[cfg(test)]
mod tests;
