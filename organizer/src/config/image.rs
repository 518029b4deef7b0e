//! Images: kernel and initrd of an installer, with the command line that its makers want, or a whole disk.

use super::source::{ConfigError, Source};
use crate::error_chain;
use crate::images::disk::DiskRecord;
use crate::images::record::{Pinned, Record};
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::disk_image::DiskImage;
use leaseboot_protocol::settings::{Blob, BootImage, TenantImage};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Where the gateway serves the kernel.
pub(crate) const KERNEL_PATH: &str = "/v1/image/kernel";
/// Where the gateway serves the initrd.
pub(crate) const INITRD_PATH: &str = "/v1/image/initrd";
/// Where the gateway serves the compressed disk.
pub(crate) const DISK_PATH: &str = "/v1/image/disk";
/// Where the gateway serves the digests of the disk's pieces.
pub(crate) const CHUNKS_PATH: &str = "/v1/image/disk.chunks";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageFile {
    command_line: Spanned<String>,
    min_memory_mib: u64,
    architecture: Option<String>,
    #[serde(default = "vmlinuz")]
    kernel: Spanned<PathBuf>,
    #[serde(default = "initrd_img")]
    initrd: Spanned<PathBuf>,
}

fn vmlinuz() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("vmlinuz"))
}

fn initrd_img() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("initrd.img"))
}

/// `image.toml` of a disk, which `image add` writes.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskFile {
    /// Always true: what tells the two kinds of image apart.
    pub(crate) disk: bool,
    pub(crate) min_memory_mib: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) architecture: Option<String>,
}

/// The files of an image, as a borrowing keeps them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageFiles {
    /// An installer's.
    Installer {
        /// The kernel's file.
        kernel: PathBuf,
        /// The initrd's file.
        initrd: PathBuf,
    },
    /// A disk's.
    Disk {
        /// The compressed disk.
        disk: PathBuf,
        /// The digests of its pieces.
        chunks: PathBuf,
    },
}

impl ImageFiles {
    /// The image's folder.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            ImageFiles::Installer { kernel: first, .. } | ImageFiles::Disk { disk: first, .. } => {
                first.parent()
            }
        }
    }
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An installer.
    Installer {
        /// Kernel command line, without what leaseboot adds.
        command_line: String,
        /// The digests of kernel and initrd when they were added; absent for an image that was made by hand.
        added: Option<(Sha256, Sha256)>,
    },
    /// A disk, as it was added.
    Disk(DiskRecord),
}

/// An image in the enterprise's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Memory that the installer, or the writing of a disk, needs, in MiB.
    pub min_memory_mib: u64,
    /// The machine that it is built for, as uname(2) names it, such as `x86_64`; absent means: nobody said.
    pub architecture: Option<String>,
    /// Its files.
    pub files: ImageFiles,
    /// What they are.
    pub content: Content,
}

