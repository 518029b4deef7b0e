//! A GUID partition table with one partition, as a pure function of the disk's size (UEFI 2.10, 5.3).
//!
//! ```text
//! sector 0: protective MBR   1: header   2…: entries      1 MiB …: the partition      end: entries again, header again
//! ```
//!
//! The table is there for a few minutes, between stage 1 and stage 2, for one reader: GRUB. The firmware looks at it too, so it is whole.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

/// The partition begins here, in bytes, as is customary.
const FIRST: u64 = 1 << 20;
/// The end of the disk that the spare table may reach into, in bytes: 16 KiB of entries and a header of one sector, of whatever size.
pub(super) const SPARE_BYTES: u64 = 1 << 20;
const ENTRY_BYTES: u32 = 128;
const ENTRIES: u32 = 128;
/// "Basic data", EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, as it lies on the disk: nobody mounts or boots it by itself.
const BASIC_DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];

/// A disk with room for the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    sectors: u64,
    sector: u64,
    partition_bytes: u64,
}

impl Geometry {
    /// For a disk of `size` bytes in sectors of `sector` bytes; `None` when `content` bytes and the file system around them do not fit.
    pub(super) fn new(size: u64, sector: u64, content: u64) -> Option<Self> {
        // FAT's own tables are far below a sixteenth.
        let partition_bytes = (content + content / 16 + (1 << 20)).next_multiple_of(1 << 20);
        let fits = sector >= 512 && FIRST + partition_bytes + SPARE_BYTES <= size;
        fits.then_some(Self {
            sectors: size / sector,
            sector,
            partition_bytes,
        })
    }

    /// Where the partition lies, in bytes.
    pub(super) fn partition(&self) -> Range<u64> {
        FIRST..FIRST + self.partition_bytes
    }

    /// Bytes of a sector.
    pub(super) fn sector(&self) -> u64 {
        self.sector
    }

    /// Writes the table and its spare. `random` makes the identifiers.
    pub(super) fn write(&self, disk: &mut (impl Write + Seek), random: [u8; 16]) -> io::Result<()> {
        let (head, tail) = self.tables(random);
        disk.seek(SeekFrom::Start(0))?;
        disk.write_all(&head)?;
        disk.seek(SeekFrom::Start(self.sectors * self.sector - tail.len() as u64))?;
        disk.write_all(&tail)
    }

    /// The bytes at the begin and at the end of the disk.
    fn tables(&self, random: [u8; 16]) -> (Vec<u8>, Vec<u8>) {
        let entries = self.entries(random);
        let entry_sectors = entries.len() as u64 / self.sector;
        let last = self.sectors - 1;
        let digest = crc32fast::hash(&entries);
        let header = |own, other, entries_at| self.header(own, other, entries_at, digest, random);
        let head = [self.protective_mbr(), header(1, last, 2), entries.clone()].concat();
        let tail = [entries, header(last, 1, last - entry_sectors)].concat();
        (head, tail)
    }

    fn entries(&self, random: [u8; 16]) -> Vec<u8> {
        let length = u64::from(ENTRY_BYTES * ENTRIES).next_multiple_of(self.sector);
        let mut entries = Vec::new();
        entries.extend(BASIC_DATA);
        entries.extend(guid(random, 2));
        let range = self.partition();
        entries.extend((range.start / self.sector).to_le_bytes());
        entries.extend((range.end / self.sector - 1).to_le_bytes());
        entries.extend(0_u64.to_le_bytes());
        entries.extend("leaseboot staging".encode_utf16().flat_map(u16::to_le_bytes));
        entries.resize(usize::try_from(length).unwrap_or(0), 0);
        entries
    }

    fn header(&self, own: u64, other: u64, entries_at: u64, digest: u32, random: [u8; 16]) -> Vec<u8> {
        let entry_sectors = u64::from(ENTRY_BYTES * ENTRIES).div_ceil(self.sector);
        let mut header = b"EFI PART".to_vec();
        header.extend([0, 0, 1, 0]);
        header.extend(92_u32.to_le_bytes());
        // The header's own checksum, over itself with zeros here.
        header.extend([0; 8]);
        for at in [own, other, 2 + entry_sectors, self.sectors - 2 - entry_sectors] {
            header.extend(at.to_le_bytes());
        }
        header.extend(guid(random, 1));
        header.extend(entries_at.to_le_bytes());
        for number in [ENTRIES, ENTRY_BYTES, digest] {
            header.extend(number.to_le_bytes());
        }
        let checksum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header.resize(usize::try_from(self.sector).unwrap_or(512), 0);
        header
    }

    fn protective_mbr(&self) -> Vec<u8> {
        let mut mbr = vec![0; usize::try_from(self.sector).unwrap_or(512)];
        let covered = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
        mbr[458..462].copy_from_slice(&covered.to_le_bytes());
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        mbr
    }
}

/// A version 4 identifier (RFC 9562, 5.4) in the byte order of the table; `number` tells those of one table apart.
fn guid(mut random: [u8; 16], number: u8) -> [u8; 16] {
    random[0] ^= number;
    random[7] = (random[7] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    random
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
        let mut number = [0; 8];
        number[..length].copy_from_slice(&bytes[at..at + length]);
        u64::from_le_bytes(number)
    }

    /// What UEFI 2.10, 5.3.2, asks of a reader: the header's checksum over itself, that of the entries, and where each copy says that it and the other lie.
    #[test]
    fn both_copies_are_whole_and_name_each_other() {
        let (size, sector) = (64_u64 << 20, 512_usize);
        let geometry = Geometry::new(size, 512, 20 << 20).unwrap();
        let mut disk = io::Cursor::new(vec![0; usize::try_from(size).unwrap()]);
        geometry.write(&mut disk, [0x5a; 16]).unwrap();
        let disk = disk.into_inner();
        let last = size / 512 - 1;
        for (own, other) in [(1, last), (last, 1)] {
            let at = usize::try_from(own).unwrap() * sector;
            let mut header = disk[at..at + 92].to_vec();
            assert_eq!(&header[..8], b"EFI PART");
            assert_eq!((number(&header, 24, 8), number(&header, 32, 8)), (own, other));
            let entries = usize::try_from(number(&header, 72, 8)).unwrap() * sector;
            let entries = &disk[entries..entries + 128 * 128];
            assert_eq!(u64::from(crc32fast::hash(entries)), number(&header, 88, 4));
            assert_eq!(number(entries, 32, 8) * 512, geometry.partition().start);
            assert_eq!((number(entries, 40, 8) + 1) * 512, geometry.partition().end);
            let told = number(&header, 16, 4);
            header[16..20].fill(0);
            assert_eq!(u64::from(crc32fast::hash(&header)), told);
        }
        assert_eq!((disk[450], &disk[510..512]), (0xee, &[0x55, 0xaa][..]));
    }

    #[test]
    fn a_disk_without_room_is_told() {
        assert_eq!(Geometry::new(8 << 20, 512, 20 << 20), None);
        let big_sectors = Geometry::new(64 << 20, 4096, 20 << 20).unwrap();
        let (head, tail) = big_sectors.tables([1; 16]);
        assert_eq!((head.len(), tail.len()), (2 * 4096 + 16384, 4096 + 16384));
    }
}
