//! `stage1.img`: three cpio archives, each compressed by itself, one behind the other.
//!
//! ```text
//! zstd( drivers: lib/modules/<release>/…, dev/console, mount points )  padding
//! zstd( agent: /init )                                                padding
//! zstd( the digest of the shell of rescue mode )                      padding
//! ```
//!
//! The kernel unpacks them in this order into one root (kernel document "initramfs buffer format"). They are apart because
//! compressing the drivers takes half a minute and they change with the kernel, while the agent changes with every edit:
//! the compressed drivers are kept in `target/cache/zstd/`, under the digest of what was compressed.
//!
//! For servers whose hardware is on record the same comes in parts ([`parts`]): `base.img`, which is built the same way of the modules that serve every
//! server, and one archive of modules for each driver. The module lists in the base are those of the whole selection: what they name and is not
//! there is the driver of a device that the server has not got.
//!
//! There is no shell, no busybox and no udev: the agent is all of user space. The shell of rescue mode is fetched when somebody opens a console.

use crate::error::ImageError;
use crate::kernel::Kernel;
use crate::modules::Selection;
use crate::split::Split;
use crate::workspace::{self, Workspace};
use leaseboot_protocol::archive::{ALIGNMENT, Archive, ArchiveError, Entry};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::drivers::{DriverArchive, DriverIndex};
use std::collections::{BTreeMap, BTreeSet};
use zstd::zstd_safe::CParameter;

/// zstd's strongest. Decompressing costs the same at every level.
const LEVEL: i32 = 22;
/// Base 2 logarithm of the window, in bytes: the largest that the kernel's decompressor allows.
const WINDOW_LOG: u32 = 27;

/// Whether results of earlier builds may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Take what the cache has.
    Cache,
    /// Do everything again, to compare.
    Nothing,
}

/// Puts the image together.
///
/// # Errors
/// When a module cannot be read or the cache cannot be written.
pub fn image(
    workspace: &Workspace,
    kernel: &Kernel,
    selection: &Selection,
    agent: &[u8],
    reuse: Reuse,
) -> Result<Vec<u8>, ImageError> {
    let content = content(kernel, &selection.files)?;
    let drivers = drivers_archive(&kernel.release, selection, content)?.to_bytes();
    let mut image = compress_cached(workspace, &drivers, reuse)?;
    image.extend(compress(&agent_archive(agent)?.to_bytes()));
    Ok(image)
}

/// The file of the image that every server with drivers of its own gets.
pub const BASE: &str = "base.img";
/// How the names of drivers' archives begin.
pub const DRIVER: &str = "driver-";

/// The same in parts, by name, with `drivers.json`, which says what they are for.
///
/// # Errors
/// As [`image`].
pub fn parts(
    workspace: &Workspace,
    kernel: &Kernel,
    selection: &Selection,
    split: &Split,
    agent: &[u8],
    reuse: Reuse,
) -> Result<BTreeMap<String, Vec<u8>>, ImageError> {
    let everybodys = content(kernel, &split.base)?;
    let archive = drivers_archive(&kernel.release, selection, everybodys)?.to_bytes();
    let mut base = compress_cached(workspace, &archive, reuse)?;
    base.extend(compress(&agent_archive(agent)?.to_bytes()));
    let mut parts = BTreeMap::from([(BASE.to_owned(), base)]);
    let mut drivers = Vec::new();
    for driver in &split.drivers {
        let file = format!("{DRIVER}{}.img", driver.name);
        let mut archive = Archive::new();
        for (module, bytes) in content(kernel, &driver.files)? {
            let path = format!("lib/modules/{}/{module}", kernel.release);
            archive.file(&path, 0o644, bytes)?;
        }
        parts.insert(
            file.clone(),
            compress_cached(workspace, &archive.to_bytes(), reuse)?,
        );
        drivers.push(DriverArchive {
            file,
            aliases: driver.aliases.clone(),
        });
    }
    let index = DriverIndex {
        base: BASE.to_owned(),
        drivers,
    };
    let text = serde_json::to_vec(&index).expect("strings are always valid JSON");
    parts.insert(leaseboot_protocol::drivers::FILE.to_owned(), text);
    Ok(parts)
}

fn content<'a>(kernel: &Kernel, files: &'a BTreeSet<String>) -> Result<Vec<(&'a str, Vec<u8>)>, ImageError> {
    files
        .iter()
        .map(|file| Ok((file.as_str(), kernel.module(file)?)))
        .collect()
}

