//! What the server is made of, read from `/proc` and `/sys`. Every reader takes the root of these trees, so that tests can give a
//! tree of their own. What cannot be read is left empty: a report with a gap is worth more than none.

mod cpu;
mod disks;
mod memory;
mod nics;
mod pci;
mod speeds;

use leaseboot_protocol::hardware::{Dmi, Firmware, HardwareReport};
use std::fs;
use std::path::Path;

/// Reads everything below `root` (`/` on a server).
pub(crate) fn report(root: &Path) -> HardwareReport {
    HardwareReport {
        architecture: nix::sys::utsname::uname()
            .map(|names| names.machine().to_string_lossy().into_owned())
            .unwrap_or_default(),
        cpu: cpu::read(root),
        memory_bytes: memory_bytes(&text(&root.join("proc/meminfo"))),
        // The file is there with any kernel that knows SMBIOS, unlike the entries of dmi-sysfs, which need a module.
        memory_modules: memory::parse(
            &fs::read(root.join("sys/firmware/dmi/tables/DMI")).unwrap_or_default(),
        ),
        disks: disks::read(&root.join("sys/block")),
        nics: nics::read(&root.join("sys/class/net")),
        pci: pci::read(&root.join("sys/bus/pci/devices")),
        firmware: firmware(root),
        dmi: dmi(&root.join("sys/class/dmi/id")),
        tpm: root.join("sys/class/tpm/tpm0").exists(),
        tpm_version: tpm_version(&root.join("sys/class/tpm/tpm0")),
    }
}

/// Its disks alone.
pub(crate) fn disks(root: &Path) -> Vec<leaseboot_protocol::hardware::Disk> {
    disks::read(&root.join("sys/block"))
}

/// `tpm_version_major` holds 1 or 2 (kernel document ABI/stable/sysfs-class-tpm).
fn tpm_version(folder: &Path) -> String {
    match text(&folder.join("tpm_version_major")).as_str() {
        "1" => "1.2".to_owned(),
        "2" => "2.0".to_owned(),
        _ => String::new(),
    }
}

/// A file's text without the white space around it; empty when there is none.
fn text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

fn firmware(root: &Path) -> Firmware {
    if !root.join("sys/firmware/efi").exists() {
        return Firmware::Bios;
    }
    // The variable's first four bytes are attributes (kernel document filesystems/efivarfs).
    let variable = root.join("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    match fs::read(variable).as_deref() {
        Ok([_, _, _, _, 1]) => Firmware::UefiSecureBoot,
        _ => Firmware::Uefi,
    }
}

fn dmi(folder: &Path) -> Dmi {
    let field = |name: &str| text(&folder.join(name));
    Dmi {
        vendor: field("sys_vendor"),
        product: field("product_name"),
        serial: field("product_serial"),
        uuid: field("product_uuid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_tree_gives_an_empty_report() {
        let root = tempfile::tempdir().unwrap();
        let report = report(root.path());
        assert_eq!(
            (report.memory_bytes, report.disks.len(), report.firmware),
            (0, 0, Firmware::Bios)
        );
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(
            memory_bytes("MemTotal:        2017012 kB\nMemFree: 1 kB"),
            2_017_012 * 1024
        );
    }
}
