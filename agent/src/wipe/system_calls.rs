//! The ioctls of wipe mode, and nothing that decides anything.
//!
//! Request numbers and structures are from the kernel's headers linux/fs.h, linux/nvme_ioctl.h and scsi/sg.h.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

const BLKRRPART: u32 = 0x125f;
const BLKDISCARD: u32 = 0x1277;
const BLKSECDISCARD: u32 = 0x127d;
const BLKZEROOUT: u32 = 0x127f;
const SG_IO: u32 = 0x2285;
/// `_IOWR('N', 0x41, struct nvme_passthru_cmd)`
const NVME_IOCTL_ADMIN_CMD: u32 = 0xc048_4e41;
/// `_IOR('f', 1, long)` and `_IOW('f', 2, long)` on 64 bits. The kernel reads and writes an `int` all the same (ioctl_iflags(2)).
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IMMUTABLE_FL: libc::c_int = 0x10;

/// What happens to a range of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeCall {
    /// Its content is no longer needed.
    Discard,
    /// The same, and copies that the device made are erased too.
    SecureDiscard,
    /// It becomes zeros, by the device's own means or by writing them.
    ZeroOut,
}

/// Discards or zeroes a range of bytes, whole sectors. Blocks until it is done.
pub(super) fn on_range(disk: &File, call: RangeCall, range: &Range<u64>) -> io::Result<()> {
    let request = match call {
        RangeCall::Discard => BLKDISCARD,
        RangeCall::SecureDiscard => BLKSECDISCARD,
        RangeCall::ZeroOut => BLKZEROOUT,
    };
    let argument = [range.start, range.end - range.start];
    // SAFETY: the kernel reads two u64 at the pointer, begin and length; the array lives until the call is over.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), request as libc::Ioctl, argument.as_ptr()) };
    outcome(result).map(drop)
}

/// Lets the kernel look for partitions anew.
pub(crate) fn reread_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART as libc::Ioctl) };
    outcome(result).map(drop)
}

/// An admin command for an NVMe controller, as far as wipe mode needs one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NvmeCommand {
    /// The command.
    pub(super) opcode: u8,
    /// The namespace.
    pub(super) namespace: u32,
    /// Command dword 10.
    pub(super) dword10: u32,
    /// Command dword 11.
    pub(super) dword11: u32,
    /// How long the kernel waits for it.
    pub(super) patience: Duration,
}

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmePassthrough {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    dwords2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    dwords10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(
    size_of::<NvmePassthrough>() == 72,
    "the size is part of the request number"
);

/// Sends an admin command to the controller of this namespace; `data` is what the controller writes. Gives the status, 0 for success
/// (NVM Express Base Specification 2.0, "Status Field").
pub(super) fn nvme_admin(disk: &File, command: &NvmeCommand, data: &mut [u8]) -> io::Result<u16> {
    let mut passthrough = NvmePassthrough {
        opcode: command.opcode,
        namespace: command.namespace,
        address: data.as_mut_ptr().expose_provenance() as u64,
        data_length: u32::try_from(data.len()).map_err(io::Error::other)?,
        dwords10_15: [command.dword10, command.dword11, 0, 0, 0, 0],
        timeout_ms: milliseconds(command.patience),
        ..NvmePassthrough::default()
    };
    // SAFETY: the pointer is to a whole `struct nvme_passthru_cmd`, whose size the request number holds. The kernel writes at most
    // `data_length` bytes at `address`, which is `data`, borrowed exclusively until the call is over.
    let result = unsafe {
        libc::ioctl(
            disk.as_raw_fd(),
            NVME_IOCTL_ADMIN_CMD as libc::Ioctl,
            &raw mut passthrough,
        )
    };
    outcome(result).map(|status| u16::try_from(status & 0x7fff).unwrap_or(u16::MAX))
}

/// What goes along with a SCSI command.
pub(super) enum Transfer<'a> {
    /// Nothing.
    None,
    /// The disk writes here.
    In(&'a mut [u8]),
    /// The disk reads this.
    Out(&'a mut [u8]),
}

/// How a SCSI command ended.
#[derive(Debug)]
pub(super) struct ScsiEnd {
    /// SCSI status; 2 is CHECK CONDITION.
    pub(super) status: u8,
    /// What the controller's driver says; 0 is good.
    pub(super) host_status: u16,
    /// Sense data.
    pub(super) sense: Vec<u8>,
}

/// `struct sg_io_hdr`.
#[repr(C)]
struct SgIo {
    interface: libc::c_int,
    direction: libc::c_int,
    command_length: u8,
    sense_room: u8,
    vectors: u16,
    data_length: u32,
    data: *mut u8,
    command: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack: libc::c_int,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_length: u8,
    host_status: u16,
    driver_status: u16,
    residual: libc::c_int,
    duration: u32,
    info: u32,
}

/// Sends a SCSI command of 16 bytes, and waits for it.
pub(super) fn scsi(
    disk: &File,
    command: &[u8; 16],
    transfer: Transfer<'_>,
    patience: Duration,
) -> io::Result<ScsiEnd> {
    let (direction, data) = match transfer {
        Transfer::None => (-1, &mut [][..]),
        Transfer::Out(data) => (-2, data),
        Transfer::In(data) => (-3, data),
    };
    let mut sense = [0_u8; 64];
    let mut request = SgIo {
        interface: libc::c_int::from(b'S'),
        direction,
        command_length: 16,
        sense_room: 64,
        vectors: 0,
        data_length: u32::try_from(data.len()).map_err(io::Error::other)?,
        data: data.as_mut_ptr(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: milliseconds(patience),
        flags: 0,
        pack: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_length: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the pointer is to a whole `struct sg_io_hdr`. Command, data and sense are described with their true lengths and live
    // until the call is over; the kernel writes only to `data`, when the direction is from the device, and to `sense`.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), SG_IO as libc::Ioctl, &raw mut request) };
    outcome(result)?;
    Ok(ScsiEnd {
        status: request.status,
        host_status: request.host_status,
        sense: sense[..usize::from(request.sense_length).min(sense.len())].to_vec(),
    })
}

/// Takes the immutable flag from a file; efivarfs sets it on variables that it does not know (kernel document filesystems/efivarfs).
pub(super) fn clear_immutable(file: &File) -> io::Result<()> {
    // The request's name says `long`: the room is one, and the kernel uses its first four bytes.
    let mut flags: [libc::c_int; 2] = [0; 2];
    // SAFETY: the kernel writes an `int` at the pointer, which has room for a `long`.
    let result = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            FS_IOC_GETFLAGS as libc::Ioctl,
            flags.as_mut_ptr(),
        )
    };
    outcome(result)?;
    if flags[0] & FS_IMMUTABLE_FL == 0 {
        return Ok(());
    }
    flags[0] &= !FS_IMMUTABLE_FL;
    // SAFETY: the kernel reads an `int` at the pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS as libc::Ioctl, flags.as_ptr()) };
    outcome(result).map(drop)
}

fn outcome(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn milliseconds(patience: Duration) -> u32 {
    u32::try_from(patience.as_millis()).unwrap_or(u32::MAX)
}
