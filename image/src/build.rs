//! The whole of `cargo xtask image`: from recipe and sources to the files in `target/image/`.

use crate::error::{ImageError, IoContext as _};
use crate::kernel::Kernel;
use crate::manifest::{self, MadeFile, Manifest};
use crate::musl::Toolchain;
use crate::recipe::Recipe;
use crate::stage1::{self, Reuse};
use crate::workspace::{self, Workspace};
use crate::{agent, boot_files, host_packages, sizes};
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::digest::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The host's tools that are always needed; the compiler's are [`Toolchain`]'s matter.
pub const HOST_PACKAGES: [&str; 3] = ["apt", "grub-common", "kmod"];

/// What a build gave.
#[derive(Clone, Debug)]
pub struct Built {
    /// The manifest, as it was written.
    pub manifest: Manifest,
    /// The sizes, as a table for people.
    pub table: String,
}

/// Everything in memory, before it is written.
struct Made {
    files: BTreeMap<String, Vec<u8>>,
    manifest: Manifest,
}

/// Makes all files of `target/image/`, or of its folder for another architecture. Each is replaced by rename and the manifest comes last, so it never names a file that
/// is not there yet; what an earlier build left and this one did not make is removed.
///
/// # Errors
/// [`ImageError`], among them [`ImageError::Size`]: then nothing was written.
pub fn build(workspace: &Workspace, toolchain: Toolchain) -> Result<Built, ImageError> {
    let made = make(workspace, toolchain, &workspace.musl_target(), Reuse::Cache)?;
    let table = sizes::check_sizes(&made.manifest)?;
    let output = workspace.output(toolchain.architecture());
    for (name, content) in &made.files {
        let path = output.join(name);
        if std::fs::read(&path).ok().as_ref() != Some(content) {
            workspace::replace(&path, content)?;
        }
    }
    workspace::replace(&output.join(manifest::FILE), made.manifest.to_json().as_bytes())?;
    let kept = made
        .files
        .keys()
        .map(String::as_str)
        .chain([manifest::FILE])
        .collect();
    remove_others(&output, "", &kept)?;
    Ok(Built {
        manifest: made.manifest,
        table,
    })
}

/// Builds everything a second time, the agent from its first line on and without the cache of compressed archives, and
/// compares it with `first`.
///
/// # Errors
/// [`ImageError::NotReproducible`] with the names of the files that differ.
pub fn verify(workspace: &Workspace, toolchain: Toolchain, first: &Manifest) -> Result<(), ImageError> {
    let cache = workspace.cache("verify")?;
    let target = tempfile::tempdir_in(&cache).doing("make a temporary folder in", &cache)?;
    let second = make(workspace, toolchain, target.path(), Reuse::Nothing)?.manifest;
    if second == *first {
        return Ok(());
    }
    let digests = |manifest: &Manifest| -> BTreeMap<String, Sha256> {
        let files = manifest.files.iter().chain([&manifest.agent]);
        files.map(|file| (file.name.clone(), file.sha256)).collect()
    };
    let (first, second) = (digests(first), digests(&second));
    let names: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let differing: Vec<_> = names
        .into_iter()
        .filter(|name| first.get(*name) != second.get(*name))
        .cloned()
        .collect();
    let names = if differing.is_empty() {
        manifest::FILE.to_owned()
    } else {
        differing.join(", ")
    };
    Err(ImageError::NotReproducible { names })
}

/// Reads the manifest of the last build.
///
/// # Errors
/// When there is none, or it is not one.
pub fn last_manifest(workspace: &Workspace, architecture: Architecture) -> Result<Manifest, ImageError> {
    let path = workspace.output(architecture).join(manifest::FILE);
    let text = workspace::read(&path)?;
    serde_json::from_slice(&text)
        .map_err(std::io::Error::from)
        .doing("understand", &path)
}

fn make(
    workspace: &Workspace,
    toolchain: Toolchain,
    target: &Path,
    reuse: Reuse,
) -> Result<Made, ImageError> {
    host_packages::ensure(&HOST_PACKAGES)?;
    let architecture = toolchain.architecture();
    let recipe = Recipe::load(&workspace.recipe(architecture))?;
    let kernel = Kernel::fetch(workspace, architecture, &recipe)?;
    let selection = kernel.select(&recipe)?;
    println!(
        "kernel: {} with {} modules",
        kernel.release,
        selection.files.len()
    );
    println!("agent: building a static binary with {}", toolchain.version()?);
    let agent = agent::bytes(workspace, toolchain, target)?;
    let boot = boot_files::make(workspace, architecture)?;

    let mut files = boot.files;
    files.insert("vmlinuz".to_owned(), kernel.vmlinuz()?);
    files.insert(
        "stage1.img".to_owned(),
        stage1::image(workspace, &kernel, &selection, &agent, reuse)?,
    );
    let split = selection.split(&recipe)?;
    files.extend(stage1::parts(
        workspace, &kernel, &selection, &split, &agent, reuse,
    )?);
    let shell = stage1::compress(&stage1::shell_archive(&files)?.to_bytes());
    for image in ["stage1.img", stage1::BASE] {
        files.entry(image.to_owned()).or_default().extend(&shell);
    }
    let mut inputs = boot.inputs;
    inputs.insert(kernel.package.name, kernel.package.version);
    inputs.insert("rustc".to_owned(), toolchain.version()?);
    let manifest = Manifest {
        architecture,
        files: files
            .iter()
            .map(|(name, content)| MadeFile::of(name, content))
            .collect(),
        kernel: kernel.release,
        agent: MadeFile::of(agent::PACKAGE, &agent),
        modules: selection.files.len(),
        inputs,
    };
    Ok(Made { files, manifest })
}

/// Whether it is the folder of another architecture, which a build of its own makes.
fn is_anothers(name: &str) -> bool {
    Architecture::ALL
        .into_iter()
        .any(|architecture| architecture.folder() == Some(name))
}

fn remove_others(folder: &Path, prefix: &str, kept: &BTreeSet<&str>) -> Result<(), ImageError> {
    for entry in std::fs::read_dir(folder).doing("list", folder)?.flatten() {
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if is_anothers(&name) {
            continue;
        }
        if path.is_dir() {
            remove_others(&path, &format!("{name}/"), kept)?;
        } else if !kept.contains(name.as_str()) {
            std::fs::remove_file(&path).doing("remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_made_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "vmlinuz",
            "old.img",
            "grub/core.0",
            "grub/core.1",
            "aarch64/vmlinuz",
        ] {
            workspace::replace(&folder.path().join(name), b"x").unwrap();
        }
        remove_others(folder.path(), "", &["vmlinuz", "grub/core.0"].into()).unwrap();
        let exists = |name: &str| folder.path().join(name).exists();
        assert!(exists("aarch64/vmlinuz"), "another architecture's");
        assert!(exists("vmlinuz") && exists("grub/core.0") && !exists("old.img") && !exists("grub/core.1"));
    }
}
