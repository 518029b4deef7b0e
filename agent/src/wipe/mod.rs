//! Wipe mode: a server that comes back loses everything that its tenant left, and what is read back shows it.
//!
//! ```text
//! wait for the disks on record ─► each disk by itself, at most [`AT_ONCE`] at a time ─► boot entries ─► report to the LM ─► power off
//!                                  attempt: methods ─► disk: nvme, ata, discard, zeros
//!                                           samples: what is read back
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`methods`] | which methods a disk offers, strongest first; pure |
//! | [`attempt`] | one disk's way through them, over a trait; tested with a disk in memory |
//! | [`samples`] | what is read back and what it must be; pure |
//! | [`nvme`], [`ata`] | the disks' own commands; their `pages` parse what disks say, pure and fed with noise |
//! | [`disk`] | the real disk: opens, asks, discards, writes |
//! | [`boot_entries`] | NVRAM |
//! | [`system_calls`] | every ioctl, and the only `unsafe` |
//!
//! A disk that fails does not stop the others. The report tells of each, and what follows from it is the LM's to decide. What is erased is
//! every fixed disk; removable media are not lent. A capacity that a tenant reduced (host protected area, device configuration) is looked
//! for: only the disk's own erase reaches behind it, and without one the disk counts as not erased.

mod ata;
mod attempt;
mod boot_entries;
mod buffer;
mod disk;
mod methods;
mod nvme;
mod samples;
mod system_calls;
mod time;

pub(crate) use system_calls::reread_partitions;

use crate::backoff::Backoff;
use crate::console::say;
use crate::drivers::Drivers;
use crate::errors::chain;
use crate::hardware;
use crate::lm::Session;
use crate::report::{Fault, Progress, StepFailed, Steps};
use attempt::Told;
use leaseboot_protocol::erasure::{DiskErasure, DiskOutcome, ErasureReport, WipeTask};
use leaseboot_protocol::hardware::Disk;
use leaseboot_protocol::lease::Step;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Disks at work at the same time; each takes at most two MiB of memory.
const AT_ONCE: usize = 32;
/// Disks that take longer count as failed, with everything that still hangs in the kernel.
const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
const DISKS_DEADLINE: Duration = Duration::from_secs(30);
const PROGRESS: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
const REPORT_ATTEMPTS: u32 = 60;

/// A method could not be carried out, or did not do what it promised.
#[derive(Debug, thiserror::Error)]
enum EraseError {
    #[error("cannot open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {what}")]
    Call {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the controller refused to {what}: NVMe status {status:#06x}")]
    NvmeStatus { what: &'static str, status: u16 },
    #[error("the sanitize operation did not end well: its status is {status:?}")]
    Sanitize { status: nvme::pages::Sanitize },
    #[error("the disk refused to {what}: SCSI status {scsi:#04x}, host {host:#06x}, sense {sense}")]
    AtaStatus {
        what: &'static str,
        scsi: u8,
        host: u16,
        sense: String,
    },
    #[error("cannot {what}: what the disk says of itself makes no sense")]
    Nonsense { what: &'static str },
    #[error(
        "the firmware has frozen the disk's security commands: set it to leave them free, or plug the disk out and in with the power on"
    )]
    Frozen,
    #[error(
        "the disk is locked by a password that is not ours: only its master password or its maker can free it"
    )]
    Locked,
    #[error(
        "the disk hides {sectors} sectors from the host, which only a secure erase reaches: restore its full capacity"
    )]
    Hidden { sectors: u64 },
    #[error("could not {what} within {} s", within.as_secs())]
    Late { what: &'static str, within: Duration },
    #[error("the method did not erase everything")]
    Check(#[from] samples::CheckError),
}

/// The LM could not be told in time.
#[derive(Debug, thiserror::Error)]
#[error("the lease manager did not take the report of the erasure")]
struct NotTold(#[source] crate::lm::LmError);

/// Erases everything and reports it. Fails only when the LM does not take the report.
pub(crate) async fn run(
    task: &WipeTask,
    steps: &Steps,
    session: &Session,
    drivers: &RefCell<Drivers>,
) -> Result<(), StepFailed> {
    steps
        .run(Step::Erase, 1, async |progress| {
            let disks = wait_for_disks(&task.serials).await;
            let mut erasures = erase_all(&disks, progress).await;
            erasures.extend(missing(&task.serials, &disks));
            let cleared = boot_entries::clear(&mut drivers.borrow_mut());
            let report = ErasureReport {
                disks: erasures,
                boot_entries_removed: cleared.removed,
                boot_entries_error: cleared.error,
            };
            tell(&report);
            hand_over(session, &report)
                .await
                .map_err(|error| Fault::Final(error.into()))
        })
        .await
}

/// Every fixed disk, once those on record are there, or after a time without them.
async fn wait_for_disks(serials: &[String]) -> Vec<Disk> {
    let deadline = Instant::now() + DISKS_DEADLINE;
    loop {
        let mut disks = hardware::report(Path::new("/")).disks;
        disks.retain(|disk| !is_hidden(&disk.name));
        if missing(serials, &disks).is_empty() || Instant::now() > deadline {
            return disks;
        }
        sleep(POLL).await;
    }
}

/// The paths of a namespace that has several, besides the namespace itself (kernel document ABI/stable/sysfs-block).
fn is_hidden(name: &str) -> bool {
    let flag = std::fs::read_to_string(Path::new("/sys/block").join(name).join("hidden"));
    flag.is_ok_and(|flag| flag.trim() == "1")
}

async fn erase_all(disks: &[Disk], progress: &Progress) -> Vec<DiskErasure> {
    let total = disks.iter().map(|disk| disk.size_bytes).sum();
    let deadline = Instant::now() + DEADLINE;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let (mut tasks, mut told, mut done) = (JoinSet::new(), Vec::new(), BTreeMap::new());
    for group in by_controller(disks) {
        let room = Arc::clone(&room);
        let group: Vec<(String, Arc<Told>)> = group.into_iter().map(|name| (name, Arc::default())).collect();
        told.extend(group.iter().map(|(_, told)| Arc::clone(told)));
        tasks.spawn(async move {
            // Nobody closes it.
            let _permit = room.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                group
                    .iter()
                    .map(|(name, told)| (name.clone(), erase_one(name, told)))
                    .collect::<Vec<_>>()
            })
            .await
            .unwrap_or_default()
        });
    }
    // Goal: every disk has an outcome, or the deadline is over. A turn that ends by time loses nothing: the tasks stay in the set.
    while !tasks.is_empty() && Instant::now() < deadline {
        if let Ok(Some(outcomes)) =
            timeout_at(deadline.min(Instant::now() + PROGRESS), tasks.join_next()).await
        {
            done.extend(outcomes.unwrap_or_default());
        }
        progress.bytes(told.iter().map(|told| told.bytes()).sum(), Some(total));
    }
    let mut outcome = |disk: &Disk| done.remove(&disk.name).unwrap_or_else(hanging);
    disks.iter().map(|disk| erasure(disk, outcome(disk))).collect()
}