/// Everything but the agent. `modules` are the selection's files with their content.
///
/// # Errors
/// [`ArchiveError`] for a path that no archive takes.
pub fn drivers_archive<'a>(
    release: &str,
    selection: &Selection,
    modules: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
) -> Result<Archive, ArchiveError> {
    let mut archive = Archive::new();
    for (mount_point, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("tmp", 0o1777),
    ] {
        archive.insert(mount_point, Entry::Directory { mode })?;
    }
    // The kernel opens it for /init before anything is mounted.
    archive.insert(
        "dev/console",
        Entry::CharDevice {
            mode: 0o600,
            major: 5,
            minor: 1,
        },
    )?;
    let folder = format!("lib/modules/{release}");
    for (file, content) in modules {
        archive.file(&format!("{folder}/{file}"), 0o644, content)?;
    }
    for (name, text) in [
        ("modules.dep", &selection.dep),
        ("modules.alias", &selection.alias),
        ("modules.softdep", &selection.softdep),
        ("modules.builtin", &selection.builtin),
    ] {
        archive.file(&format!("{folder}/{name}"), 0o644, text.as_bytes())?;
    }
    Ok(archive)
}

/// The agent as `/init`.
///
/// # Errors
/// [`ArchiveError::TooLarge`] over 4 GiB.
pub fn agent_archive(agent: &[u8]) -> Result<Archive, ArchiveError> {
    let mut archive = Archive::new();
    archive.file("init", 0o755, agent)?;
    Ok(archive)
}

/// The digest of the shell of rescue mode, where the build has one: the agent takes no other. The shell itself is never loaded at a boot.
///
/// # Errors
/// [`ArchiveError`] for a path that no archive takes.
pub fn shell_archive(files: &BTreeMap<String, Vec<u8>>) -> Result<Archive, ArchiveError> {
    let mut archive = Archive::new();
    if let Some(shell) = files.get(leaseboot_protocol::rescue::SHELL_FILE) {
        let path = leaseboot_protocol::rescue::SHELL_DIGEST_PATH.trim_start_matches('/');
        archive.file(path, 0o444, format!("{}\n", Sha256::of(shell)))?;
    }
    Ok(archive)
}

/// One zstd frame with a checksum, so that the kernel sees corruption, padded to a place where another archive may begin.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let compressed = (|| {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        compressor.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        compressor.compress(bytes)
    })();
    let mut compressed = compressed.expect("compressing in memory with constant parameters does not fail");
    compressed.resize(compressed.len().next_multiple_of(ALIGNMENT), 0);
    compressed
}

fn compress_cached(workspace: &Workspace, bytes: &[u8], reuse: Reuse) -> Result<Vec<u8>, ImageError> {
    if reuse == Reuse::Nothing {
        return Ok(compress(bytes));
    }
    let library = zstd::zstd_safe::version_number();
    let name = format!("{}-{LEVEL}-{WINDOW_LOG}-{library}.zst", Sha256::of(bytes));
    let path = workspace.cache("zstd")?.join(name);
    if path.exists() {
        return workspace::read(&path);
    }
    println!(
        "stage1: compressing {:.2} MB of drivers",
        bytes.len() as f64 / 1e6
    );
    let compressed = compress(bytes);
    workspace::replace(&path, &compressed)?;
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_tree() -> Archive {
        let selection = Selection {
            files: ["kernel/b.ko".to_owned(), "kernel/a.ko".to_owned()].into(),
            dep: "kernel/a.ko:\nkernel/b.ko: kernel/a.ko\n".to_owned(),
            alias: String::new(),
            softdep: String::new(),
            builtin: String::new(),
        };
        let modules = [("kernel/b.ko", vec![2; 3000]), ("kernel/a.ko", vec![1; 5000])];
        drivers_archive("6.1", &selection, modules).unwrap()
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let make = || compress(&small_tree().to_bytes());
        assert_eq!(make(), make());
    }

    #[test]
    fn what_the_agent_relies_on_is_there() {
        let archive = small_tree();
        let paths: Vec<_> = archive.entries().map(|(path, _)| path).collect();
        for path in [
            "dev/console",
            "proc",
            "sys",
            "run",
            "tmp",
            "lib/modules/6.1/modules.dep",
            "lib/modules/6.1/kernel/a.ko",
        ] {
            assert!(paths.contains(&path), "{path} is missing from {paths:?}");
        }
    }

    #[test]
    fn a_compressed_archive_reads_back_and_ends_on_a_boundary() {
        let bytes = small_tree().to_bytes();
        let compressed = compress(&bytes);
        assert_eq!(compressed.len() % ALIGNMENT, 0);
        let frame = zstd::zstd_safe::find_frame_compressed_size(&compressed).unwrap();
        assert_eq!(zstd::decode_all(&compressed[..frame]).unwrap(), bytes);
        assert!(compressed[frame..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn corruption_is_seen() {
        let bytes = small_tree().to_bytes();
        let mut compressed = compress(&bytes);
        let frame = zstd::zstd_safe::find_frame_compressed_size(&compressed).unwrap();
        compressed[frame - 1] ^= 1; // within the checksum
        assert!(zstd::decode_all(&compressed[..frame]).is_err());
    }
}
