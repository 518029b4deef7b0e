//! The enterprise's boot images: folders below `images/`, added whole or not at all.
//!
//! ```text
//! add: copy ─► digests ─► signatures ─► examine ─► image.toml, record.json ─► fsync ─► rename to images/NAME
//!       └──────────┴───────── in images/.NAME.new, which nobody reads and the next add sweeps ────┘
//! ```
//!
//! What is examined, and signed for, is the copy: nobody can change the file between the look and its use. [`record`] keeps what was found, so that
//! `verify`, and each borrowing, can tell whether the folder still holds what was added. A folder that was made by hand has no record, and stays usable.
//!
//! | module | does |
//! |---|---|
//! | [`arguments`] | what an installer makes of an image's command line, by release |
//! | [`disk`] | the same for disk images, which have no kernel to examine |
//! | [`examine`] | finds out what kernel and initrd can do |
//! | [`signature`] | checks minisign and ed25519 signatures |
//! | [`intake`] | adds |
//! | [`record`] | what was added, and whether it still is |
//! | [`shelf`] | lists and removes |

pub mod arguments;
pub mod disk;
pub mod examine;
pub mod intake;
pub mod record;
pub mod shelf;
pub mod signature;

use std::io;
use std::path::{Path, PathBuf};

/// A file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct FileError {
    /// What was attempted.
    pub what: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            what,
            path: path.to_owned(),
            source,
        }
    }
}
