//! GRUB's and iPXE's network boot files, by the recipe in `grub/binaries.toml`.
//!
//! Each GRUB image is one file with every module it needs built in, so the first loader is all that a server fetches by TFTP;
//! beside the modules it carries `grub/embedded.cfg` in a memory disk, because what `grub-mkimage --config` embeds is read by
//! a parser without `if`, `for` and `||`. iPXE's binaries are Debian's own, and so are the shim and the GRUB that Secure Boot wants:
//! what is built into those was signed elsewhere, so they find the same script as a file.

use crate::debian::{Lists, Package};
use crate::error::{ImageError, IoContext as _};
use crate::process;
use crate::recipe::line_at;
use crate::workspace::{self, Workspace};
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::archive::Archive;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where GRUB looks for its configuration: `grub-mkimage` sets this whenever there is a memory disk, whatever it is told.
const MEMORY_DISK_FOLDER: &str = "(memdisk)/boot/grub";

/// Where Debian's signed network GRUB looks for its script: its prefix is `/grub`, on whatever server it came from.
const SIGNED_GRUB_SCRIPT: &str = "grub/grub.cfg";

/// The boot files and the packages they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootFiles {
    /// Content by name, such as `grub/core.0`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Versions of the packages.
    pub inputs: BTreeMap<String, String>,
}

/// The recipe for the binaries cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{path}:{line}: the recipe of the boot files cannot be understood: correct this line")]
pub struct BinariesError {
    path: PathBuf,
    line: usize,
    source: Box<toml::de::Error>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binaries {
    grub: Vec<Grub>,
    /// Modules that every image has.
    grub_modules: Vec<String>,
    /// Files of Debian's packages.
    copied: Vec<Copied>,
}

/// One GRUB image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grub {
    name: String,
    /// What it goes with.
    #[serde(default)]
    architecture: Architecture,
    /// `grub-mkimage --format`.
    format: String,
    package: String,
    /// The package's folder of modules.
    directory: PathBuf,
    /// Modules that only this image has.
    modules: Vec<String>,
}

/// A file that is taken as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copied {
    name: String,
    /// What it goes with.
    #[serde(default)]
    architecture: Architecture,
    package: String,
    path: PathBuf,
}

/// Makes all boot files of an architecture.
///
/// # Errors
/// When the recipe is wrong, a package cannot be had, or `grub-mkimage` refuses.
pub fn make(workspace: &Workspace, architecture: Architecture) -> Result<BootFiles, ImageError> {
    let lists = Lists::of(workspace, architecture)?;
    let recipe = load(&workspace.grub().join("binaries.toml"))?;
    let scratch = workspace.cache("grub")?;
    let scratch = tempfile::tempdir_in(&scratch).doing("make a temporary folder in", &scratch)?;
    let memory_disk = scratch.path().join("memdisk");
    let script = workspace::read(&workspace.grub().join("embedded.cfg"))?;
    workspace::replace(&memory_disk, &memory_disk_of(script.clone())?)?;

    let mut made = BootFiles::default();
    if architecture == Architecture::default() {
        made.files.insert(SIGNED_GRUB_SCRIPT.to_owned(), script);
    }
    for grub in recipe
        .grub
        .iter()
        .filter(|grub| grub.architecture == architecture)
    {
        let directory = made
            .unpack(workspace, &lists, &grub.package)?
            .join(&grub.directory);
        let image = scratch.path().join("image");
        let mut mkimage = Command::new("grub-mkimage");
        mkimage.args(["--format", &grub.format, "--prefix", MEMORY_DISK_FOLDER]);
        mkimage
            .arg("--directory")
            .arg(directory)
            .arg("--memdisk")
            .arg(&memory_disk)
            .arg("--output")
            .arg(&image);
        process::output(mkimage.args(&recipe.grub_modules).args(&grub.modules))?;
        made.files.insert(grub.name.clone(), workspace::read(&image)?);
    }
    for copied in recipe
        .copied
        .iter()
        .filter(|copied| copied.architecture == architecture)
    {
        let file = made
            .unpack(workspace, &lists, &copied.package)?
            .join(&copied.path);
        made.files.insert(copied.name.clone(), workspace::read(&file)?);
    }
    Ok(made)
}

impl BootFiles {
    fn unpack(&mut self, workspace: &Workspace, lists: &Lists, package: &str) -> Result<PathBuf, ImageError> {
        let package = Package::candidate(lists, package)?;
        let folder = package.unpacked(workspace, |_| Ok(()))?;
        self.inputs.insert(package.name, package.version);
        Ok(folder)
    }
}

/// GRUB reads cpio, so our own archive writer serves here too.
fn memory_disk_of(config: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::new();
    archive.file("boot/grub/grub.cfg", 0o644, config)?;
    Ok(archive.to_bytes())
}

fn load(path: &Path) -> Result<Binaries, ImageError> {
    let text = workspace::read_text(path)?;
    Ok(parse(path, &text)?)
}

fn parse(path: &Path, text: &str) -> Result<Binaries, BinariesError> {
    toml::from_str(text).map_err(|source| BinariesError {
        path: path.to_owned(),
        line: source.span().map_or(1, |span| line_at(text, span.start)),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_this_repository_is_well_formed() {
        let recipe = load(&Workspace::of_this_crate().grub().join("binaries.toml")).unwrap();
        let names: Vec<_> = recipe.grub.iter().map(|grub| grub.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "grub/core.0",
                "grub/core.efi",
                "grub/core-ia32.efi",
                "grub/core-arm64.efi"
            ]
        );
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let error = parse(Path::new("binaries.toml"), "grub_modules = []\ngrubs = []\n")
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("binaries.toml:2: "), "{error}");
    }
}
