//! What the partitions of `storage.config` need, and whether the logical volumes have room in their groups.
//!
//! Sizes as subiquity reads them: bytes, or a number with K, M, G, T or P by powers of 1024; `-1` is the rest, and percentages are of
//! what the installer finds.

use super::{DISK_ID, Document};
use crate::merge::disk::Need;
use crate::merge::problems::Problems;
use leaseboot_protocol::yaml::Node;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

/// What a size in the text means.
enum Size {
    Mib(u64),
    /// Found by the installer: the rest, or a part.
    Open,
}

pub(super) fn need<'a>(document: &Document<'a>, problems: &mut Problems<'_>) -> Need<'a> {
    let mut need = Need::default();
    let Some(config) = document
        .autoinstall()
        .get("storage")
        .and_then(|storage| storage.get("config"))
    else {
        return need;
    };
    let mut rooms: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for action in config.items() {
        let text = |name: &str| action.get(name).and_then(Node::text).unwrap_or_default();
        let kind = text("type");
        if kind == "lvm_volgroup" {
            let devices = action.get("devices").map(Node::items).unwrap_or_default();
            let room = devices
                .iter()
                .map(|device| device.text().and_then(|id| rooms.get(id).copied().flatten()));
            rooms.insert(text("id"), room.sum());
        }
        let Some(value) = action
            .get("size")
            .filter(|_| matches!(kind, "partition" | "lvm_partition"))
        else {
            continue;
        };
        let mib = match read(value.text().unwrap_or_default()) {
            Some(Size::Mib(mib)) => mib,
            Some(Size::Open) => continue,
            None => {
                let message =
                    "a size is a number of bytes, a number with K, M, G, T or P, a percentage, or -1"
                        .to_owned();
                problems.line(value.line, document.line(value.line), message);
                continue;
            }
        };
        if kind == "partition" {
            rooms.insert(text("id"), Some(mib));
            if text("device") == DISK_ID {
                need.add(mib, value.line, document.line(value.line));
            }
        } else if let Some(Some(room)) = rooms.get(text("volgroup")) {
            let sum = used.entry(text("volgroup")).or_default();
            *sum = sum.saturating_add(mib);
            if *sum > *room {
                let message = format!(
                    "the logical volumes of {} need {sum} MiB up to this line, and its devices have {room} MiB",
                    text("volgroup")
                );
                problems.line(value.line, document.line(value.line), message);
            }
        }
    }
    need
}

fn read(text: &str) -> Option<Size> {
    if text.starts_with('-') {
        return text.parse::<i64>().ok().map(|_| Size::Open);
    }
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse::<u64>().ok().map(|_| Size::Open);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_suffix('B').unwrap_or(&upper);
    let (number, shift) = match bare.chars().next_back()? {
        'K' => (&bare[..bare.len() - 1], 10),
        'M' => (&bare[..bare.len() - 1], 20),
        'G' => (&bare[..bare.len() - 1], 30),
        'T' => (&bare[..bare.len() - 1], 40),
        'P' => (&bare[..bare.len() - 1], 50),
        _ => (bare, 0),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits =
        |text: &str| !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let unit = 1u128 << shift;
    let fraction = unit * part.parse::<u128>().ok()? / 10u128.pow(u32::try_from(part.len()).ok()?);
    let bytes = whole.parse::<u128>().ok()? * unit + fraction;
    Some(Size::Mib(
        u64::try_from(bytes / u128::from(MIB)).unwrap_or(u64::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Size, read};

    #[test]
    fn sizes_are_read_as_subiquity_does() {
        for (text, mib) in [
            ("1048576", 1),
            ("512M", 512),
            ("1.5G", 1536),
            ("2GB", 2048),
            ("1t", 1 << 20),
        ] {
            assert!(
                matches!(read(text), Some(Size::Mib(found)) if found == mib),
                "{text}"
            );
        }
        assert!(matches!(read("-1"), Some(Size::Open)) && matches!(read("50%"), Some(Size::Open)));
        for wrong in ["", "G", "1X", "1..2G", "%", "-", "99999999999999999999G"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
