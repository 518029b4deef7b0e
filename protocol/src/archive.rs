//! Initramfs archives as a pure function of their entries.
//!
//! Three rooms make such archives: the image builder (stage 1), the LM (the site archive of one boot) and the agent (the
//! archive that it appends to the enterprise's initrd). All of them must give the same bytes for the same entries, so the
//! writer lives here: entries sorted by path, owner 0, time 0, inode numbers counted from 1.
//!
//! Format: `newc` of cpio(5), as the kernel reads it (kernel document "initramfs buffer format"). The kernel unpacks
//! concatenated archives one after the other; each must begin on a 4-byte boundary, so the result is padded to
//! [`ALIGNMENT`] bytes, cpio's customary block.

use std::collections::BTreeMap;
use std::io::Write;

/// The length of every archive is a multiple of this, in bytes.
pub const ALIGNMENT: usize = 512;

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory, with its permission bits.
    Directory {
        /// Permission bits, such as `0o755`.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits, such as `0o644`.
        mode: u32,
        /// The whole content.
        content: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link.
        target: String,
    },
    /// A character device node, such as `/dev/console` (5, 1).
    CharDevice {
        /// Permission bits.
        mode: u32,
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
}

/// An archive that is being put together. Parent directories are added by themselves, with mode `0755`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// Why an archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A path is empty, or has a component that is empty, `.` or `..`.
    #[error("cannot put {path:?} into an initramfs archive: not a plain relative path")]
    Path {
        /// The offending path.
        path: String,
    },
    /// A file is larger than the format's 32-bit size field.
    #[error("cannot put {path:?} into an initramfs archive: {size} bytes exceed the format's 4 GiB")]
    TooLarge {
        /// The offending path.
        path: String,
        /// Its size in bytes.
        size: usize,
    },
}

impl Archive {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry at `path` (relative, or with one leading slash), replacing what was there.
    ///
    /// # Errors
    /// [`ArchiveError::Path`] for a path that could leave the archive's root; [`ArchiveError::TooLarge`] over 4 GiB.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), ArchiveError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(ArchiveError::Path {
                path: path.to_owned(),
            });
        }
        if let Entry::File { content, .. } = &entry
            && u32::try_from(content.len()).is_err()
        {
            return Err(ArchiveError::TooLarge {
                path: path.to_owned(),
                size: content.len(),
            });
        }
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Adds a regular file. Errors as in [`Archive::insert`].
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<(), ArchiveError> {
        self.insert(
            path,
            Entry::File {
                mode,
                content: content.into(),
            },
        )
    }

    /// The entries by path, in the order in which they are written.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The archive's bytes, uncompressed, a multiple of [`ALIGNMENT`] long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (inode, (path, entry)) in (1u32..).zip(&self.entries) {
            write_entry(&mut bytes, inode, path, entry);
        }
        // The `cpio` crate writes to any `Write`; a `Vec` never fails.
        cpio::newc::trailer(&mut bytes).expect("writing to memory does not fail");
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }
}

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHAR_DEVICE: u32 = 0o020_000;

fn write_entry(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let header = cpio::newc::Builder::new(path).ino(inode).uid(0).gid(0).mtime(0);
    let (header, content): (_, &[u8]) = match entry {
        Entry::Directory { mode } => (header.mode(TYPE_DIRECTORY | mode).nlink(2), &[]),
        Entry::File { mode, content } => (header.mode(TYPE_FILE | mode).nlink(1), content),
        Entry::Symlink { target } => (header.mode(TYPE_SYMLINK | 0o777).nlink(1), target.as_bytes()),
        Entry::CharDevice { mode, major, minor } => (
            header
                .mode(TYPE_CHAR_DEVICE | mode)
                .nlink(1)
                .rdev_major(*major)
                .rdev_minor(*minor),
            &[],
        ),
    };
    let size = u32::try_from(content.len()).expect("insert refused anything larger");
    let mut writer = header.write(out, size);
    writer
        .write_all(content)
        .expect("writing to memory does not fail");
    writer.finish().expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parents_come_before_children() {
        let mut archive = Archive::new();
        archive.file("a/b/c", 0o644, b"x".to_vec()).unwrap();
        let paths: Vec<_> = archive.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for path in ["", "/", "..", "a/../b", "a//b", "./a", "a/"] {
            assert!(Archive::new().file(path, 0o644, Vec::new()).is_err(), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_whatever_was_put_in(files in prop::collection::btree_map("[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut archive = Archive::new();
            for (path, content) in &files {
                archive.file(path, 0o600, content.clone()).unwrap();
            }
            let bytes = archive.to_bytes();
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            prop_assert_eq!(&bytes, &archive.clone().to_bytes());
            let mut rest = std::io::Cursor::new(bytes);
            let mut found = BTreeMap::new();
            loop {
                let mut reader = cpio::newc::Reader::new(rest).unwrap();
                if reader.entry().is_trailer() { break; }
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
                found.insert(reader.entry().name().to_owned(), content);
                rest = reader.finish().unwrap();
            }
            prop_assert_eq!(found, files);
        }
    }
}
