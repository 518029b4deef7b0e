//! A TUN device (kernel document networking/tuntap): IP packets in and out of a file descriptor, without headers.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use tokio::io::unix::AsyncFd;

const PATH: &str = "/dev/net/tun";

nix::ioctl_write_int!(tun_set_interface, b'T', 202);

/// A TUN device that vanishes with this value.
pub(crate) struct Device {
    file: AsyncFd<File>,
}

impl Device {
    /// Creates the device `name` (at most 15 bytes). The calling thread must be inside a tokio runtime.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
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
            *to = from.cast_signed();
        }
        #[allow(clippy::cast_possible_truncation)]
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        request.ifr_ifru.ifru_flags = flags;
        // TUNSETIFF is declared as taking an int and takes a pointer to an ifreq.
        // SAFETY: the descriptor is open and the pointer is to a live ifreq for the duration of the call.
        unsafe { tun_set_interface(file.as_raw_fd(), (&raw mut request) as libc::c_ulong) }?;
        Ok(Self {
            // SAFETY: the descriptor belongs to `file`, which the AsyncFd owns and closes only after it has deregistered.
            file: unsafe { AsyncFd::register(file) }?,
        })
    }

    /// Reads one packet into `buffer`. Cancel safe: a packet is either read or stays in the queue.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file
            .async_io(tokio::io::Interest::READABLE, |mut file| file.read(buffer))
            .await
    }

    /// Writes one packet. Cancel safe: a packet is written whole or not at all.
    pub(crate) async fn write(&self, packet: &[u8]) -> io::Result<usize> {
        self.file
            .async_io(tokio::io::Interest::WRITABLE, |mut file| file.write(packet))
            .await
    }
}
