//! One cpio archive in the kernel's format ("newc", the kernel's "initramfs buffer format"), read as a stream: headers and names are looked at, contents
//! are skipped, except the few that the visitor asks for. Nothing is written anywhere.
//!
//! Names, numbers of entries and bytes are bounded, so that an archive that unpacks to terabytes of zeros costs no more than its bound.

use std::io::{self, Read};

const HEADER: usize = 110;
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
const TRAILER: &[u8] = b"TRAILER!!!";
/// The kernel's `PATH_MAX`, which it ignores longer names by.
const LONGEST_NAME: usize = 4096;
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// What is left of the bounds of one initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Entries of all archives.
    pub entries: u64,
    /// Unpacked bytes of all archives.
    pub bytes: u64,
}

/// For distributions' images many times over, and for less than a minute of decompression.
impl Default for Budget {
    fn default() -> Self {
        Self {
            entries: 500_000,
            bytes: 8 << 30,
        }
    }
}

/// An archive cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream broke.
    #[error("it cannot be decompressed, or ends before its last entry")]
    Stream(#[source] io::Error),
    /// A header that is none.
    #[error("a header of its cpio archive is broken after entry {after:?}")]
    Header {
        /// The name of the entry before it.
        after: String,
    },
    /// More entries than anybody's image.
    #[error("it has more entries than leaseboot looks at")]
    TooManyEntries,
    /// More bytes than anybody's image.
    #[error("it unpacks to more bytes than leaseboot looks at")]
    TooLarge,
}

/// A file, folder or link of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, without leading slash or dot.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: Kind,
    /// Length of its content in bytes.
    pub(super) size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Symlink,
    Other,
}

/// Who is told of the entries.
pub(super) trait Visitor {
    /// Whether the content is wanted; it is given up to the length that is answered.
    fn wants(&mut self, entry: &Entry) -> Option<u64>;

    /// The content that was asked for.
    fn content(&mut self, entry: &Entry, content: Vec<u8>);
}

/// Reads the archive that begins at `stream`'s present place; gives its number of entries.
pub(super) fn read(
    stream: &mut dyn Read,
    budget: &mut Budget,
    visitor: &mut dyn Visitor,
) -> Result<u64, ArchiveError> {
    let mut entries = 0;
    let mut last = String::new();
    loop {
        let Some((entry, padding)) = head(stream, budget, &last)? else {
            return Ok(entries);
        };
        entries += 1;
        budget.entries = budget
            .entries
            .checked_sub(1)
            .ok_or(ArchiveError::TooManyEntries)?;
        let wanted = visitor.wants(&entry).unwrap_or(0).min(entry.size);
        take(budget, entry.size + padding)?;
        let mut content = Vec::new();
        let copied = stream.take(wanted).read_to_end(&mut content);
        copied.map_err(ArchiveError::Stream)?;
        skip(stream, entry.size - content.len() as u64 + padding)?;
        if wanted > 0 {
            visitor.content(&entry, content);
        }
        last = entry.name;
    }
}

/// The next header with its name, and the padding behind its content; `None` for the trailer.
fn head(
    stream: &mut dyn Read,
    budget: &mut Budget,
    last: &str,
) -> Result<Option<(Entry, u64)>, ArchiveError> {
    let broken = || ArchiveError::Header {
        after: last.to_owned(),
    };
    let mut header = [0; HEADER];
    take(budget, HEADER as u64)?;
    stream.read_exact(&mut header).map_err(ArchiveError::Stream)?;
    if !MAGICS.contains(&&header[..6]) {
        return Err(broken());
    }
    let field = |index: usize| hexadecimal(&header[6 + 8 * index..][..8]).ok_or_else(broken);
    let (mode, size, length) = (field(1)?, field(6)?, field(11)?);
    let length = usize::try_from(length).map_err(|_| broken())?;
    if length == 0 || length > LONGEST_NAME {
        return Err(broken());
    }
    let padded = (HEADER + length).next_multiple_of(4) - HEADER;
    take(budget, padded as u64)?;
    let mut name = vec![0; padded];
    stream.read_exact(&mut name).map_err(ArchiveError::Stream)?;
    name.truncate(length);
    if name.pop() != Some(0) {
        return Err(broken());
    }
    if name == TRAILER {
        return Ok(None);
    }
    let size = u64::from(size);
    let entry = Entry {
        name: plain(&name),
        kind: match mode & FILE_TYPE {
            REGULAR => Kind::File,
            SYMLINK => Kind::Symlink,
            _ => Kind::Other,
        },
        size,
    };
    Ok(Some((entry, size.next_multiple_of(4) - size)))
}

fn take(budget: &mut Budget, bytes: u64) -> Result<(), ArchiveError> {
    budget.bytes = budget.bytes.checked_sub(bytes).ok_or(ArchiveError::TooLarge)?;
    Ok(())
}

fn skip(stream: &mut dyn Read, bytes: u64) -> Result<(), ArchiveError> {
    let skipped = io::copy(&mut stream.take(bytes), &mut io::sink()).map_err(ArchiveError::Stream)?;
    if skipped < bytes {
        return Err(ArchiveError::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Exactly eight hexadecimal digits; `from_str_radix` alone would take a sign.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn plain(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name = name.strip_prefix("./").unwrap_or(&name);
    name.trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::archive::Archive;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Names(Vec<String>, Vec<Vec<u8>>);

    impl Visitor for Names {
        fn wants(&mut self, entry: &Entry) -> Option<u64> {
            self.0.push(entry.name.clone());
            (entry.kind == Kind::File).then_some(3)
        }

        fn content(&mut self, _: &Entry, content: Vec<u8>) {
            self.1.push(content);
        }
    }

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.file("/init", 0o755, *b"#!/bin/sh").unwrap();
        archive.file("/etc/name", 0o644, *b"x").unwrap();
        archive.to_bytes()
    }

    fn names(bytes: &[u8], mut budget: Budget) -> Result<Names, ArchiveError> {
        let mut names = Names::default();
        read(&mut &*bytes, &mut budget, &mut names).map(|_| names)
    }

    #[test]
    fn names_and_the_beginnings_that_were_asked_for() {
        let Names(names, contents) = names(&archive(), Budget::default()).unwrap();
        assert!(
            names.iter().any(|name| name == "init") && names.iter().any(|name| name == "etc/name"),
            "{names:?}"
        );
        assert_eq!(contents.iter().map(Vec::len).max(), Some(3));
    }

    #[test]
    fn what_passes_a_bound_ends_there() {
        let few = Budget {
            entries: 1,
            ..Budget::default()
        };
        assert!(matches!(
            names(&archive(), few),
            Err(ArchiveError::TooManyEntries)
        ));
        let short = Budget {
            bytes: 300,
            ..Budget::default()
        };
        assert!(matches!(names(&archive(), short), Err(ArchiveError::TooLarge)));
        let mut endless = archive();
        endless[6 + 8 * 6..][..8].copy_from_slice(b"ffffffff");
        assert!(matches!(
            names(&endless, Budget::default()),
            Err(ArchiveError::Stream(_))
        ));
    }

    proptest! {
        #[test]
        fn any_change_ends_in_names_or_an_error(changes in prop::collection::vec((0usize..400, any::<u8>()), 0..8), end in 0usize..800) {
            let mut bytes = archive();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(end);
            let _ = names(&bytes, Budget::default());
        }
    }
}
