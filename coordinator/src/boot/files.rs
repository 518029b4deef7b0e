//! The files that every boot needs: kernel, stage-1 image and first loaders, as `cargo xtask image` leaves them.
//!
//! They are read once, checked against the digests in `manifest.json`, and kept as copies that nobody else can open, so what is served is
//! what was checked, whatever happens to the directory later.
//!
//! Servers of another architecture than x86-64 need all of them once more. The image builder leaves those in a folder of their own with a manifest of
//! their own, and a lender who has no such servers has no such folder.

use super::nameless_file::NamelessFile;
use bytes::Bytes;
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::drivers::{self, DriverIndex};
use leaseboot_protocol::hardware::PciDevice;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;

/// The kernel of stage 1.
pub const KERNEL: &str = "vmlinuz";
/// The stage-1 image.
pub const STAGE1: &str = "stage1.img";
/// The boot program for UEFI, by TFTP and HTTP.
pub const GRUB_EFI: &str = "grub/core.efi";
/// What says which files there are.
const MANIFEST: &str = "manifest.json";
/// More than this is no boot file.
const LARGEST_FILE: u64 = 1 << 30;

/// A file of our own. Clones share it.
#[derive(Clone, Debug)]
pub struct BootFile {
    /// SHA-256 of the content.
    pub sha256: Sha256,
    length: usize,
    file: Arc<NamelessFile>,
    /// All bytes of a first loader, which is a name with a folder in front: TFTP sends from memory.
    for_tftp: Option<Bytes>,
    /// All bytes of any other, as long as somebody fetches them by TFTP.
    lent: Arc<Mutex<Weak<Vec<u8>>>>,
}

/// Bytes in memory that many transfers share.
struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// All boot files.
#[derive(Clone, Debug, Default)]
pub struct BootFiles {
    images: BTreeMap<Architecture, Image>,
}

/// Those of one architecture, by name.
#[derive(Clone, Debug, Default)]
struct Image {
    files: BTreeMap<String, BootFile>,
    /// What stage 1's parts are for, where the image can be had in parts.
    drivers: Option<DriverIndex>,
}

/// The boot files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootFilesError {
    /// A file cannot be read.
    #[error(
        "cannot read the boot file {path}: run `cargo xtask image` first, or name its directory with --boot-files"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no room for it.
    #[error(
        "cannot keep a copy of the boot file {name} ({length} bytes) below {place}: make room there, or name another folder in TMPDIR"
    )]
    Keep {
        /// Its name.
        name: String,
        /// Its length.
        length: usize,
        /// The folder for copies.
        place: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The manifest is not what the image builder writes.
    #[error("cannot understand {path}: run `cargo xtask image` again")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The image is for other servers.
    #[error(
        "{path} is of an image for {found}, and one for {expected} belongs there: give the folder target/image as `cargo xtask image --architecture {expected}` fills it"
    )]
    Architecture {
        /// The manifest.
        path: PathBuf,
        /// What belongs there.
        expected: Architecture,
        /// What is there.
        found: Architecture,
    },
    /// The manifest names a file outside its directory.
    #[error("{path} names {name:?}, which is not a plain name below its directory")]
    Name {
        /// The manifest.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A file is not the one that the manifest describes.
    #[error(
        "the boot file {path} has the digest {found}, but the manifest says {expected}: run `cargo xtask image` again"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest in the manifest.
        expected: Sha256,
        /// The digest of the content.
        found: Sha256,
    },
    /// An archive would put the one behind it off the grid.
    #[error(
        "the archive {path} has {length} bytes, no multiple of 4, so the kernel would not find the one behind it: run `cargo xtask image` again"
    )]
    Misaligned {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// A file that no boot can do without is not in the manifest.
    #[error("{path} does not name {name:?}, which every boot needs: run `cargo xtask image` again")]
    Missing {
        /// The manifest.
        path: PathBuf,
        /// The name.
        name: &'static str,
    },
}

/// What is read of `manifest.json`; its other fields do not matter here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    architecture: Architecture,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    name: String,
    sha256: Sha256,
}

