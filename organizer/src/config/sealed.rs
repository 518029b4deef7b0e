//! Values that the lender must not see. They lie in files of their own, are read when a server asks for them, and are never kept.

use leaseboot_protocol::secret::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LONGEST: u64 = 64 << 10;
const OTHERS: u32 = 0o077;

/// A sealed value or a private key cannot be used. The content is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: put it there with mode 0600", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not for its owner alone.
    #[error("{} has mode {mode:04o}, so others than its owner may read the secret: chmod 600 it, and change the secret if somebody may have seen it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too long.
    #[error("{} is longer than {LONGEST} bytes; is it the right file?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The value has several lines.
    #[error("{} has more than one line; a sealed value stands inside one line of the kickstart", path.display())]
    SeveralLines {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is in it.
    #[error("{} is empty; write the value into it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a value of one line; a line break at its end is not part of it.
///
/// # Errors
/// [`SealedError`].
pub fn read_sealed(path: &Path) -> Result<Secret, SealedError> {
    let owned = || path.to_owned();
    let failed = |source| SealedError::Read {
        path: owned(),
        source,
    };
    let file = open_private(path)?;
    let mut text = String::new();
    let read = file.take(LONGEST + 1).read_to_string(&mut text);
    // Into custody before anything else can fail: it is wiped from here on.
    let text = Secret::new(text);
    read.map_err(failed)?;
    let value = text.expose().trim_end_matches(['\n', '\r']);
    if text.expose().len() as u64 > LONGEST {
        Err(SealedError::TooLong { path: owned() })
    } else if value.is_empty() {
        Err(SealedError::Empty { path: owned() })
    } else if value.contains(['\n', '\r']) {
        Err(SealedError::SeveralLines { path: owned() })
    } else {
        Ok(Secret::new(value))
    }
}

/// Refuses a file that others than its owner may read or write.
///
/// # Errors
/// [`SealedError::Read`] and [`SealedError::Exposed`].
pub fn demand_private(path: &Path) -> Result<(), SealedError> {
    open_private(path).map(|_| ())
}

fn open_private(path: &Path) -> Result<File, SealedError> {
    let failed = |source| SealedError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let kind = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(failed(kind));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS == 0 {
        Ok(file)
    } else {
        Err(SealedError::Exposed {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn file(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn refusal(content: &str, mode: u32) -> String {
        let (_folder, path) = file(content, mode);
        read_sealed(&path).err().unwrap().to_string()
    }

    #[test]
    fn one_line_for_its_owner_alone() {
        let (_folder, path) = file("$6$salt$hash\n", 0o600);
        assert_eq!(read_sealed(&path).ok().unwrap().expose(), "$6$salt$hash");
    }

    #[test]
    fn anything_else_is_refused_without_showing_it() {
        for (content, mode, word) in [
            ("hunter2", 0o640, "chmod 600"),
            ("hunter2", 0o604, "chmod 600"),
            ("hunter2\nreboot\n", 0o600, "more than one line"),
            ("\n", 0o600, "is empty"),
        ] {
            let refusal = refusal(content, mode);
            assert!(refusal.contains(word), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
