//! A disk of the running kernel as a [`Medium`]. In stage 1 nothing holds it: there is no volume manager, no RAID and no mount.
//!
//! All reading and writing is direct (O_DIRECT), past the kernel's cache, so that what is read back comes from the disk.

use super::attempt::{Medium, Told};
use super::buffer::Buffer;
use super::methods::{Features, methods};
use super::nvme::Action;
use super::samples::Source;
use super::system_calls::{RangeCall, on_range, reread_partitions};
use super::time::Limit;
use super::{EraseError, ata, nvme};
use crate::console::say;
use leaseboot_protocol::erasure::EraseMethod;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What one discard or zeroing covers: between two of them the deadline is looked at and progress is told.
const STRIDE: u64 = 256 << 20;
/// A vendor name that libata and SAS adapters give to ATA disks (SAT-4, "Standard INQUIRY data").
const ATA_VENDOR: &str = "ATA";

/// An open disk.
pub(super) struct Disk {
    name: String,
    file: File,
    size: u64,
    features: Features,
    namespace: u32,
    /// Sectors that the disk hides: only its own erase commands reach them.
    hidden_sectors: u64,
}

impl Disk {
    /// Opens `/dev/<name>` and asks it what it offers.
    pub(super) fn open(name: &str) -> Result<Self, EraseError> {
        let path = Path::new("/dev").join(name);
        let failed = |source| EraseError::Open {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_EXCL)
            .open(&path)
            .map_err(failed)?;
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let sys = Path::new("/sys/block").join(name);
        let mut disk = Self {
            name: name.to_owned(),
            size,
            features: Features {
                discard: number(&sys.join("queue/discard_max_bytes")) > 0,
                ..Features::default()
            },
            namespace: u32::try_from(number(&sys.join("nsid"))).unwrap_or(0),
            hidden_sectors: 0,
            file,
        };
        disk.ask(&sys);
        Ok(disk)
    }

    /// Asks the disk for its own means. One that does not answer is left with the kernel's.
    fn ask(&mut self, sys: &Path) {
        if self.name.starts_with("nvme") {
            match nvme::offers(&self.file) {
                Ok(offers) => self.features.nvme = Some(offers),
                Err(error) => say!("erase {}: {}", self.name, crate::errors::chain(&error).join(": ")),
            }
        } else if text(&sys.join("device/vendor")) == ATA_VENDOR {
            match ata::identify(&self.file) {
                Ok(identity) => {
                    self.hidden_sectors = ata::hidden_sectors(&self.file, &identity);
                    self.features.ata = Some(identity);
                }
                Err(error) => say!("erase {}: {}", self.name, crate::errors::chain(&error).join(": ")),
            }
        }
    }

    fn sanitize(&self, action: Action, told: &Told) -> Result<(), EraseError> {
        nvme::sanitize(&self.file, action, |part| {
            told.erased((self.size >> 16) * u64::from(part))
        })
    }

    fn format(&self) -> Result<(), EraseError> {
        let what = "format the namespace";
        let format = self.features.nvme.and_then(|offers| offers.format);
        nvme::format(
            &self.file,
            self.namespace,
            format.ok_or(EraseError::Nonsense { what })?,
        )
    }

    /// What the host can reach is not all that there is: the tenant may have hidden data behind a reduced capacity.
    fn nothing_is_hidden(&self) -> Result<(), EraseError> {
        match self.hidden_sectors {
            0 => Ok(()),
            sectors => Err(EraseError::Hidden { sectors }),
        }
    }

    fn discard(&self, told: &Told) -> Result<(), EraseError> {
        self.nothing_is_hidden()?;
        let secure = self.stride_over(RangeCall::SecureDiscard, told);
        match secure {
            Err(EraseError::Call { .. }) => self.stride_over(RangeCall::Discard, told),
            done => done,
        }
    }

    fn overwrite(&self, told: &Told) -> Result<(), EraseError> {
        self.nothing_is_hidden()?;
        let by_kernel = self.stride_over(RangeCall::ZeroOut, told);
        match by_kernel {
            Err(EraseError::Call { .. }) => self.write_zeros(0..self.size, told),
            done => done,
        }
    }

    fn stride_over(&self, call: RangeCall, told: &Told) -> Result<(), EraseError> {
        let what = match call {
            RangeCall::Discard => "discard",
            RangeCall::SecureDiscard => "discard securely",
            RangeCall::ZeroOut => "zero",
        };
        let limit = Limit::for_bytes(what, self.size);
        let mut at = 0;
        while at < self.size {
            let end = (at + STRIDE).min(self.size);
            on_range(&self.file, call, &(at..end)).map_err(|source| EraseError::Call { what, source })?;
            told.erased(end);
            limit.check()?;
            at = end;
        }
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>, told: &Told) -> Result<(), EraseError> {
        let what = "write zeros";
        let limit = Limit::for_bytes(what, range.end - range.start);
        let zeros = Buffer::new();
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at)
                .unwrap_or(Buffer::LENGTH)
                .min(Buffer::LENGTH);
            self.file
                .write_all_at(&zeros.bytes()[..length], at)
                .map_err(|source| EraseError::Call { what, source })?;
            at += length as u64;
            told.erased(at);
            limit.check()?;
        }
        self.file
            .sync_data()
            .map_err(|source| EraseError::Call { what, source })
    }
}

impl Source for Disk {
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }
}

impl Medium for Disk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn methods(&self) -> Vec<EraseMethod> {
        methods(&self.features)
    }

    fn erase(&mut self, method: EraseMethod, told: &Told) -> Result<(), EraseError> {
        match method {
            EraseMethod::NvmeSanitizeCrypto => self.sanitize(Action::Crypto, told),
            EraseMethod::NvmeSanitizeBlock => self.sanitize(Action::Block, told),
            EraseMethod::NvmeFormat => self.format(),
            EraseMethod::AtaSecureEraseEnhanced => ata::security_erase(&self.file, true),
            EraseMethod::AtaSecureErase => ata::security_erase(&self.file, false),
            EraseMethod::Discard => self.discard(told),
            EraseMethod::Overwrite | EraseMethod::Unknown => self.overwrite(told),
        }?;
        // The kernel forgets the partitions that are gone. A disk that a driver still looks at is busy; nobody asks it for them.
        let _ = reread_partitions(&self.file);
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), EraseError> {
        self.write_zeros(range, &Told::default())
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn number(path: &Path) -> u64 {
    text(path).parse().unwrap_or(0)
}
