//! The file system on the staging partition: FAT, which GRUB reads everywhere, with one folder of three files.

use super::table::Geometry;
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::handover::{STAGED_KERNEL, STAGED_RAMDISK, STAGED_START, StagedFiles, StagingId};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

const PIECE: usize = 1 << 20;
/// FAT's directory entries hold the length in 32 bits.
const LONGEST_FILE: u64 = u32::MAX as u64;

/// What goes on the partition.
pub(super) struct Content {
    pub(super) id: StagingId,
    pub(super) kernel: File,
    pub(super) ramdisk: File,
    pub(super) start: String,
}

/// Makes the file system and fills it; counts the bytes that were written.
pub(super) fn write(
    disk: &File,
    geometry: &Geometry,
    random: [u8; 16],
    content: Content,
    written: &AtomicU64,
) -> io::Result<StagedFiles> {
    let mut slice = Slice {
        disk,
        range: geometry.partition(),
        at: 0,
    };
    let sector = u16::try_from(geometry.sector()).map_err(io::Error::other)?;
    let volume = u32::from_le_bytes([random[0], random[1], random[2], random[3]]);
    let options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(sector)
        .volume_id(volume)
        .volume_label(*b"LEASEBOOT  ");
    fatfs::format_volume(&mut slice, options)?;
    let system = fatfs::FileSystem::new(slice, fatfs::FsOptions::new())?;
    let folder = system.root_dir().create_dir(content.id.as_str())?;
    let copy = |name: &str, from: &File| -> io::Result<Sha256> {
        let length = from.metadata()?.len();
        if length > LONGEST_FILE {
            return Err(io::Error::other(format!(
                "{name} has {length} bytes, too many for FAT"
            )));
        }
        let mut to = folder.create_file(name)?;
        let (mut at, mut hasher, mut piece) = (0, Hasher::new(), vec![0; PIECE]);
        while at < length {
            let read = from.read_at(&mut piece, at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&piece[..read])?;
            hasher.update(&piece[..read]);
            at += read as u64;
            written.fetch_add(read as u64, Ordering::Relaxed);
        }
        to.flush()?;
        Ok(hasher.finish())
    };
    let kernel = copy(STAGED_KERNEL, &content.kernel)?;
    let ramdisk = copy(STAGED_RAMDISK, &content.ramdisk)?;
    let mut start = folder.create_file(STAGED_START)?;
    start.write_all(content.start.as_bytes())?;
    start.flush()?;
    drop((start, folder));
    system.unmount()?;
    Ok(StagedFiles {
        id: content.id,
        kernel,
        ramdisk,
        start: Sha256::of(content.start.as_bytes()),
    })
}

/// The partition as a file of its own.
struct Slice<'a> {
    disk: &'a File,
    range: Range<u64>,
    at: u64,
}

impl Slice<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// How much of `wanted` bytes lies inside.
    fn within(&self, wanted: usize) -> usize {
        let left = self.length().saturating_sub(self.at);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.within(buffer.len());
        let read = self
            .disk
            .read_at(&mut buffer[..length], self.range.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Slice<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.within(bytes.len());
        let written = self.disk.write_at(&bytes[..length], self.range.start + self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Slice<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn what_is_staged_reads_back_and_has_the_digests_that_are_told() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(96 << 20).unwrap();
        let kernel: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let geometry = Geometry::new(96 << 20, 512, 40 << 20).unwrap();
        let content = Content {
            id: StagingId::from_random([9; 16]),
            kernel: file(&kernel),
            ramdisk: file(b"ramdisk"),
            start: "boot\n".to_owned(),
        };
        let written = AtomicU64::new(0);
        let staged = write(&disk, &geometry, [9; 16], content, &written).unwrap();
        assert_eq!(staged.kernel, Sha256::of(&kernel));
        assert_eq!(written.into_inner(), kernel.len() as u64 + 7);
        let slice = Slice {
            disk: &disk,
            range: geometry.partition(),
            at: 0,
        };
        let system = fatfs::FileSystem::new(slice, fatfs::FsOptions::new()).unwrap();
        let folder = system.root_dir().open_dir(staged.id.as_str()).unwrap();
        for (name, digest) in [
            (STAGED_KERNEL, staged.kernel),
            (STAGED_RAMDISK, staged.ramdisk),
            (STAGED_START, staged.start),
        ] {
            let mut content = Vec::new();
            folder.open_file(name).unwrap().read_to_end(&mut content).unwrap();
            assert_eq!(Sha256::of(&content), digest, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_partition() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(96 << 20).unwrap();
        let geometry = Geometry::new(96 << 20, 512, 8 << 20).unwrap();
        let content = Content {
            id: StagingId::from_random([9; 16]),
            kernel: file(&vec![1; 30 << 20]),
            ramdisk: file(b""),
            start: String::new(),
        };
        let full = write(&disk, &geometry, [9; 16], content, &AtomicU64::new(0));
        assert!(full.is_err(), "it does not fit");
        let mut behind = vec![0; 1 << 20];
        disk.read_at(&mut behind, geometry.partition().end).unwrap();
        assert!(behind.iter().all(|byte| *byte == 0));
    }
}