impl BootFile {
    fn keep(name: &str, sha256: Sha256, content: Vec<u8>) -> Result<Self, BootFilesError> {
        let length = content.len();
        let file = NamelessFile::with(&content).map_err(|source| BootFilesError::Keep {
            name: name.to_owned(),
            length,
            place: NamelessFile::place(),
            source,
        })?;
        Ok(Self {
            sha256,
            length,
            file: Arc::new(file),
            for_tftp: name.contains('/').then(|| content.into()),
            lent: Arc::default(),
        })
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All bytes of a first loader.
    pub fn for_tftp(&self) -> Option<&Bytes> {
        self.for_tftp.as_ref()
    }

    /// All bytes in memory. Kernel and image are fetched by TFTP only where HTTP fails, so they are read when that happens, once for all who
    /// fetch them at the same time, and forgotten after.
    ///
    /// # Errors
    /// Those of pread(2).
    pub async fn bytes(&self) -> std::io::Result<Bytes> {
        if let Some(bytes) = &self.for_tftp {
            return Ok(bytes.clone());
        }
        // Held while the file is read, so that a storm reads it once.
        let mut lent = self.lent.lock().await;
        if let Some(content) = lent.upgrade() {
            return Ok(Bytes::from_owner(Lent(content)));
        }
        let (file, length) = (self.file.clone(), self.length);
        let read = tokio::task::spawn_blocking(move || file.read(length)).await;
        let content = Arc::new(read.map_err(std::io::Error::other)??);
        *lent = Arc::downgrade(&content);
        Ok(Bytes::from_owner(Lent(content)))
    }

    /// Has the kernel send a part to a socket; gives the number of bytes that it took.
    pub(super) fn send(&self, socket: impl AsFd, part: &Range<usize>) -> std::io::Result<usize> {
        self.file.send(socket, part)
    }
}

impl BootFiles {
    /// Reads and checks everything that the manifest in `directory` names, and those in the folders of other architectures, where they are.
    ///
    /// # Errors
    /// [`BootFilesError`], each with the file and what to do.
    pub fn load(directory: &Path) -> Result<Self, BootFilesError> {
        let mut images = BTreeMap::new();
        for architecture in Architecture::ALL {
            let folder = architecture.within(directory);
            let manifest = folder.join(MANIFEST);
            let is_there = manifest.try_exists().map_err(|source| BootFilesError::Read {
                path: manifest,
                source,
            })?;
            if is_there || architecture == Architecture::default() {
                images.insert(architecture, Image::load(&folder, architecture)?);
            }
        }
        Ok(Self { images })
    }

    /// Files that are already in memory: for tests.
    ///
    /// # Errors
    /// [`BootFilesError::Keep`].
    pub fn from_memory(
        files: impl IntoIterator<Item = (Architecture, String, Bytes)>,
    ) -> Result<Self, BootFilesError> {
        let mut images: BTreeMap<Architecture, Image> = BTreeMap::new();
        for (architecture, name, content) in files {
            let file = BootFile::keep(&name, Sha256::of(&content), content.to_vec())?;
            images.entry(architecture).or_default().files.insert(name, file);
        }
        Ok(Self { images })
    }

    /// The architectures that servers are served of.
    pub fn architectures(&self) -> impl Iterator<Item = Architecture> {
        self.images.keys().copied()
    }

    /// The paths of the parts of stage 1 for a server with these functions; `None` when it must have the whole.
    pub fn own_parts(&self, architecture: Architecture, functions: &[PciDevice]) -> Option<Vec<String>> {
        let image = self.images.get(&architecture)?;
        let chosen = image.drivers.as_ref()?.choose(functions)?;
        chosen
            .into_iter()
            .map(|name| self.path(architecture, name))
            .collect()
    }

    /// The file of this name.
    pub fn get(&self, architecture: Architecture, name: &str) -> Option<&BootFile> {
        self.images.get(&architecture)?.files.get(name)
    }

    /// The file of this name, if it is one of the small ones that come before the kernel: TFTP and HTTP serve those under their names, because
    /// signed loaders look for the next one beside them. No two architectures have a loader of the same name.
    pub fn loader(&self, name: &str) -> Option<&BootFile> {
        let mut found = self.images.values().filter_map(|image| image.files.get(name));
        found.find(|file| file.for_tftp.is_some())
    }

    /// Names and files.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BootFile)> {
        let files = self.images.values().flat_map(|image| &image.files);
        files.map(|(name, file)| (name.as_str(), file))
    }

    /// The path under which HTTP serves the file: with its digest in it, so that it can be kept forever.
    pub fn path(&self, architecture: Architecture, name: &str) -> Option<String> {
        self.get(architecture, name)
            .map(|file| format!("/boot/files/{}/{}", file.sha256, last_part(name)))
    }

    /// The file that [`BootFiles::path`] points to.
    pub fn at_path(&self, sha256: &Sha256, last: &str) -> Option<&BootFile> {
        let found = self
            .iter()
            .find(|(name, file)| file.sha256 == *sha256 && last_part(name) == last);
        found.map(|(_, file)| file)
    }
}

impl Image {
    fn load(directory: &Path, expected: Architecture) -> Result<Self, BootFilesError> {
        let path = directory.join(MANIFEST);
        let text = read(&path)?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| BootFilesError::Manifest {
                path: path.clone(),
                source,
            })?;
        if manifest.architecture != expected {
            return Err(BootFilesError::Architecture {
                path,
                expected,
                found: manifest.architecture,
            });
        }
        let (mut files, mut index) = (BTreeMap::new(), None);
        for ManifestFile { name, sha256 } in manifest.files {
            if !is_plain(&name) {
                return Err(BootFilesError::Name { path, name });
            }
            let file = directory.join(&name);
            let content = read(&file)?;
            let found = Sha256::of(&content);
            if found != sha256 {
                return Err(BootFilesError::Digest {
                    path: file,
                    expected: sha256,
                    found,
                });
            }
            // The kernel's EFI stub puts initrds end to end, without padding.
            if is_archive(&name) && !content.len().is_multiple_of(4) {
                return Err(BootFilesError::Misaligned {
                    path: file,
                    length: content.len(),
                });
            }
            if name == drivers::FILE {
                let understood = serde_json::from_slice(&content);
                index = Some(understood.map_err(|source| BootFilesError::Manifest { path: file, source })?);
            }
            let file = BootFile::keep(&name, sha256, content)?;
            files.insert(name, file);
        }
        let missing = [KERNEL, STAGE1]
            .into_iter()
            .find(|name| !files.contains_key(*name));
        match missing {
            Some(name) => Err(BootFilesError::Missing { path, name }),
            None => Ok(Self {
                files,
                drivers: index,
            }),
        }
    }
}

