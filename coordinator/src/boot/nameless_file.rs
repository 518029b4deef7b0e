//! A private copy of a file that has no name: whoever has not got it open cannot open it, so what was checked is what is served.
//!
//! The kernel sends it to a socket by itself (sendfile(2)), so a boot file costs neither a copy for each server that fetches it nor memory of
//! this process. It lies on a disk because the page cache of a disk's file system is read in batches there; from a memfd the kernel takes
//! page by page, which cost a fifth more CPU for each byte.

use nix::sys::sendfile::sendfile;
use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// For temporary files that are large and stay for long (file-hierarchy(7)); `TMPDIR` names another place.
const USUAL_PLACE: &str = "/var/tmp";

/// The file. It is gone with the last who has it open.
#[derive(Debug)]
pub(super) struct NamelessFile {
    file: File,
}

impl NamelessFile {
    /// Where such files lie.
    pub(super) fn place() -> PathBuf {
        env::var_os("TMPDIR").map_or_else(|| USUAL_PLACE.into(), PathBuf::from)
    }

    /// A file with this content.
    ///
    /// # Errors
    /// Those of open(2) with `O_TMPFILE` and of write(2): mostly that there is no room left.
    pub(super) fn with(content: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(Self::place())?;
        file.write_all(content)?;
        Ok(Self { file })
    }

    /// The first `length` bytes.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(super) fn read(&self, length: usize) -> io::Result<Vec<u8>> {
        let mut content = vec![0; length];
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// Has the kernel send a part to a socket, as much as the socket takes now; gives the number of bytes.
    pub(super) fn send(&self, socket: impl AsFd, part: &Range<usize>) -> io::Result<usize> {
        let mut offset = i64::try_from(part.start).map_err(io::Error::other)?;
        Ok(sendfile(socket, &self.file, Some(&mut offset), part.len())?)
    }
}
