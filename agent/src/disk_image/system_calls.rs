//! The ioctls of an image that was written, and nothing that decides anything.
//!
//! Request numbers and structures are from the kernel's headers linux/blkpg.h, linux/fs.h and fs/ext4/ext4.h.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

const BLKRRPART: u32 = 0x125f;
const BLKPG: u32 = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;
/// `_IOW('f', 16, __u64)`
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const BlkpgPartition,
}

const _: () = assert!(size_of::<BlkpgPartition>() == 152 && size_of::<BlkpgArgument>() == 24);

/// Lets the kernel forget the partitions that it knew of a disk which has no table any more.
pub(super) fn forget_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    outcome(unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART as libc::Ioctl) })
}

/// Shows the kernel a partition that is in no table: `bytes` are where it lies, whole sectors.
pub(super) fn show_partition(disk: &File, number: u32, bytes: &Range<u64>) -> io::Result<()> {
    let number_of = |value: u64| i64::try_from(value).map_err(io::Error::other);
    let partition = BlkpgPartition {
        start: number_of(bytes.start)?,
        length: number_of(bytes.end - bytes.start)?,
        number: i32::try_from(number).map_err(io::Error::other)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation: BLKPG_ADD_PARTITION,
        flags: 0,
        length: size_of::<BlkpgPartition>() as i32,
        data: &raw const partition,
    };
    // SAFETY: the kernel reads one `struct blkpg_ioctl_arg` and the `struct blkpg_partition` that it points to; both live until the call is over.
    outcome(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as libc::Ioctl, &raw const argument) })
}

/// Grows a mounted ext4 to so many of its blocks. `folder` is any open file or folder in it.
pub(super) fn grow_ext4(folder: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one u64 at the pointer.
    outcome(unsafe {
        libc::ioctl(
            folder.as_raw_fd(),
            EXT4_IOC_RESIZE_FS as libc::Ioctl,
            &raw const blocks,
        )
    })
}

fn outcome(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
