//! `images/NAME/record.json`: what was added, by digest, and what was found out about it. The program writes it; people write `image.toml`.

use super::FileError;
use super::examine::initrd::Initrd;
use super::examine::kernel::Kernel;
use super::examine::ways::DataPlane;
use super::signature::{Kind, PublicKey, SignatureError};
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The kernel's file in an image's folder.
pub const KERNEL: &str = "vmlinuz";
/// The initrd's file.
pub const INITRD: &str = "initrd.img";
pub(super) const KERNEL_SIGNATURE: &str = "vmlinuz.sig";
pub(super) const INITRD_SIGNATURE: &str = "initrd.img.sig";
pub(super) const SIGNER: &str = "signer.pub";
const FILE: &str = "record.json";
const LONGEST: u64 = 1 << 20;

/// A file as it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of all bytes.
    pub sha256: Sha256,
}

/// What was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub added: Timestamp,
    /// The kernel.
    pub kernel: Pinned,
    /// The initrd, with the archive of further modules behind it when there is one.
    pub initrd: Pinned,
    /// How many bytes of it are its maker's, which a signature covers.
    pub makers_initrd_bytes: u64,
    /// The kind of the signatures that were good.
    #[serde(default)]
    pub signed: Option<Kind>,
    /// What the kernel says of itself.
    pub found_kernel: Kernel,
    /// What is in the initrd.
    pub found_initrd: Initrd,
    /// The data plane that will be used, as far as can be foretold; absent when the one that is named is not there.
    #[serde(default)]
    pub plane: Option<DataPlane>,
}

/// An image is not what was added.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record makes no sense.
    #[error("{} cannot be read; add the image anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// There is none.
    #[error("{} has no record: it was made by hand, and nothing tells what it should hold; `leaseboot-po image add` makes one", .0.display())]
    NoRecord(PathBuf),
    /// A file changed.
    #[error("{} is not what was added: its digest is {found}, was {added}; remove the image and add it anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The digest when it was added.
        added: Sha256,
        /// The digest now.
        found: Sha256,
    },
    /// A signature is not good any more.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Record {
    /// The record of the image in `folder`, when it has one.
    ///
    /// # Errors
    /// [`VerifyError::File`] and [`VerifyError::Content`].
    pub fn read(folder: &Path) -> Result<Option<Self>, VerifyError> {
        let path = folder.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(FileError::of("open", &path))?,
        };
        let mut text = Vec::new();
        file.take(LONGEST)
            .read_to_end(&mut text)
            .map_err(FileError::of("read", &path))?;
        let parsed = serde_json::from_slice(&text);
        parsed
            .map(Some)
            .map_err(|source| VerifyError::Content { path, source })
    }

    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record is JSON")
    }
}

/// Reads both files of the image in `folder` to their ends, and checks digests and signatures. `trusted` takes the place of the key that was
/// kept with the image.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(folder: &Path, trusted: Option<&Path>) -> Result<Record, VerifyError> {
    let record = Record::read(folder)?.ok_or_else(|| VerifyError::NoRecord(folder.to_owned()))?;
    for (name, pinned) in [(KERNEL, record.kernel), (INITRD, record.initrd)] {
        unchanged(folder.join(name), pinned)?;
    }
    if record.signed.is_some() || trusted.is_some() {
        let kept = folder.join(SIGNER);
        let key = PublicKey::read(trusted.unwrap_or(&kept))?;
        key.check(
            &folder.join(KERNEL),
            record.kernel.size,
            &folder.join(KERNEL_SIGNATURE),
        )?;
        key.check(
            &folder.join(INITRD),
            record.makers_initrd_bytes,
            &folder.join(INITRD_SIGNATURE),
        )?;
    }
    Ok(record)
}

/// That a file is what it was when it was added.
pub(super) fn unchanged(path: PathBuf, pinned: Pinned) -> Result<(), VerifyError> {
    let found = pin(&path)?;
    if found == pinned {
        return Ok(());
    }
    Err(VerifyError::Changed {
        path,
        added: pinned.sha256,
        found: found.sha256,
    })
}

pub(super) fn pin(path: &Path) -> Result<Pinned, FileError> {
    let mut file = File::open(path).map_err(FileError::of("open", path))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let length = file.read(&mut buffer).map_err(FileError::of("read", path))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
    Ok(Pinned {
        size,
        sha256: hasher.finish(),
    })
}
