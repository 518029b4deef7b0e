//! The image's root file system: which partition it is on, mounted for as long as the member is left in it.
//!
//! The partition table is not on the disk yet, so the kernel is shown the partitions one by one. Whether a file system is the root is seen by looking: types in
//! tables are left at their default by too many makers of images.

use super::system_calls;
use super::target::Target;
use crate::console::say;
use crate::drivers::{DriverError, Drivers};
use leaseboot_protocol::disk_image::HEAD;
use leaseboot_protocol::gpt::Partition;
use nix::mount::{MsFlags, mount as mount_call, umount};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where it is mounted.
const PLACE: &str = "/leaseboot/image-root";
/// Nothing on it is run, and none of its devices or privileges exist here.
const FLAGS: MsFlags = MsFlags::from_bits_truncate(
    MsFlags::MS_NOSUID.bits()
        | MsFlags::MS_NODEV.bits()
        | MsFlags::MS_NOEXEC.bits()
        | MsFlags::MS_NOATIME.bits(),
);
/// Signatures of what partitions hold: byte, bytes, name.
const KINDS: [(u64, &[u8], &str); 6] = [
    (1024 + 56, &[0x53, 0xef], "ext4"),
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (512, b"LABELONE", "LVM"),
    (82, b"FAT32", "FAT"),
];
/// What both need for their checksums; the kernel would ask modprobe, which stage 1 has not.
const CHECKSUMS: &str = "crc32c_generic";
/// Those that stage 1 has drivers for.
const MOUNTABLE: [&str; 2] = ["ext4", "xfs"];

/// There is no root file system to leave the member in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// None of the partitions is one.
    #[error(
        "no partition of the disk image holds an installed system on ext4 or xfs (its partitions: {found}); the member cannot be left in it, and the disk was not made bootable"
    )]
    None {
        /// What there is.
        found: String,
    },
    /// The kernel does not take the partition.
    #[error("cannot show partition {number} of the disk image to the kernel")]
    Show {
        /// Its number.
        number: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be mounted.
    #[error(
        "cannot mount partition {number} of the disk image, which holds {kind}: the file system may be newer than stage 1's kernel"
    )]
    Mount {
        /// Its number.
        number: u32,
        /// What is on it.
        kind: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be unmounted.
    #[error("cannot unmount the disk image's root")]
    Unmount(#[source] io::Error),
    /// No driver.
    #[error("stage 1 has no driver for the disk image's root")]
    Driver(#[from] DriverError),
}

/// The mounted root; it is unmounted when dropped, but only [`Root::unmount`] tells whether that went well.
pub(crate) struct Root {
    mounted: bool,
}

/// Mounts the root among `partitions`; when it is the last one, `last`, and ext4, it also takes the room that was gained.
pub(super) fn mount(target: &Target, partitions: &[Partition], last: u32) -> Result<Root, RootError> {
    // Refused when there was never a table: there is nothing to forget then.
    let _ = system_calls::forget_partitions(target.disk());
    fs::create_dir_all(PLACE).map_err(RootError::Unmount)?;
    let mut drivers = Drivers::open()?;
    let mut by_size = partitions.to_vec();
    by_size.sort_by_key(|partition| std::cmp::Reverse(partition.last - partition.first));
    let mut found = Vec::new();
    for partition in by_size {
        let kind = kind(target.disk(), &partition);
        found.push(format!("{}: {}", partition.number, kind.unwrap_or("unknown")));
        let Some(kind) =
            kind.filter(|kind| MOUNTABLE.contains(kind) && partition.bytes().start >= HEAD as u64)
        else {
            continue;
        };
        drivers.load(CHECKSUMS)?;
        drivers.load(kind)?;
        let root = mount_one(target, &partition, kind)?;
        if is_system(Path::new(PLACE)) {
            say!("disk image: the root is partition {}, {kind}", partition.number);
            if kind == "ext4" && partition.number == last {
                grow(&partition);
            }
            return Ok(root);
        }
        root.unmount()?;
    }
    found.sort();
    Err(RootError::None {
        found: found.join(", "),
    })
}

fn mount_one(target: &Target, partition: &Partition, kind: &'static str) -> Result<Root, RootError> {
    let number = partition.number;
    let shown = system_calls::show_partition(target.disk(), number, &partition.bytes());
    shown.map_err(|source| RootError::Show { number, source })?;
    let mounted = mount_call(
        Some(&target.partition(number)),
        PLACE,
        Some(kind),
        FLAGS,
        None::<&str>,
    );
    mounted.map_err(|error| RootError::Mount {
        number,
        kind,
        source: error.into(),
    })?;
    Ok(Root { mounted: true })
}

/// An installed system has an `/etc`, and says which system it is (os-release(5)). Links are not followed: they would lead into stage 1.
fn is_system(root: &Path) -> bool {
    let there = |path: &str| root.join(path).symlink_metadata().is_ok();
    root.join("etc").symlink_metadata().is_ok_and(|etc| etc.is_dir())
        && (there("etc/os-release") || there("usr/lib/os-release"))
}

/// The file system is usable without it, and cloud-init tries again at its first boot.
fn grow(partition: &Partition) {
    let grown = || -> io::Result<u64> {
        let block = nix::sys::statvfs::statvfs(PLACE)?.fragment_size();
        let bytes = partition.bytes();
        system_calls::grow_ext4(&File::open(PLACE)?, (bytes.end - bytes.start) / block.max(1))?;
        Ok(bytes.end - bytes.start)
    };
    match grown() {
        Ok(bytes) => say!("disk image: the root has grown to {bytes} bytes"),
        Err(error) => say!("disk image: the root has not grown ({error}); its own first boot may do it"),
    }
}

/// What is on a partition, by its signature.
fn kind(disk: &File, partition: &Partition) -> Option<&'static str> {
    let begin = partition.bytes().start;
    let found = KINDS.iter().find(|(at, signature, _)| {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..signature.len()];
        disk.read_exact_at(bytes, begin + at).is_ok() && bytes == *signature
    });
    found.map(|(_, _, name)| *name)
}

impl Root {
    /// Where it is.
    pub(crate) fn path(&self) -> &'static Path {
        Path::new(PLACE)
    }

    /// Brings all to the disk.
    pub(crate) fn unmount(mut self) -> Result<(), RootError> {
        self.mounted = false;
        umount(PLACE).map_err(|error| RootError::Unmount(error.into()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = umount(PLACE)
        {
            say!("disk image: its root stays mounted: {error}");
        }
    }
}