impl Image {
    /// Reads `FOLDER/image.toml`; the files that it needs must be there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(
            &folder.join("image.toml"),
            "an image is a folder with image.toml, vmlinuz and initrd.img",
        )?;
        match source.parse::<toml::Table>()?.contains_key("disk") {
            true => Self::load_disk(&source, folder),
            false => Self::load_installer(&source, folder),
        }
    }

    /// The kernel command line of an installer, without what leaseboot adds; a disk has none.
    pub fn command_line(&self) -> Option<&str> {
        match &self.content {
            Content::Installer { command_line, .. } => Some(command_line),
            Content::Disk(_) => None,
        }
    }

    fn load_disk(source: &Source, folder: &Path) -> Result<Self, ConfigError> {
        let file: DiskFile = source.parse()?;
        let record = DiskRecord::read(folder).map_err(|error| source.whole(error_chain(&error)))?;
        let files = DiskRecord::files(folder);
        if let ImageFiles::Disk { disk, chunks } = &files
            && let Some(missing) = [disk, chunks].into_iter().find(|path| !path.is_file())
        {
            let problem = format!("there is no file {}; add the image anew", missing.display());
            return Err(source.whole(problem));
        }
        Ok(Self {
            min_memory_mib: file.min_memory_mib,
            architecture: file.architecture,
            files,
            content: Content::Disk(record),
        })
    }

    fn load_installer(source: &Source, folder: &Path) -> Result<Self, ConfigError> {
        let file: ImageFile = source.parse()?;
        let command_line = file.command_line.get_ref().trim().to_owned();
        if command_line.contains(['\n', '\0']) {
            let problem = "command_line has more than one line; the kernel takes one";
            return Err(source.at(file.command_line.span(), problem));
        }
        let mut words = command_line.split_whitespace();
        if let Some(word) = words.find(|word| word.starts_with("inst.ks=")) {
            let problem = format!("command_line contains {word:?}, which leaseboot adds itself; remove it");
            return Err(source.at(file.command_line.span(), problem));
        }
        let existing = |path: Spanned<PathBuf>| {
            let full = source.folder().join(path.get_ref());
            if full.is_file() {
                Ok(full)
            } else {
                let problem = format!("there is no file {}; put it there", full.display());
                Err(source.at(path.span(), problem))
            }
        };
        let added = Record::read(folder).map_err(|error| source.whole(error_chain(&error)))?;
        Ok(Self {
            min_memory_mib: file.min_memory_mib,
            architecture: file.architecture,
            files: ImageFiles::Installer {
                kernel: existing(file.kernel)?,
                initrd: existing(file.initrd)?,
            },
            content: Content::Installer {
                command_line,
                added: added.map(|record| (record.kernel.sha256, record.initrd.sha256)),
            },
        })
    }

    /// Reads the files to their ends and pins their digests. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`ConfigError`] when a file cannot be read, or is not the one that was added.
    pub fn measure(&self) -> Result<TenantImage, ConfigError> {
        match (&self.files, &self.content) {
            (ImageFiles::Installer { kernel, initrd }, Content::Installer { command_line, added }) => {
                let measured = [measure(kernel, KERNEL_PATH)?, measure(initrd, INITRD_PATH)?];
                if let Some((kernels, initrds)) = *added {
                    unchanged(kernel, measured[0].sha256, kernels)?;
                    unchanged(initrd, measured[1].sha256, initrds)?;
                }
                let [kernel, initrd] = measured;
                Ok(TenantImage::Installer(BootImage {
                    kernel,
                    initrd,
                    command_line: command_line.clone(),
                }))
            }
            (ImageFiles::Disk { disk, chunks }, Content::Disk(record)) => Ok(TenantImage::Disk(DiskImage {
                stream: measured_as(disk, DISK_PATH, record.stream)?,
                chunks: measured_as(chunks, CHUNKS_PATH, record.chunks)?,
                size: record.size,
            })),
            _ => unreachable!("load() makes files and content of one kind"),
        }
    }
}

fn measured_as(file: &Path, path: &str, added: Pinned) -> Result<Blob, ConfigError> {
    let blob = measure(file, path)?;
    unchanged(file, blob.sha256, added.sha256)?;
    Ok(blob)
}

fn unchanged(file: &Path, found: Sha256, added: Sha256) -> Result<(), ConfigError> {
    if found == added {
        return Ok(());
    }
    Err(ConfigError {
        file: file.to_owned(),
        line: None,
        problem: format!(
            "is not what was added: its digest is {found}, was {added}; remove the image and add it anew"
        ),
        source: None,
    })
}

fn measure(file: &Path, path: &str) -> Result<Blob, ConfigError> {
    let failed = |source: io::Error| ConfigError {
        file: file.to_owned(),
        line: None,
        problem: "cannot be read; put the boot image there".to_owned(),
        source: Some(source),
    };
    let mut reader = File::open(file).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let length = reader.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
    Ok(Blob {
        path: path.to_owned(),
        size,
        sha256: hasher.finish(),
    })
}
