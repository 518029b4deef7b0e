//! The partition table of a disk image (GUID Partition Table; UEFI 2.10, section 5.3), as far as an image that moves to a larger disk needs it.
//!
//! The PO reads it to refuse an image that cannot be used before anybody is asked for a server; the agent reads it again to grow it. Pure: bytes in, bytes
//! out. Only the first megabyte is looked at, both checksums must be right, and every number is checked before it is used, since images are hostile bytes.
//!
//! ```text
//! image   |MBR|header|entries| … partitions … |entries|header|
//! disk    |MBR|header|entries| … partitions … ─── last one grown ───► |entries|header|
//! ```
//!
//! Sectors are of 512 bytes: an image for disks of 4,096-byte sectors has its header elsewhere and is refused as one without a table.

use crate::disk_image::HEAD;
use std::ops::Range;

/// The length of a sector, in bytes.
pub const SECTOR: u64 = 512;
/// A grown partition ends on a multiple of this, in sectors (1 MiB), as partitioning programs begin them.
const ALIGNMENT: u64 = 2048;
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that its checksum covers, by this and every earlier version of the format.
const HEADER: usize = 92;
const ENTRY: usize = 128;
const MOST_ENTRIES: usize = 1024;
/// The table that hides the disk from programs that know no other, in the boot sector.
const PROTECTIVE: u8 = 0xee;
const MBR_ENTRIES: usize = 446;

/// Why a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// There is none.
    #[error(
        "the image has no GUID partition table for sectors of 512 bytes: a file system alone or an MBR cannot be grown; convert it (sgdisk --mbrtogpt)"
    )]
    None,
    /// It is damaged, or was written to deceive.
    #[error("the image's partition table is not sound: {0}")]
    Unsound(&'static str),
    /// The disk is too small.
    #[error("the image has {image} sectors of 512 bytes and the disk only {disk}")]
    TooLarge {
        /// Sectors of the image.
        image: u64,
        /// Sectors of the disk.
        disk: u64,
    },
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, counted from 1.
    pub number: u32,
    /// Its type's GUID, in the order of the bytes on the disk.
    pub kind: [u8; 16],
    /// Its first sector.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
}

impl Partition {
    /// Where it lies, in bytes.
    pub fn bytes(&self) -> Range<u64> {
        self.first * SECTOR..(self.last + 1) * SECTOR
    }
}

/// A sound table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    header: [u8; HEADER],
    entries: Vec<u8>,
    entry_size: usize,
    sectors: u64,
}

impl Gpt {
    /// Reads the table from the first megabyte of an image of `size` bytes.
    ///
    /// # Errors
    /// [`GptError::None`] and [`GptError::Unsound`].
    pub fn read(head: &[u8], size: u64) -> Result<Self, GptError> {
        let head = &head[..head.len().min(HEAD)];
        let sectors = size / SECTOR;
        let place = SECTOR as usize..SECTOR as usize + HEADER;
        let header: [u8; HEADER] = head
            .get(place)
            .and_then(|bytes| bytes.try_into().ok())
            .filter(|bytes: &[u8; HEADER]| bytes.starts_with(SIGNATURE))
            .ok_or(GptError::None)?;
        if !head[510..].starts_with(&[0x55, 0xaa]) || !protective(head).any(|_| true) {
            return Err(GptError::Unsound("its boot sector has no protective entry"));
        }
        let table = Self::located(header, head, sectors)?;
        table.check_partitions()?;
        Ok(table)
    }

