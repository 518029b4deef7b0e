//! The second way into the enterprise's kernel, for boards that hang in kexec: by way of the disk that is about to be installed.
//!
//! ```text
//! stage 1:  table, file system, kernel, ramdisk, start.cfg ──► disk      digests ──► LM, which orders a start
//! GRUB:     finds the folder, checks the digests that the LM's script pins, sources start.cfg
//! stage 2:  the wrapper's child overwrites all of it with zeros, before it does anything else that takes time
//! ```
//!
//! Only what [`crate::blob`] has verified can be staged, as with [`crate::kexec`]. The ramdisk holds this boot's keys and the sealed values, so for
//! the time of one start they lie on the disk in clear; the erasure at the lease's end covers the disk whatever becomes of that start.
//! See docs/decisions/0046-the-second-way.md.

mod partition;
mod start;
mod table;

use crate::blob::{Ramdisk, Verified};
use crate::console::say;
use crate::drivers::{Drivers, Wanted};
use crate::hardware;
use crate::report::Progress;
use leaseboot_protocol::handover::{StagedDisk, StagedFiles};
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use table::Geometry;

/// Room for our own archive behind the initrd: the agent, its facts and the merged text.
const ARCHIVE_ROOM: u64 = 64 << 20;
/// How often the progress of the writing is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A disk's driver needs its time to find it.
const DISK_DEADLINE: Duration = Duration::from_secs(20);
const ZEROS: usize = 1 << 20;

