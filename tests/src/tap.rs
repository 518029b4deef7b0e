//! A TAP device (kernel document networking/tuntap): Ethernet frames in and out of a file descriptor.
#![allow(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use tokio::io::unix::AsyncFd;

const PATH: &str = "/dev/net/tun";

// Declared as taking an int; it takes a pointer to an ifreq.
nix::ioctl_write_int!(tun_set_interface, b'T', 202);

/// The end of a TAP device that a program holds.
#[derive(Debug)]
pub(crate) struct Tap {
    file: AsyncFd<File>,
}

impl Tap {
    /// Takes the device of this name, which is in the network namespace of the calling thread.
    pub(crate) fn attach(name: &str) -> Result<Self> {
        let failed = || format!("cannot take the TAP device {name}");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(PATH)
            .with_context(failed)?;
        // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        ensure!(
            name.len() < request.ifr_name.len(),
            "{name} is too long for an interface"
        );
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        #[expect(clippy::cast_possible_truncation, reason = "the flags are 16 bits")]
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        request.ifr_ifru.ifru_flags = flags;
        // SAFETY: the descriptor is open and the pointer is to a live ifreq for the duration of the call.
        unsafe { tun_set_interface(file.as_raw_fd(), (&raw mut request) as libc::c_ulong) }
            .with_context(failed)?;
        // SAFETY: a `File` gives the same open descriptor for as long as it lives.
        let file = unsafe { AsyncFd::register(file) }.with_context(failed)?;
        Ok(Self { file })
    }

    /// The next frame that the kernel sends; cancel-safe.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.file.readable().await?;
            if let Ok(read) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return read;
            }
        }
    }

    /// Gives the kernel a frame, or drops it where there is no room, as a wire would.
    pub(crate) fn send(&self, frame: &[u8]) {
        drop(self.file.get_ref().write(frame));
    }
}