/// Namespaces of one NVMe controller are erased one after the other, because its commands may concern them all.
fn by_controller(disks: &[Disk]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for disk in disks {
        let namespace = disk
            .name
            .rfind('n')
            .filter(|at| *at > 0 && disk.name.starts_with("nvme"));
        let controller = &disk.name[..namespace.unwrap_or(disk.name.len())];
        groups
            .entry(controller.to_owned())
            .or_default()
            .push(disk.name.clone());
    }
    groups.into_values().collect()
}

fn erase_one(name: &str, told: &Told) -> DiskOutcome {
    match disk::Disk::open(name) {
        Ok(mut disk) => attempt::erase(&mut disk, seed(), told),
        Err(error) => DiskOutcome::Failed {
            errors: vec![chain(&error).join(": ")],
        },
    }
}

/// What a tenant cannot foresee.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers the places are still spread, and the clock is no worse than a constant.
    if getrandom::fill(&mut bytes).is_err() {
        return crate::console::uptime_seconds().to_bits();
    }
    u64::from_ne_bytes(bytes)
}

fn hanging() -> DiskOutcome {
    DiskOutcome::Failed {
        errors: vec![format!(
            "its erasure did not come to an end within {} h",
            DEADLINE.as_secs() / 3600
        )],
    }
}

fn erasure(disk: &Disk, outcome: DiskOutcome) -> DiskErasure {
    DiskErasure {
        name: disk.name.clone(),
        serial: disk.serial.clone(),
        model: disk.model.clone(),
        size_bytes: disk.size_bytes,
        outcome,
    }
}

/// Disks on record that are not there.
fn missing(serials: &[String], disks: &[Disk]) -> Vec<DiskErasure> {
    let is_missing =
        |serial: &&String| !serial.is_empty() && disks.iter().all(|disk| disk.serial != **serial);
    let missing = serials.iter().filter(is_missing).map(|serial| DiskErasure {
        name: String::new(),
        serial: serial.clone(),
        model: String::new(),
        size_bytes: 0,
        outcome: DiskOutcome::Failed {
            errors: vec!["the disk is on record and is not in the server".to_owned()],
        },
    });
    missing.collect()
}

fn tell(report: &ErasureReport) {
    for description in &report.boot_entries_removed {
        say!("erase: removed the boot entry {description:?}");
    }
    if let Some(error) = &report.boot_entries_error {
        say!("erase: boot entries: FAILED: {error}");
    }
    let failed = report
        .disks
        .iter()
        .filter(|disk| !matches!(disk.outcome, DiskOutcome::Erased { .. }));
    match failed.count() {
        0 => say!("erase: {} disks are erased", report.disks.len()),
        failed => say!("erase: {failed} of {} disks are NOT erased", report.disks.len()),
    }
}

async fn hand_over(session: &Session, report: &ErasureReport) -> Result<(), NotTold> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    for attempt in 1.. {
        match session.erasure(report).await {
            Ok(_) => break,
            Err(error) if error.is_final() || attempt == REPORT_ATTEMPTS => return Err(NotTold(error)),
            Err(error) => say!("erase: {}; trying again", chain(&error).join(": ")),
        }
        backoff.wait().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, serial: &str) -> Disk {
        Disk {
            name: name.to_owned(),
            serial: serial.to_owned(),
            ..Disk::default()
        }
    }

    #[test]
    fn namespaces_of_one_controller_wait_for_each_other() {
        let disks = ["nvme0n1", "nvme0n2", "nvme10n1", "sda", "vdn", "sdn"].map(|name| disk(name, ""));
        let groups = by_controller(&disks);
        assert_eq!(groups.len(), 5);
        assert!(groups.contains(&vec!["nvme0n1".to_owned(), "nvme0n2".to_owned()]));
        assert!(groups.contains(&vec!["vdn".to_owned()]));
    }

    #[test]
    fn a_disk_on_record_that_is_missing_is_not_erased() {
        let found = [disk("sda", "S1"), disk("sdb", "")];
        let serials = ["S1".to_owned(), "S2".to_owned(), String::new()];
        let missing = missing(&serials, &found);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].serial, "S2");
        let report = ErasureReport {
            disks: missing,
            boot_entries_removed: Vec::new(),
            boot_entries_error: None,
        };
        assert!(!report.is_clean());
    }
}
