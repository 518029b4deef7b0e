//! PCI functions, from `/sys/bus/pci/devices` (kernel document ABI/testing/sysfs-bus-pci).

use super::text;
use leaseboot_protocol::hardware::PciDevice;
use std::fs;
use std::path::Path;

/// Bridges say nothing of what a server can do, and there are dozens (PCI Code and ID Assignment Specification, 1.7).
const BRIDGE: &str = "06";

/// All functions but bridges, by address.
pub(super) fn read(devices: &Path) -> Vec<PciDevice> {
    let mut found: Vec<_> = fs::read_dir(devices)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| device(&entry.path()))
                .collect()
        })
        .unwrap_or_default();
    found.sort_by(|a: &PciDevice, b: &PciDevice| a.address.cmp(&b.address));
    found
}

fn device(folder: &Path) -> Option<PciDevice> {
    let class = digits(folder, "class", 6)?;
    if class.starts_with(BRIDGE) {
        return None;
    }
    Some(PciDevice {
        address: folder.file_name()?.to_string_lossy().into_owned(),
        id: format!(
            "{}:{}",
            digits(folder, "vendor", 4)?,
            digits(folder, "device", 4)?
        ),
        class,
    })
}

/// The kernel writes such numbers as `0x10de`.
fn digits(folder: &Path, field: &str, length: usize) -> Option<String> {
    let digits = text(&folder.join(field)).strip_prefix("0x")?.to_ascii_lowercase();
    (digits.len() == length).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_devices_and_leaves_bridges_out() {
        let root = tempfile::tempdir().unwrap();
        let put = |address: &str, class: &str, vendor: &str| {
            let folder = root.path().join(address);
            fs::create_dir(&folder).unwrap();
            for (name, content) in [("class", class), ("vendor", vendor), ("device", "0x2330")] {
                fs::write(folder.join(name), format!("{content}\n")).unwrap();
            }
        };
        put("0000:3b:00.0", "0x030200", "0x10de");
        put("0000:00:00.0", "0x060000", "0x8086");
        put("0000:01:00.0", "0x020000", "broken");
        let found = read(root.path());
        assert_eq!(
            found,
            [PciDevice {
                address: "0000:3b:00.0".to_owned(),
                id: "10de:2330".to_owned(),
                class: "030200".to_owned(),
            }]
        );
    }
}
