//! A TUN device (kernel document networking/tuntap): IP packets in and out of file descriptors, its queues.
//!
//! Where the kernel can, each packet has a header that says what is left to be done with it ([`crate::offload`]), so that one call carries many segments of TCP. An older
//! kernel, or one that is built without, gives and takes plain packets.
#![allow(unsafe_code)]

use crate::offload::{HEADER_LENGTH, Offload};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

const PATH: &str = "/dev/net/tun";
/// The longest packet, with its header.
pub(crate) const LONGEST: usize = 65_535 + HEADER_LENGTH;

// These three are declared as taking an int: the first takes a pointer to an ifreq, the second a number, the third a pointer to a number.
nix::ioctl_write_int!(tun_set_interface, b'T', 202);
nix::ioctl_write_int!(tun_set_offload, b'T', 208);
nix::ioctl_write_int!(tun_set_header_size, b'T', 216);

/// What the device may leave to us: checksums, and segments of TCP over IPv4 and IPv6.
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

/// One queue of a TUN device. The device vanishes with its last queue.
#[derive(Debug)]
pub(crate) struct Queue {
    file: File,
    has_headers: bool,
}

/// Creates the device `name` (at most 15 bytes) with so many queues, and with headers if that is wanted and can be had.
pub(crate) fn create(name: &str, queues: usize, with_headers: bool) -> io::Result<Vec<Queue>> {
    let first = match open(name, queues > 1, with_headers) {
        Err(error) if with_headers && error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::info!(name, "this kernel's TUN devices have no offloads");
            open(name, queues > 1, false)
        }
        result => result,
    }?;
    let has_headers = first.has_headers;
    let mut all = vec![first];
    while all.len() < queues {
        all.push(open(name, true, has_headers)?);
    }
    Ok(all)
}

fn open(name: &str, is_one_of_many: bool, has_headers: bool) -> io::Result<Queue> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(PATH)?;
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an interface name has 1 to 15 bytes",
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        // Signed on x86, unsigned on ARM.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if is_one_of_many {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    if has_headers {
        flags |= libc::IFF_VNET_HDR;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the flags are 16 bits")]
    let flags = flags as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the descriptor is open and the pointer is to a live ifreq for the duration of the call.
    unsafe { tun_set_interface(file.as_raw_fd(), (&raw mut request) as libc::c_ulong) }?;
    if has_headers {
        ask_for_offloads(&file)?;
    }
    Ok(Queue { file, has_headers })
}

fn ask_for_offloads(file: &File) -> io::Result<()> {
    let size = libc::c_int::try_from(HEADER_LENGTH).unwrap_or(0);
    // SAFETY: the descriptor is open and the pointer is to a live number for the duration of the call.
    unsafe { tun_set_header_size(file.as_raw_fd(), (&raw const size) as libc::c_ulong) }?;
    // SAFETY: the descriptor is open; the argument is a plain number.
    let offloads = unsafe { tun_set_offload(file.as_raw_fd(), libc::c_ulong::from(OFFLOADS)) };
    if let Err(error) = offloads {
        // The headers stay, and say that nothing is left to be done.
        tracing::info!(%error, "this kernel's TUN devices do all work themselves");
    }
    Ok(())
}

impl Queue {
    /// Whether packets may be joined.
    pub(crate) fn has_headers(&self) -> bool {
        self.has_headers
    }

    /// Reads one packet into `buffer` and tells where in it the packet lies and what is left to be done; `None` when none waits.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(&'a mut [u8], Offload)>> {
        let length = match (&self.file).read(buffer) {
            Ok(length) => length,
            Err(error) if is_passing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = &mut buffer[..length];
        if !self.has_headers {
            return Ok(Some((read, Offload::Whole)));
        }
        let unknown = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet with an offload that nobody asked for",
            )
        };
        let (header, packet) = read.split_first_chunk_mut().ok_or_else(unknown)?;
        let offload = Offload::read(header).ok_or_else(unknown)?;
        Ok(Some((packet, offload)))
    }

    /// Writes one packet that lies in pieces, with what its header shall say (which only a queue with headers can).
    pub(crate) fn write<'a>(
        &self,
        header: &'a [u8; HEADER_LENGTH],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let header = self.has_headers.then_some(&header[..]);
        let all: Vec<_> = header.into_iter().chain(pieces).map(IoSlice::new).collect();
        (&self.file).write_vectored(&all).map(drop)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
