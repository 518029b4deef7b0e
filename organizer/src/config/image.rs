//! Boot images: kernel and initrd of an installer, with the command line that its makers want.

use super::source::{ConfigError, Source};
use crate::error_chain;
use crate::images::record::Record;
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::settings::{Blob, BootImage};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Where the gateway serves the kernel.
pub(crate) const KERNEL_PATH: &str = "/v1/image/kernel";
/// Where the gateway serves the initrd.
pub(crate) const INITRD_PATH: &str = "/v1/image/initrd";

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

/// A boot image in the enterprise's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Kernel command line, without what leaseboot adds.
    pub command_line: String,
    /// Memory that the installer needs, in MiB.
    pub min_memory_mib: u64,
    /// The machine that it is built for, as uname(2) names it, such as `x86_64`; absent means: nobody said.
    pub architecture: Option<String>,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initrd's file.
    pub initrd: PathBuf,
    /// The digests of both when they were added; absent for an image that was made by hand.
    pub added: Option<(Sha256, Sha256)>,
}

impl Image {
    /// Reads `FOLDER/image.toml`; kernel and initrd must be there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(
            &folder.join("image.toml"),
            "an image is a folder with image.toml, vmlinuz and initrd.img",
        )?;
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
            command_line,
            min_memory_mib: file.min_memory_mib,
            architecture: file.architecture,
            kernel: existing(file.kernel)?,
            initrd: existing(file.initrd)?,
            added: added.map(|record| (record.kernel.sha256, record.initrd.sha256)),
        })
    }

    /// Reads both files to their ends and pins their digests. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`ConfigError`] when a file cannot be read, or is not the one that was added.
    pub fn measure(&self) -> Result<BootImage, ConfigError> {
        let kernel = measure(&self.kernel, KERNEL_PATH)?;
        let initrd = measure(&self.initrd, INITRD_PATH)?;
        if let Some((kernels, initrds)) = self.added {
            for (file, blob, added) in [(&self.kernel, &kernel, kernels), (&self.initrd, &initrd, initrds)] {
                unchanged(file, blob.sha256, added)?;
            }
        }
        Ok(BootImage {
            kernel,
            initrd,
            command_line: self.command_line.clone(),
        })
    }
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
