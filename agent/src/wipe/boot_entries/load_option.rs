//! What a boot entry is and where it leads: a pure function of bytes that a tenant may have written.
//!
//! Formats: `EFI_LOAD_OPTION` (UEFI 2.10, 3.1.3) and device paths (10.3): nodes of type, subtype, length in two bytes, and data.

/// What is read of a boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadOption {
    /// What it calls itself, fit for a log.
    pub(super) description: String,
    /// Where it leads.
    pub(super) target: Target,
}

/// Where a boot entry leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a fixed disk, or to a file on some disk: an installer made it, or the firmware will make it again.
    Disk,
    /// To the network, into the firmware itself, or somewhere that is not the tenant's.
    Elsewhere,
}

const LONGEST_DESCRIPTION: usize = 80;

const MESSAGING: u8 = 3;
const MEDIA: u8 = 4;
const END: u8 = 0x7f;

/// SCSI, SATA, SAS, NVMe namespace.
const DISK_BUSES: [u8; 4] = [2, 18, 22, 23];
/// MAC address, IPv4, IPv6, URI.
const NETWORKS: [u8; 4] = [11, 12, 13, 24];
/// A partition, and a file on whatever holds the firmware's default file system.
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
/// A file and a volume of the firmware's own flash.
const FIRMWARE: [u8; 2] = [6, 7];

/// Reads a boot entry; `None` when it is none.
pub(super) fn parse(value: &[u8]) -> Option<LoadOption> {
    let path_length = usize::from(u16::from_le_bytes(*value.get(4..6)?.first_chunk()?));
    let (units, _) = value.get(6..)?.as_chunks::<2>();
    let length = units.iter().position(|unit| *unit == [0, 0])?;
    let description = char::decode_utf16(units[..length].iter().copied().map(u16::from_le_bytes))
        .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(LONGEST_DESCRIPTION)
        .collect();
    let path = value.get(6 + 2 * (length + 1)..)?.get(..path_length)?;
    Some(LoadOption {
        description,
        target: target(path),
    })
}

/// A network on the way, or the firmware's own flash, outweighs everything else: HTTP boot entries carry files too.
fn target(path: &[u8]) -> Target {
    let nodes: Vec<(u8, u8)> = nodes(path).collect();
    let has = |kind: u8, subtypes: &[u8]| {
        nodes
            .iter()
            .any(|node| node.0 == kind && subtypes.contains(&node.1))
    };
    let own = has(MESSAGING, &NETWORKS) || has(MEDIA, &FIRMWARE);
    match has(MEDIA, &[HARD_DRIVE, FILE_PATH]) || has(MESSAGING, &DISK_BUSES) {
        true if !own => Target::Disk,
        _ => Target::Elsewhere,
    }
}

/// Types and subtypes up to the end of the first path; a node that is shorter than its own head ends it too.
fn nodes(mut path: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    std::iter::from_fn(move || {
        let &[kind, subtype, low, high] = path.first_chunk()?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == END || length < 4 {
            return None;
        }
        path = path.get(length..)?;
        Some((kind, subtype))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(kind: u8, subtype: u8, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len() + 4).unwrap().to_le_bytes();
        [&[kind, subtype, length[0], length[1]][..], data].concat()
    }

    fn entry(description: &str, nodes: &[Vec<u8>]) -> Vec<u8> {
        let path = [nodes.concat(), node(END, 0xff, &[])].concat();
        let text: Vec<u8> = description
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        let length = u16::try_from(path.len()).unwrap().to_le_bytes();
        [&[1, 0, 0, 0][..], &length, &text, &path, b"optional data"].concat()
    }

    /// As an installer makes it: HD(1,GPT,…)/File(\EFI\debian\shimx64.efi).
    pub(in crate::wipe::boot_entries) fn disk_entry(description: &str) -> Vec<u8> {
        entry(
            description,
            &[
                node(MEDIA, HARD_DRIVE, &[0; 38]),
                node(MEDIA, FILE_PATH, b"\\\0E\0\0\0"),
            ],
        )
    }

    /// As the firmware makes it: PciRoot(0)/Pci(3,0)/MAC(…)/IPv4(…).
    pub(in crate::wipe::boot_entries) fn network_entry(description: &str) -> Vec<u8> {
        let nodes = [
            node(2, 1, &[0; 8]),
            node(1, 1, &[0, 3]),
            node(MESSAGING, 11, &[0; 33]),
            node(MESSAGING, 12, &[0; 23]),
        ];
        entry(description, &nodes)
    }

    #[test]
    fn disks_are_told_from_the_network_and_the_firmware() {
        let where_to = |nodes: &[Vec<u8>]| parse(&entry("x", nodes)).unwrap().target;
        assert_eq!(
            parse(&disk_entry("debian")).unwrap(),
            LoadOption {
                description: "debian".to_owned(),
                target: Target::Disk
            }
        );
        assert_eq!(parse(&network_entry("PXE")).unwrap().target, Target::Elsewhere);
        assert_eq!(
            where_to(&[node(2, 1, &[0; 8]), node(MESSAGING, 18, &[0; 6])]),
            Target::Disk,
            "SATA"
        );
        assert_eq!(
            where_to(&[node(2, 1, &[0; 8]), node(MESSAGING, 23, &[0; 12])]),
            Target::Disk,
            "NVMe"
        );
        assert_eq!(
            where_to(&[node(MEDIA, 7, &[0; 16]), node(MEDIA, 6, &[0; 16])]),
            Target::Elsewhere,
            "the shell in the flash"
        );
        let http = [
            node(MESSAGING, 11, &[0; 33]),
            node(MESSAGING, 24, b"http://a/b.efi"),
            node(MEDIA, FILE_PATH, b"b\0\0\0"),
        ];
        assert_eq!(where_to(&http), Target::Elsewhere);
        assert_eq!(where_to(&[node(MESSAGING, 5, &[0; 2])]), Target::Elsewhere, "USB");
    }

    #[test]
    fn a_description_cannot_write_to_a_terminal() {
        let seen = parse(&disk_entry("a\u{1b}[2J\nb")).unwrap().description;
        assert_eq!(seen, "a [2J b");
    }

    proptest! {
        #[test]
        fn no_entry_is_too_strange(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&value);
        }

        #[test]
        fn a_cut_entry_is_none_or_the_same(cut in 0_usize..90) {
            let whole = disk_entry("debian");
            if let Some(option) = parse(&whole[..cut.min(whole.len())]) {
                prop_assert_eq!(option, parse(&whole).unwrap());
            }
        }
    }
}