    fn located(header: [u8; HEADER], head: &[u8], sectors: u64) -> Result<Self, GptError> {
        let unsound = |why| Err(GptError::Unsound(why));
        if u32_at(&header, 12) as usize != HEADER || header_checksum(&header) != u32_at(&header, 16) {
            return unsound("the header's checksum is wrong");
        }
        if u64_at(&header, 24) != 1 || u64_at(&header, 32) >= sectors {
            return unsound("the header does not stand where it says");
        }
        let (count, entry_size) = (u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
        if count > MOST_ENTRIES || !matches!(entry_size, ENTRY | 256 | 512) {
            return unsound("it has too many entries, or entries of an unknown size");
        }
        let begin = u64_at(&header, 72).saturating_mul(SECTOR);
        let Some(entries) = usize::try_from(begin)
            .ok()
            .filter(|begin| *begin >= 2 * SECTOR as usize)
            .and_then(|begin| head.get(begin..begin.checked_add(count * entry_size)?))
        else {
            return unsound("its entries do not lie within the first megabyte");
        };
        if crc32fast::hash(entries) != u32_at(&header, 88) {
            return unsound("the entries' checksum is wrong");
        }
        Ok(Self {
            header,
            entries: entries.to_vec(),
            entry_size,
            sectors,
        })
    }

    fn check_partitions(&self) -> Result<(), GptError> {
        let (first_usable, last_usable) = (u64_at(&self.header, 40), u64_at(&self.header, 48));
        let backup = self.entry_sectors() + 1;
        let table_end = u64_at(&self.header, 72) + self.entry_sectors();
        if first_usable < table_end || last_usable >= self.sectors.saturating_sub(backup) {
            return Err(GptError::Unsound(
                "its usable sectors reach into the table itself",
            ));
        }
        let mut partitions = self.partitions();
        partitions.sort_by_key(|partition| partition.first);
        let mut free = first_usable;
        for partition in &partitions {
            if partition.first < free || partition.last < partition.first || partition.last > last_usable {
                return Err(GptError::Unsound(
                    "partitions overlap or lie outside of the image",
                ));
            }
            free = partition.last + 1;
        }
        match partitions.is_empty() {
            true => Err(GptError::Unsound("it has no partitions")),
            false => Ok(()),
        }
    }

    /// All partitions, by number.
    pub fn partitions(&self) -> Vec<Partition> {
        let entries = (1..).zip(self.entries.chunks_exact(self.entry_size));
        let used = entries.filter(|(_, entry)| entry[..16] != [0; 16]);
        used.map(|(number, entry)| Partition {
            number,
            kind: entry[..16].try_into().expect("sixteen bytes"),
            first: u64_at(entry, 32),
            last: u64_at(entry, 40),
        })
        .collect()
    }

    /// Moves the table to a disk of `size` bytes: its copy goes to the disk's end, and the last partition takes what is free before it.
    /// Gives that partition as it is then.
    ///
    /// # Errors
    /// [`GptError::TooLarge`].
    pub fn grow(&mut self, size: u64) -> Result<Partition, GptError> {
        let disk = size / SECTOR;
        if disk < self.sectors {
            let image = self.sectors;
            return Err(GptError::TooLarge { image, disk });
        }
        let last_usable = disk - self.entry_sectors() - 2;
        let all = self.partitions();
        let mut last = *all
            .iter()
            .max_by_key(|partition| partition.last)
            .expect("read() saw one");
        let aligned = ((last_usable + 1) / ALIGNMENT * ALIGNMENT).saturating_sub(1);
        last.last = last.last.max(aligned);
        let entry = (last.number as usize - 1) * self.entry_size;
        self.entries[entry + 40..entry + 48].copy_from_slice(&last.last.to_le_bytes());
        self.sectors = disk;
        self.put(32, disk - 1);
        self.put(48, last_usable);
        let checksum = crc32fast::hash(&self.entries);
        self.header[88..92].copy_from_slice(&checksum.to_le_bytes());
        seal(&mut self.header);
        Ok(last)
    }

    /// Puts the table into the first megabyte of its disk. What else is there, such as a boot loader, stays.
    pub fn write_primary(&self, head: &mut [u8; HEAD]) {
        let whole = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX).to_le_bytes();
        let entries: Vec<_> = protective(head).collect();
        for entry in entries {
            head[entry + 12..entry + 16].copy_from_slice(&whole);
        }
        head[SECTOR as usize..SECTOR as usize + HEADER].copy_from_slice(&self.header);
        let begin = (u64_at(&self.header, 72) * SECTOR) as usize;
        head[begin..begin + self.entries.len()].copy_from_slice(&self.entries);
    }

    /// The copy at the disk's end: at which byte, and its bytes.
    pub fn backup(&self) -> (u64, Vec<u8>) {
        let begin = self.sectors - 1 - self.entry_sectors();
        let mut header = self.header;
        header[24..32].copy_from_slice(&(self.sectors - 1).to_le_bytes());
        header[32..40].copy_from_slice(&1u64.to_le_bytes());
        header[72..80].copy_from_slice(&begin.to_le_bytes());
        seal(&mut header);
        let mut bytes = self.entries.clone();
        bytes.resize((self.entry_sectors() * SECTOR) as usize, 0);
        bytes.extend(header);
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        (begin * SECTOR, bytes)
    }

    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(SECTOR)
    }

    fn put(&mut self, at: usize, value: u64) {
        self.header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Where the boot sector's protective entries begin.
fn protective(head: &[u8]) -> impl Iterator<Item = usize> {
    let entries = (0..4).map(|number| MBR_ENTRIES + 16 * number);
    entries.filter(|at| head.get(at + 4) == Some(&PROTECTIVE))
}

fn header_checksum(header: &[u8; HEADER]) -> u32 {
    let mut cleared = *header;
    cleared[16..20].fill(0);
    crc32fast::hash(&cleared)
}

fn seal(header: &mut [u8; HEADER]) {
    let checksum = header_checksum(header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