/// Parts of stage 1, which are loaded one behind the other.
fn is_archive(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".img")
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

/// Such a name stays below its directory and needs no escaping in a URL or a script.
fn is_plain(name: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    name.split('/').all(plain)
}

fn read(path: &Path) -> Result<Vec<u8>, BootFilesError> {
    let failed = |source| BootFilesError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_FILE {
        return Err(failed(std::io::Error::other(format!(
            "{length} bytes are too many"
        ))));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: Architecture = Architecture::X86_64;

    fn directory(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("grub")).unwrap();
        for (name, content) in [
            ("vmlinuz", "kernel"),
            ("stage1.img", "image 4x"),
            ("grub/core.0", "grub"),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        std::fs::write(directory.path().join("manifest.json"), manifest).unwrap();
        directory
    }

    fn entry(name: &str, content: &str) -> String {
        format!(
            r#"{{"name":"{name}","size":1,"sha256":"{}"}}"#,
            Sha256::of(content.as_bytes())
        )
    }

    #[test]
    fn serves_what_was_checked_under_its_digest() {
        let entries = [
            entry("vmlinuz", "kernel"),
            entry("stage1.img", "image 4x"),
            entry("grub/core.0", "grub"),
        ];
        let directory = directory(&format!(r#"{{"version":1,"files":[{}]}}"#, entries.join(",")));
        let files = BootFiles::load(directory.path()).unwrap();
        let digest = Sha256::of(b"grub");
        assert_eq!(
            files.path(X86, "grub/core.0").unwrap(),
            format!("/boot/files/{digest}/core.0")
        );
        assert_eq!(
            files.at_path(&digest, "core.0").unwrap().for_tftp().unwrap(),
            "grub"
        );
        assert!(files.get(X86, KERNEL).unwrap().for_tftp().is_none());
        assert!(files.at_path(&digest, "vmlinuz").is_none());
    }

    #[test]
    fn another_architecture_has_a_folder_of_its_own() {
        let entries = [entry("vmlinuz", "kernel"), entry("stage1.img", "image 4x")].join(",");
        let directory = directory(&format!(r#"{{"files":[{entries}]}}"#));
        let folder = directory.path().join("aarch64");
        std::fs::create_dir_all(folder.join("grub")).unwrap();
        let files = [
            ("vmlinuz", "other kernel"),
            ("stage1.img", "image 2y"),
            ("grub/core-arm64.efi", "arm"),
        ];
        for (name, content) in files {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let without = BootFiles::load(directory.path()).unwrap();
        assert_eq!(without.architectures().collect::<Vec<_>>(), [X86]);
        assert!(without.loader("grub/core-arm64.efi").is_none());

        let entries = files.map(|(name, content)| entry(name, content)).join(",");
        std::fs::write(
            folder.join("manifest.json"),
            format!(r#"{{"architecture":"aarch64","files":[{entries}]}}"#),
        )
        .unwrap();
        let with = BootFiles::load(directory.path()).unwrap();
        // The same folder, given as if it were the whole.
        assert!(matches!(
            BootFiles::load(&folder),
            Err(BootFilesError::Architecture { .. })
        ));
        assert_ne!(
            with.path(X86, KERNEL).unwrap(),
            with.path(Architecture::Aarch64, KERNEL).unwrap()
        );
        let digest = Sha256::of(b"other kernel");
        assert_eq!(with.at_path(&digest, "vmlinuz").unwrap().len(), 12);
        assert!(with.loader("grub/core-arm64.efi").is_some());
    }

    #[test]
    fn refuses_what_is_not_as_the_manifest_says() {
        let wrong = directory(&format!(r#"{{"files":[{}]}}"#, entry("vmlinuz", "other")));
        assert!(matches!(
            BootFiles::load(wrong.path()),
            Err(BootFilesError::Digest { .. })
        ));
        let outside = directory(&format!(r#"{{"files":[{}]}}"#, entry("../vmlinuz", "kernel")));
        assert!(matches!(
            BootFiles::load(outside.path()),
            Err(BootFilesError::Name { .. })
        ));
        let lacking = directory(&format!(r#"{{"files":[{}]}}"#, entry("vmlinuz", "kernel")));
        let error = BootFiles::load(lacking.path()).unwrap_err();
        assert!(matches!(error, BootFilesError::Missing { name: STAGE1, .. }));
        let nothing = tempfile::tempdir().unwrap();
        let error = BootFiles::load(nothing.path()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask image"), "{error}");
    }
}
