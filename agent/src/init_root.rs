//! The file system in which PID 1 lives now.
//!
//! The wrapper's child keeps the root of the first initramfs, which a change of root empties, and `/proc` is the installer's to mount. `/proc/1/root` leads to wherever the installer lives; the
//! descriptor of `/proc/1` is opened while the wrapper has `/proc` mounted, and stays good after that.

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// PID 1's root directory.
pub(crate) struct InitRoot {
    process: File,
}

/// The end of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The whole file's length in bytes.
    pub(crate) length: u64,
    /// Its last bytes, as text.
    pub(crate) text: String,
}

impl InitRoot {
    /// Must be called while `/proc` is mounted.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            process: File::open("/proc/1")?,
        })
    }

    #[cfg(test)]
    pub(crate) fn of_this_process() -> Self {
        Self {
            process: File::open("/proc/self").unwrap(),
        }
    }

    /// The first `most` bytes of a file; empty when there is none that can be read.
    pub(crate) fn read(&self, path: &str, most: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = self.file(path) {
            // What cannot be read is as if it were not there.
            let _ = file.take(most).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last `most` bytes of a regular file.
    pub(crate) fn tail(&self, path: &str, most: u64) -> Option<Tail> {
        let mut file = self.file(path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() {
            return None;
        }
        let length = metadata.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most))).ok()?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).ok()?;
        Some(Tail {
            length,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    fn file(&self, path: &str) -> io::Result<File> {
        let inside = format!("root/{}", path.trim_start_matches('/'));
        // A pipe in a log's place must not hold us.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(File::from(openat(
            &self.process,
            inside.as_str(),
            flags,
            Mode::empty(),
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_read_by_its_process() {
        let root = InitRoot::of_this_process();
        assert!(root.read("/etc/passwd", 1 << 16).contains("root"));
        assert_eq!(root.read("/etc/there-is-no-such-file", 9), "");
        assert_eq!(root.tail("/etc", 9), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let tail = root.tail(path.to_str().unwrap(), 6).unwrap();
        assert_eq!((tail.length, tail.text.as_str()), (14, "three\n"));
    }
}
