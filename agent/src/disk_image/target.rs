//! The disk that an image goes to. Which one it is, the lender said, by the name that udev would give it: kernels number disks as they find them.

use crate::hardware;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is zeroed at both ends before anything else: tables, boot sectors, and the signatures of file systems and RAIDs.
const SPOILED: u64 = 1 << 20;
const ZEROS: usize = 1 << 20;

/// The disk cannot be used, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// It is not there.
    #[error("the disk {wanted:?} that the lender named is not in this server; there are: {present}")]
    Missing {
        /// Its name below /dev/disk/by-id.
        wanted: String,
        /// The others.
        present: String,
    },
    /// Its sectors are not those of the image's table.
    #[error("the disk {name} has sectors of {sector} bytes, and disk images are made for sectors of 512")]
    Sectors {
        /// The kernel's name.
        name: String,
        /// As the kernel tells.
        sector: String,
    },
    /// Too small.
    #[error("the disk {name} has {size} bytes and the image needs {image}")]
    TooSmall {
        /// The kernel's name.
        name: String,
        /// Its size.
        size: u64,
        /// The image's size.
        image: u64,
    },
    /// It failed.
    #[error("cannot {what} the disk {name}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// The kernel's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl TargetError {
    /// Whether another attempt is pointless.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, TargetError::Failed { .. })
    }
}

/// A disk, open for writing.
#[derive(Debug)]
pub(crate) struct Target {
    name: String,
    path: PathBuf,
    size: u64,
    file: File,
}

impl Target {
    /// The disk that udev would call so.
    pub(crate) fn open(by_id: &str) -> Result<Self, TargetError> {
        let disks = hardware::report(Path::new("/")).disks;
        let Some(disk) = disks.iter().find(|disk| !by_id.is_empty() && disk.by_id == by_id) else {
            let present: Vec<_> = disks
                .iter()
                .map(|disk| format!("{} ({})", disk.name, disk.by_id))
                .collect();
            return Err(TargetError::Missing {
                wanted: by_id.to_owned(),
                present: present.join(", "),
            });
        };
        let sector = fs::read_to_string(format!("/sys/block/{}/queue/logical_block_size", disk.name));
        let sector = sector.unwrap_or_default().trim().to_owned();
        if sector != "512" {
            let name = disk.name.clone();
            return Err(TargetError::Sectors { name, sector });
        }
        Self::at(&Path::new("/dev").join(&disk.name), &disk.name, disk.size_bytes)
    }

    fn at(path: &Path, name: &str, size: u64) -> Result<Self, TargetError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            size,
            file: file.map_err(failed("open", name))?,
        })
    }

    /// A file that stands for a disk.
    #[cfg(test)]
    pub(super) fn file(path: &Path, size: u64) -> Self {
        Self::at(path, "file", size).unwrap()
    }

    /// The kernel's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The open disk.
    pub(super) fn disk(&self) -> &File {
        &self.file
    }

    /// Where the kernel shows the partition of this number.
    pub(super) fn partition(&self, number: u32) -> PathBuf {
        let p = if self.name.ends_with(|last: char| last.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        PathBuf::from(format!("{}{p}{number}", self.path.display()))
    }

    /// Whether an image of so many bytes has room.
    pub(super) fn holds(&self, image: u64) -> Result<(), TargetError> {
        match image <= self.size {
            true => Ok(()),
            false => Err(TargetError::TooSmall {
                name: self.name.clone(),
                size: self.size,
                image,
            }),
        }
    }

    /// Whatever was on it does not boot any more, nor is it found.
    pub(super) fn spoil(&self) -> Result<(), TargetError> {
        self.zero(0..SPOILED.min(self.size))?;
        self.zero(self.size.saturating_sub(SPOILED)..self.size)?;
        self.sync()
    }

    /// Makes a range of bytes zeros, by the disk's own means where it has some.
    pub(super) fn zero(&self, range: Range<u64>) -> Result<(), TargetError> {
        let (Ok(start), Ok(length)) = (i64::try_from(range.start), i64::try_from(range.end - range.start))
        else {
            return Err(failed("zero", &self.name)(io::ErrorKind::InvalidInput.into()));
        };
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // blkdev_fallocate in the kernel: the first only where the disk promises zeros afterwards, the second also by writing them.
        for how in [
            FallocateFlags::FALLOC_FL_PUNCH_HOLE,
            FallocateFlags::FALLOC_FL_ZERO_RANGE,
        ] {
            match fallocate(&self.file, how | keep, start, length) {
                Ok(()) => return Ok(()),
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENODEV | Errno::ENOSYS) => {}
                Err(error) => return Err(failed("zero", &self.name)(error.into())),
            }
        }
        let (zeros, mut at) = (vec![0; ZEROS], range.start);
        while at < range.end {
            let length = (range.end - at).min(ZEROS as u64);
            self.write(at, &zeros[..length as usize])?;
            at += length;
        }
        Ok(())
    }

    /// Writes at a byte of the disk.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError> {
        self.file
            .write_all_at(bytes, at)
            .map_err(failed("write to", &self.name))
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> Result<(), TargetError> {
        self.file
            .sync_all()
            .map_err(failed("finish writing to", &self.name))
    }
}

fn failed(what: &'static str, name: &str) -> impl Fn(io::Error) -> TargetError {
    let name = name.to_owned();
    move |source| TargetError::Failed {
        what,
        name: name.clone(),
        source,
    }
}
