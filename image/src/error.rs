//! The one error of this crate: each room's own error, or a file that could not be handled.

use crate::boot_files::BinariesError;
use crate::debian::PackageError;
use crate::host_packages::HostError;
use crate::modules::ModulesError;
use crate::musl::MuslError;
use crate::process::ProcessError;
use crate::recipe::RecipeError;
use crate::sizes::SizeError;
use leaseboot_protocol::archive::ArchiveError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the image was not made.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "each variant hands on the error of the room that it is named after"
)]
pub enum ImageError {
    /// A file or folder could not be handled.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was attempted, such as "read".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two builds of the same inputs differ.
    #[error(
        "not reproducible: {names} came out differently the second time; look at what depends on time, order or paths"
    )]
    NotReproducible {
        /// The files that differ, with digests.
        names: String,
    },
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Modules(#[from] ModulesError),
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Musl(#[from] MuslError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// Names the file in an I/O error.
pub(crate) trait IoContext<T> {
    /// `doing` is a verb phrase that reads well before the path.
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, ImageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io {
            doing,
            path: path.to_owned(),
            source,
        })
    }
}
