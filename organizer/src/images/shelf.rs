//! The folder `images/`: what is in it, who may change it now, and how an image leaves it.

use super::FileError;
use super::record::{Record, VerifyError};
use crate::config::Image;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

const LOCK: &str = ".lock";
pub(super) const COMING: &str = ".new";
const LEAVING: &str = ".old";

/// An image cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none.
    #[error("there is no image {name:?}; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Somebody needs it.
    #[error(
        "image {name:?} is used by {users}; give the servers back first, or borrow them with another image"
    )]
    Used {
        /// The name.
        name: String,
        /// The borrowings.
        users: String,
    },
    /// The folder cannot be changed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whether this can be an image's name: a folder's name that is not hidden.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// The names of all images, in order.
///
/// # Errors
/// [`FileError`].
pub fn names(images: &Path) -> Result<Vec<String>, FileError> {
    let failed = || FileError::of("list", images);
    let entries = match fs::read_dir(images) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed())?.file_name();
        let name = name.to_string_lossy();
        if is_name(&name) && images.join(&*name).is_dir() {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// An image with what is known of it.
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its configuration, or why it cannot be used.
    pub image: Result<Image, crate::config::ConfigError>,
    /// What was found out when it was added; absent for one that was made by hand.
    pub record: Result<Option<Record>, VerifyError>,
}

/// All images, in the order of their names.
///
/// # Errors
/// [`FileError`].
pub fn list(images: &Path) -> Result<Vec<Listed>, FileError> {
    let listed = |name: String| {
        let folder = images.join(&name);
        Listed {
            image: Image::load(&folder),
            record: Record::read(&folder),
            name,
        }
    };
    Ok(names(images)?.into_iter().map(listed).collect())
}

/// Removes an image that none of `users` needs: it is gone at once, and its bytes after that.
///
/// # Errors
/// [`RemoveError`].
pub fn remove(images: &Path, name: &str, users: &[String]) -> Result<(), RemoveError> {
    let folder = images.join(name);
    if !is_name(name) || !folder.is_dir() {
        let known = names(images)?;
        return Err(RemoveError::Unknown {
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        });
    }
    if !users.is_empty() {
        return Err(RemoveError::Used {
            name: name.to_owned(),
            users: users.join(", "),
        });
    }
    let _lock = lock(images)?;
    let leaving = images.join(format!(".{name}{LEAVING}"));
    fs::rename(&folder, &leaving).map_err(FileError::of("remove", &folder))?;
    sync(images)?;
    fs::remove_dir_all(&leaving).map_err(FileError::of("remove", &leaving))?;
    Ok(())
}

/// Waits until nobody else changes the folder, and takes away what a killed program left half done.
pub(super) fn lock(images: &Path) -> Result<Flock<File>, FileError> {
    let path = images.join(LOCK);
    let failed = FileError::of("lock", &path);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let lock =
        file.and_then(|file| Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into()));
    let lock = lock.map_err(failed)?;
    let entries = fs::read_dir(images).map_err(FileError::of("list", images))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && (name.ends_with(COMING) || name.ends_with(LEAVING)) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(FileError::of("remove", &path))?;
        }
    }
    Ok(lock)
}

/// Brings a folder's entries to the disk.
pub(super) fn sync(folder: &Path) -> Result<(), FileError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(FileError::of("write", folder))
}

pub(super) fn folder_of(images: &Path, name: &str) -> (PathBuf, PathBuf) {
    (images.join(name), images.join(format!(".{name}{COMING}")))
}
