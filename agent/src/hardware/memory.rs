//! Memory modules, from the firmware's SMBIOS tables (DSP0134 3.7.0), which the kernel shows as one file.
//!
//! The tables come from firmware, so nothing in them is trusted: a structure that does not fit into the file ends the reading.

use leaseboot_protocol::hardware::MemoryModule;

/// Type 17, "Memory Device" (DSP0134, 7.18).
const MEMORY_DEVICE: u8 = 17;
/// Type 127, "End-of-Table".
const END: u8 = 127;
/// Type, length and handle of each structure.
const HEADER: usize = 4;

/// All filled sockets, in the order of the table.
pub(super) fn parse(mut table: &[u8]) -> Vec<MemoryModule> {
    let mut modules = Vec::new();
    while let Some((kind, structure, rest)) = next(table) {
        if kind == END {
            break;
        }
        if kind == MEMORY_DEVICE {
            modules.extend(module(&structure));
        }
        table = rest;
    }
    modules
}

struct Structure<'a> {
    fields: &'a [u8],
    strings: &'a [u8],
}

/// A structure's fields are as long as its header says; then come its strings, each ended by a zero, and one more zero.
fn next(table: &[u8]) -> Option<(u8, Structure<'_>, &[u8])> {
    let length = usize::from(*table.get(1)?);
    if length < HEADER {
        return None;
    }
    let (fields, rest) = (table.get(..length)?, table.get(length..)?);
    let end = rest.windows(2).position(|pair| pair == [0, 0])? + 2;
    let structure = Structure {
        fields,
        strings: &rest[..end],
    };
    Some((fields[0], structure, &rest[end..]))
}

impl Structure<'_> {
    fn byte(&self, offset: usize) -> u8 {
        self.fields.get(offset).copied().unwrap_or(0)
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset + 1)])
    }

    fn double_word(&self, offset: usize) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset + 2)) << 16
    }

    /// The string that the field names, counted from 1. What makers write where they know nothing is left out.
    fn string(&self, offset: usize) -> String {
        let Some(index) = usize::from(self.byte(offset)).checked_sub(1) else {
            return String::new();
        };
        let bytes = self.strings.split(|byte| *byte == 0).nth(index);
        let text = String::from_utf8_lossy(bytes.unwrap_or_default())
            .trim()
            .to_owned();
        match text.to_ascii_lowercase().as_str() {
            "unknown" | "not specified" | "none" | "no dimm" => String::new(),
            _ => text,
        }
    }
}

/// `None` for an empty socket.
fn module(structure: &Structure<'_>) -> Option<MemoryModule> {
    const MIB: u64 = 1 << 20;
    let size_bytes = match structure.word(0x0c) {
        // Empty, or of unknown size.
        0 | 0xffff => return None,
        0x7fff => u64::from(structure.double_word(0x1c) & 0x7fff_ffff) * MIB,
        size if size & 0x8000 != 0 => u64::from(size & 0x7fff) << 10,
        size => u64::from(size) * MIB,
    };
    let slot = match structure.string(0x10) {
        none if none.is_empty() => structure.string(0x11),
        slot => slot,
    };
    Some(MemoryModule {
        slot,
        size_bytes,
        speed_mts: structure.word(0x15).into(),
        vendor: structure.string(0x17),
        part: structure.string(0x1a),
        serial: structure.string(0x18),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structure(kind: u8, fields: &[(usize, &[u8])], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 0x28];
        (bytes[0], bytes[1]) = (kind, 0x28);
        for (offset, value) in fields {
            bytes[*offset..offset + value.len()].copy_from_slice(value);
        }
        for string in strings {
            bytes.extend(string.as_bytes());
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        bytes
    }

    #[test]
    fn filled_sockets_are_read_and_empty_ones_left_out() {
        let strings = ["DIMM_A1", "Acme", "S1", "P1 "];
        let words: [(usize, &[u8]); 5] = [
            (0x10, &[1]),
            (0x17, &[2]),
            (0x18, &[3]),
            (0x1a, &[4]),
            (0x15, &[0x80, 0x0c]),
        ];
        let sized = |size: &'static [u8], more: &'static [u8]| {
            let mut fields = words.to_vec();
            fields.extend([(0x0c, size), (0x1c, more)]);
            structure(MEMORY_DEVICE, &fields, &strings)
        };
        let table = [
            structure(0, &[], &[]),
            sized(&[0, 0x40], &[0; 4]),
            sized(&[0, 0], &[0; 4]),
            // 64 GiB stand in the extended field.
            sized(&[0xff, 0x7f], &[0, 0, 1, 0]),
            structure(END, &[], &[]),
            sized(&[0, 0x40], &[0; 4]),
        ]
        .concat();
        let modules = parse(&table);
        let sizes: Vec<_> = modules.iter().map(|module| module.size_bytes >> 30).collect();
        assert_eq!(sizes, [16, 64]);
        let MemoryModule {
            slot,
            speed_mts,
            vendor,
            part,
            serial,
            ..
        } = &modules[0];
        assert_eq!(
            (
                slot.as_str(),
                *speed_mts,
                vendor.as_str(),
                part.as_str(),
                serial.as_str()
            ),
            ("DIMM_A1", 3200, "Acme", "P1", "S1")
        );
    }

    #[test]
    fn words_that_say_nothing_are_left_out() {
        let fields: [(usize, &[u8]); 3] = [(0x0c, &[1, 0]), (0x10, &[1]), (0x18, &[9])];
        let table = structure(MEMORY_DEVICE, &fields, &["Not Specified"]);
        assert_eq!(
            (parse(&table)[0].slot.as_str(), parse(&table)[0].serial.as_str()),
            ("", "")
        );
    }

    proptest! {
        #[test]
        fn noise_is_read_to_its_end(noise in prop::collection::vec(any::<u8>(), 0..300), kind in prop::sample::select(vec![0u8, 17])) {
            let mut table = structure(kind, &[(0x0c, &[1, 0])], &["x"]);
            table.extend(noise);
            prop_assert!(parse(&table).len() <= 1 + table.len() / 6);
        }
    }
}
