//! A file in memory that nobody can change any more: memfd_create(2) with all seals.
//!
//! The kernel sends it to a socket by itself (sendfile(2)), so a boot file costs neither a copy for each server that fetches it nor memory of this process.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd;

/// The sealed file.
#[derive(Debug)]
pub(super) struct MemoryFile {
    file: File,
}

impl MemoryFile {
    /// A file with this content.
    ///
    /// # Errors
    /// Those of memfd_create(2), write(2) and fcntl(2): mostly that there is no memory left.
    pub(super) fn with(content: &[u8]) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create("leaseboot boot file", flags)?);
        file.write_all(content)?;
        let seals =
            SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self { file })
    }

    /// Has the kernel send a part to a socket, as much as the socket takes now; gives the number of bytes.
    pub(super) fn send(&self, socket: impl AsFd, part: &Range<usize>) -> io::Result<usize> {
        let mut offset = i64::try_from(part.start).map_err(io::Error::other)?;
        Ok(sendfile(socket, &self.file, Some(&mut offset), part.len())?)
    }
}
