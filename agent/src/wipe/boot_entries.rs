//! The firmware's boot entries: what a tenant's installer left in NVRAM is removed, what the lender's network boot needs stays.
//!
//! Variables `Boot####`, `BootOrder` and `BootNext` (UEFI 2.10, 3.3) by way of efivarfs (kernel document filesystems/efivarfs): a file for each, four
//! bytes of attributes and then the value. Which entries go is decided by [`load_option`] alone.

mod load_option;

use super::system_calls;
use crate::drivers::Drivers;
use crate::errors::{AnyError, chain};
use load_option::{LoadOption, Target};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "/sys/firmware/efi/efivars";
/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const ATTRIBUTES: usize = 4;
/// The kernel takes no larger variable from most firmware; a larger file is not read.
const LARGEST: u64 = 64 << 10;

/// What happened to the entries.
pub(super) struct Cleared {
    /// Descriptions of those that were removed.
    pub(super) removed: Vec<String>,
    /// Why some or all could not be.
    pub(super) error: Option<String>,
}

/// Removes the entries that point to disks. On a BIOS there are none.
pub(super) fn clear(drivers: &mut Drivers) -> Cleared {
    let mut removed = Vec::new();
    let done = match Path::new("/sys/firmware/efi").exists() {
        true => mount_variables(drivers).and_then(|()| clear_in(Path::new(FOLDER), &mut removed)),
        false => Ok(()),
    };
    Cleared {
        removed,
        error: done.err().map(|error| chain(error.as_ref()).join(": ")),
    }
}

fn mount_variables(drivers: &mut Drivers) -> Result<(), AnyError> {
    drivers.load("efivarfs")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("efivarfs"), FOLDER, Some("efivarfs"), flags, None::<&str>) {
        Ok(()) | Err(nix::Error::EBUSY) => Ok(()),
        Err(error) => Err(format!("cannot mount efivarfs on {FOLDER}: {error}").into()),
    }
}

fn clear_in(folder: &Path, removed: &mut Vec<String>) -> Result<(), AnyError> {
    let mut gone = Vec::new();
    let outcome = remove_entries(folder, removed, &mut gone);
    // Whatever happened meanwhile, the order must not name an entry that is gone.
    outcome.and(rewrite_order(folder, &gone))
}

fn remove_entries(folder: &Path, removed: &mut Vec<String>, gone: &mut Vec<u16>) -> Result<(), AnyError> {
    for (number, path) in entries(folder)? {
        let Some(option) = read(&path)?.as_deref().and_then(load_option::parse) else {
            continue;
        };
        let LoadOption { description, target } = option;
        if target == Target::Disk {
            remove(&path)?;
            gone.push(number);
            removed.push(description);
        }
    }
    Ok(())
}

/// The files of the variables `Boot####` by their numbers.
fn entries(folder: &Path) -> Result<BTreeMap<u16, PathBuf>, AnyError> {
    let listed =
        fs::read_dir(folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let numbered = listed.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let digits = name
            .to_str()?
            .strip_prefix("Boot")?
            .strip_suffix(GLOBAL)?
            .strip_suffix('-')?;
        let number = (digits.len() == 4).then(|| u16::from_str_radix(digits, 16).ok())??;
        Some((number, entry.path()))
    });
    Ok(numbered.collect())
}

fn rewrite_order(folder: &Path, gone: &[u16]) -> Result<(), AnyError> {
    if gone.is_empty() {
        return Ok(());
    }
    let variable = |name: &str| folder.join(format!("{name}-{GLOBAL}"));
    let numbers = |value: &[u8]| -> Vec<u16> {
        value
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(u16::from_le_bytes)
            .collect()
    };
    let next = variable("BootNext");
    if read(&next)?.is_some_and(|value| numbers(&value).iter().any(|number| gone.contains(number))) {
        remove(&next)?;
    }
    let order = variable("BootOrder");
    let Some(value) = read(&order)? else { return Ok(()) };
    let before = numbers(&value);
    let after: Vec<u16> = before
        .iter()
        .copied()
        .filter(|number| !gone.contains(number))
        .collect();
    match after.is_empty() {
        _ if after == before => Ok(()),
        true => remove(&order),
        false => write(
            &order,
            &after
                .iter()
                .copied()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>(),
        ),
    }
}

/// A variable's value, without its attributes; nothing when there is no such variable.
fn read(path: &Path) -> Result<Option<Vec<u8>>, AnyError> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error).into()),
        Ok(metadata) if metadata.len() > LARGEST => return Ok(None),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(failed)?;
    Ok(bytes.get(ATTRIBUTES..).map(<[u8]>::to_vec))
}

/// Writes a value with the attributes that the variable has, in one write as efivarfs demands.
fn write(path: &Path, value: &[u8]) -> Result<(), AnyError> {
    let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
    unlock(path).map_err(failed)?;
    let mut bytes = fs::read(path).map_err(failed)?;
    bytes.truncate(ATTRIBUTES);
    bytes.extend_from_slice(value);
    fs::write(path, bytes).map_err(|error| failed(error).into())
}

fn remove(path: &Path) -> Result<(), AnyError> {
    let done = unlock(path).and_then(|()| fs::remove_file(path));
    done.map_err(|error| format!("cannot remove {}: {error}", path.display()).into())
}

/// Takes the immutable flag away. A file system without flags has no immutable files.
fn unlock(path: &Path) -> io::Result<()> {
    match system_calls::clear_immutable(&File::open(path)?) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use load_option::tests::{disk_entry, network_entry};

    fn variable(folder: &Path, name: &str, value: &[u8]) {
        let mut bytes = vec![7, 0, 0, 0];
        bytes.extend_from_slice(value);
        fs::write(folder.join(format!("{name}-{GLOBAL}")), bytes).unwrap();
    }

    #[test]
    fn entries_of_disks_go_and_the_order_follows() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        variable(at, "Boot0000", &network_entry("UEFI PXEv4"));
        variable(at, "Boot000A", &disk_entry("debian"));
        variable(at, "Boot0002", &disk_entry("grub"));
        variable(at, "Boot0003", b"nonsense");
        variable(at, "BootOrder", &[0x0a, 0, 0, 0, 3, 0, 2, 0]);
        variable(at, "BootNext", &[2, 0]);
        variable(at, "BootCurrent", &[0, 0]);
        let mut removed = Vec::new();
        clear_in(at, &mut removed).unwrap();
        assert_eq!(removed, ["grub", "debian"]);
        let mut left: Vec<_> = fs::read_dir(at)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let names: Vec<_> = left.iter().map(|name| name.split('-').next().unwrap()).collect();
        assert_eq!(names, ["Boot0000", "Boot0003", "BootCurrent", "BootOrder"]);
        let order = fs::read(at.join(format!("BootOrder-{GLOBAL}"))).unwrap();
        assert_eq!(order, [7, 0, 0, 0, 0, 0, 3, 0]);
    }

    #[test]
    fn an_order_of_nothing_but_disks_goes_with_them() {
        let folder = tempfile::tempdir().unwrap();
        variable(folder.path(), "Boot0001", &disk_entry("debian"));
        variable(folder.path(), "BootOrder", &[1, 0]);
        let mut removed = Vec::new();
        clear_in(folder.path(), &mut removed).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