/// Nothing could be staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StagingError {
    /// The disk is not there.
    #[error("cannot stage on the disk {disk}: the server has no such disk")]
    NoDisk {
        /// As the lease manager named it.
        disk: String,
    },
    /// It has no room.
    #[error("cannot stage on the disk {disk}: {needed} bytes are needed, and it has {size}")]
    TooSmall {
        /// The disk.
        disk: String,
        /// What is needed.
        needed: u64,
        /// What there is.
        size: u64,
    },
    /// A word would reach the kernel changed.
    #[error(
        "cannot stage: GRUB would change the word {word:?} of the kernel command line (a quote, a backslash or a control character); write it without"
    )]
    Word {
        /// The word.
        word: String,
    },
    /// Reading or writing failed.
    #[error("cannot {what} on the disk {disk}")]
    Disk {
        /// What was attempted.
        what: &'static str,
        /// The disk.
        disk: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where on the disk everything will lie. It is known before the ramdisk is whole, because the ramdisk says it.
pub(crate) struct Place {
    device: PathBuf,
    geometry: Geometry,
    disk: String,
}

impl Place {
    /// For these files and our archive, on the disk that `/dev/disk/by-id` would name `disk`.
    pub(crate) fn find(disk: &str, kernel: &Verified, initrd: &Verified) -> Result<Self, StagingError> {
        let found = hardware::disks(Path::new("/"))
            .into_iter()
            .find(|found| found.by_id == disk && !disk.is_empty());
        let found = found.ok_or_else(|| StagingError::NoDisk {
            disk: disk.to_owned(),
        })?;
        let needed = kernel.size() + initrd.size() + ARCHIVE_ROOM;
        let sector = sector_size(&found.name);
        let geometry = Geometry::new(found.size_bytes, sector, needed).ok_or(StagingError::TooSmall {
            disk: disk.to_owned(),
            needed,
            size: found.size_bytes,
        })?;
        Ok(Self {
            device: Path::new("/dev").join(&found.name),
            geometry,
            disk: disk.to_owned(),
        })
    }

    /// The facts for the wrapper, which removes everything again.
    pub(crate) fn facts(&self) -> StagedDisk {
        StagedDisk {
            disk: self.disk.clone(),
            bytes: self.geometry.partition().end,
        }
    }

    /// Writes everything and waits until the disk has it.
    pub(crate) async fn write(
        self,
        kernel: &Verified,
        ramdisk: &Ramdisk,
        command_line: &str,
        progress: &Progress,
    ) -> Result<StagedFiles, StagingError> {
        let failed = |what, source| StagingError::Disk {
            what,
            disk: self.disk.clone(),
            source,
        };
        let random = random().map_err(|source| failed("draw random names", source))?;
        let id = leaseboot_protocol::handover::StagingId::from_random(random);
        let content = partition::Content {
            start: start::commands(&id, command_line)?,
            kernel: kernel
                .file()
                .try_clone()
                .map_err(|e| failed("read the kernel", e))?,
            ramdisk: ramdisk
                .file()
                .try_clone()
                .map_err(|e| failed("read the ramdisk", e))?,
            id,
        };
        let written = Arc::new(AtomicU64::new(0));
        let (device, geometry, counted) = (self.device.clone(), self.geometry, written.clone());
        let mut writing = tokio::task::spawn_blocking(move || {
            let mut disk = OpenOptions::new().read(true).write(true).open(device)?;
            geometry.write(&mut disk, random)?;
            let staged = partition::write(&disk, &geometry, random, content, &counted)?;
            disk.sync_all()?;
            Ok(staged)
        });
        // Goal: the writer's outcome. A look at the clock that is dropped loses nothing.
        loop {
            tokio::select! {
                done = &mut writing => {
                    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
                    return done.map_err(|source| failed("stage kernel and ramdisk", source));
                }
                () = tokio::time::sleep(LOOK) => progress.bytes(written.load(Ordering::Relaxed), None),
            }
        }
    }
}

/// Overwrites what was staged, in stage 2. Without the disk's driver in the image it stays until the installer or the erasure: that is said, and
/// no reason to give the boot up.
pub(crate) fn remove(staged: &StagedDisk, drivers: &mut Drivers) {
    match try_remove(staged, drivers) {
        Ok(()) => say!(
            "staging: {} bytes of the disk {} are zeros again",
            staged.bytes,
            staged.disk
        ),
        Err(error) => say!(
            "staging: the staged files are still on the disk: {}",
            crate::errors::chain(&error).join(": ")
        ),
    }
}

fn try_remove(staged: &StagedDisk, drivers: &mut Drivers) -> Result<(), StagingError> {
    drivers.load_for_hardware(Wanted::Everything);
    let failed = |what, source| StagingError::Disk {
        what,
        disk: staged.disk.clone(),
        source,
    };
    let (device, size) = wait_for(&staged.disk)?;
    let mut disk = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(&device)
        .map_err(|source| failed("open what was staged", source))?;
    let tail = size
        .saturating_sub(table::SPARE_BYTES)
        .max(staged.bytes.min(size));
    for range in [0..staged.bytes.min(size), tail..size] {
        zero(&mut disk, range).map_err(|source| failed("overwrite what was staged", source))?;
    }
    disk.sync_all()
        .map_err(|source| failed("overwrite what was staged", source))?;
    // A partition that is no more must not be found by the installer. Where the kernel keeps it, the table is gone all the same.
    drop(crate::wipe::reread_partitions(&disk));
    Ok(())
}

/// The stage-2 kernel finds the disk some time after its driver was loaded.
fn wait_for(disk: &str) -> Result<(PathBuf, u64), StagingError> {
    let begun = Instant::now();
    loop {
        let found = hardware::disks(Path::new("/"))
            .into_iter()
            .find(|found| found.by_id == disk);
        let device = found.map(|found| (Path::new("/dev").join(&found.name), found.size_bytes));
        if let Some((device, size)) = device.filter(|(device, _)| device.exists()) {
            return Ok((device, size));
        }
        if begun.elapsed() > DISK_DEADLINE {
            return Err(StagingError::NoDisk {
                disk: disk.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn zero(disk: &mut std::fs::File, range: std::ops::Range<u64>) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    disk.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(ZEROS).min(ZEROS);
        disk.write_all(&zeros[..now])?;
        left -= now as u64;
    }
    Ok(())
}

fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// The smallest piece that the disk can address, in bytes (kernel document ABI/stable/sysfs-block).
fn sector_size(name: &str) -> u64 {
    let path = Path::new("/sys/block")
        .join(name)
        .join("queue/logical_block_size");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(512)
}
