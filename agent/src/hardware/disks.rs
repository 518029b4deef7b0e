//! Disks, from `/sys/block` (kernel document ABI/stable/sysfs-block), and the names that udev will give them in the installer.

use super::text;
use leaseboot_protocol::hardware::{Disk, DiskKind};
use std::fs;
use std::path::Path;

const SECTOR: u64 = 512;
/// Block devices that are no disks: loop devices, memory disks, optical drives, floppies, mappings.
const NO_DISKS: [&str; 7] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md"];

/// All whole, fixed disks, by name.
pub(super) fn read(block: &Path) -> Vec<Disk> {
    let mut names: Vec<_> = fs::read_dir(block)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names.retain(|name| !NO_DISKS.iter().any(|prefix| name.starts_with(prefix)));
    names.iter().filter_map(|name| disk(block, name)).collect()
}

fn disk(block: &Path, name: &str) -> Option<Disk> {
    let folder = block.join(name);
    let sectors: u64 = text(&folder.join("size")).parse().ok()?;
    if sectors == 0 || text(&folder.join("removable")) == "1" {
        return None;
    }
    let Identity { bus, model, serial } = identity(&folder, name);
    Some(Disk {
        name: name.to_owned(),
        by_id: by_id(bus, &model, &serial),
        serial,
        model,
        size_bytes: sectors * SECTOR,
        kind: kind(&folder, name),
    })
}

fn kind(folder: &Path, name: &str) -> DiskKind {
    match (name.get(..2), text(&folder.join("queue/rotational")).as_str()) {
        (Some("nv"), _) => DiskKind::Nvme,
        (Some("vd" | "xv"), _) => DiskKind::Other,
        (_, "1") => DiskKind::Rotating,
        _ => DiskKind::Ssd,
    }
}

struct Identity {
    bus: &'static str,
    model: String,
    serial: String,
}

fn identity(folder: &Path, name: &str) -> Identity {
    let device = |field: &str| text(&folder.join("device").join(field));
    if name.starts_with("nvme") {
        return Identity {
            bus: "nvme",
            model: device("model"),
            serial: device("serial"),
        };
    }
    if name.starts_with("vd") {
        return Identity {
            bus: "virtio",
            model: String::new(),
            serial: text(&folder.join("serial")),
        };
    }
    // SAT translates an ATA disk's name into a T10 identifier: 40 characters of model, 20 of serial number (SAT-4, 12.4.2.4).
    let identifier = device("wwid");
    if let Some(ata) = identifier.strip_prefix("t10.ATA") {
        let ata: String = ata.chars().skip(5).collect();
        let field = |range: std::ops::Range<usize>| ata.get(range).unwrap_or_default().trim().to_owned();
        let (model, serial) = (field(0..40), ata.get(40..).unwrap_or_default().trim().to_owned());
        return Identity {
            bus: "ata",
            model,
            serial,
        };
    }
    let vendor_and_model = format!("{} {}", device("vendor"), device("model"));
    Identity {
        bus: "scsi",
        model: vendor_and_model.trim().to_owned(),
        serial: unit_serial(folder),
    }
}

/// The vital product data page 0x80 of a SCSI disk: four bytes of header, then the serial number (SPC-5, 7.7.19).
fn unit_serial(folder: &Path) -> String {
    let page = fs::read(folder.join("device/vpd_pg80")).unwrap_or_default();
    String::from_utf8_lossy(page.get(4..).unwrap_or_default())
        .trim_matches(['\0', ' '])
        .to_owned()
}

/// The name below `/dev/disk/by-id/` by udev's rules for persistent storage: white space becomes `_`.
fn by_id(bus: &str, model: &str, serial: &str) -> String {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join("_");
    match (bus, plain(model), plain(serial)) {
        (_, _, serial) if serial.is_empty() => String::new(),
        ("virtio", _, serial) => format!("virtio-{}", serial.get(..20).unwrap_or(&serial)),
        ("scsi", _, _) => String::new(),
        (bus, model, serial) => format!("{bus}-{model}_{serial}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn reads_virtio_nvme_and_sata_disks_and_nothing_else() {
        let wwid = format!("t10.ATA     {:<40}{:<20}\n", "QEMU HARDDISK", "QM00001");
        let root = tree(&[
            ("vda/size", "8388608\n"),
            ("vda/serial", "LAB0001"),
            ("nvme0n1/size", "100\n"),
            (
                "nvme0n1/device/model",
                "QEMU NVMe Ctrl                          \n",
            ),
            ("nvme0n1/device/serial", "N1\n"),
            ("sda/size", "100\n"),
            ("sda/device/wwid", &wwid),
            ("sda/queue/rotational", "1\n"),
            ("sdb/size", "100\n"),
            ("sdb/removable", "1\n"),
            ("sr0/size", "100\n"),
            ("loop0/size", "0\n"),
        ]);
        let disks = read(root.path());
        let facts: Vec<_> = disks
            .iter()
            .map(|disk| (disk.name.as_str(), disk.by_id.as_str(), disk.kind))
            .collect();
        assert_eq!(
            facts,
            [
                ("nvme0n1", "nvme-QEMU_NVMe_Ctrl_N1", DiskKind::Nvme),
                ("sda", "ata-QEMU_HARDDISK_QM00001", DiskKind::Rotating),
                ("vda", "virtio-LAB0001", DiskKind::Other),
            ]
        );
        assert_eq!(disks[2].size_bytes, 4 << 30);
    }
}
