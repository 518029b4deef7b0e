//! Which archives of drivers a server needs whose hardware is on record: what the image build writes into `drivers.json`, and what the
//! Lease Manager looks up there.
//!
//! Stage 1 comes in two forms: `stage1.img` with every driver, for servers that nobody knows, and [`DriverIndex::base`] with one archive for each
//! driver that the server's PCI functions ask for. A record has a function's vendor, device and class; what else a driver's alias asks for
//! (subsystem numbers) counts as met, so a server may be given a driver too many, never one too few.
//!
//! Aliases are those of modules.alias(5), as the kernel's `file2alias` writes them: `pci:v00008086d000010D3sv*sd*bc*sc*i*`, and
//! `virtio:d00000001v*` for what stands behind a paravirtual function.

use crate::hardware::PciDevice;
use serde::{Deserialize, Serialize};

/// The file's name beside the image's manifest.
pub const FILE: &str = "drivers.json";
/// PCI classes (PCI Code and ID Assignment Specification, 1.1).
const NETWORK_CLASS: &str = "02";
/// The vendor of paravirtual functions, and where their device numbers begin (virtio 1.2, 4.1.2).
const VIRTIO_VENDOR: &str = "1af4";
const VIRTIO_MODERN: u32 = 0x1040;
const VIRTIO_TRANSITIONAL: u32 = 0x1000;
/// The virtio device types of transitional functions `1000` to `1005`: network, block, balloon, console, SCSI, entropy.
const VIRTIO_TYPES: [u32; 6] = [1, 2, 5, 3, 8, 4];

/// The content of `drivers.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverIndex {
    /// The image file with the agent and all that serves every server.
    pub base: String,
    /// One archive for each driver, sorted by its file's name.
    pub drivers: Vec<DriverArchive>,
}

/// A driver with everything that it needs and that is not in the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverArchive {
    /// The image file.
    pub file: String,
    /// The devices that the driver is for.
    pub aliases: Vec<String>,
}

impl DriverIndex {
    /// The files for a server with these functions: the base, then its drivers. `None` when no driver for any of its network cards is
    /// among them: then the record is too poor, or too new, to choose by.
    pub fn choose(&self, functions: &[PciDevice]) -> Option<Vec<&str>> {
        let fits = |archive: &&DriverArchive, function: &PciDevice| {
            let fits = |alias: &String| Alias::parse(alias).is_some_and(|alias| alias.fits(function));
            archive.aliases.iter().any(fits)
        };
        let of_network = |function: &&PciDevice| function.class.starts_with(NETWORK_CLASS);
        let mut cards = functions.iter().filter(of_network);
        cards.find(|card| self.drivers.iter().any(|archive| fits(&archive, card)))?;
        let chosen = self
            .drivers
            .iter()
            .filter(|archive| functions.iter().any(|function| fits(archive, function)));
        let files = chosen.map(|archive| archive.file.as_str());
        Some(std::iter::once(self.base.as_str()).chain(files).collect())
    }
}

/// What of an alias a record can be held against. `None` stands for `*`.
#[derive(Debug, PartialEq, Eq)]
enum Alias {
    Pci {
        vendor: Option<u32>,
        device: Option<u32>,
        /// Class, subclass, programming interface.
        class: [Option<u32>; 3],
    },
    Virtio {
        device: Option<u32>,
    },
}

impl Alias {
    /// `None` for another bus, and for what no kernel writes.
    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("pci:") {
            let [vendor, device, _, _, class, subclass, interface] =
                fields(rest, ["v", "d", "sv", "sd", "bc", "sc", "i"])?;
            let class = [class, subclass, interface];
            return Some(Self::Pci {
                vendor,
                device,
                class,
            });
        }
        let [device, _] = fields(text.strip_prefix("virtio:")?, ["d", "v"])?;
        Some(Self::Virtio { device })
    }

    fn fits(&self, function: &PciDevice) -> bool {
        let Some((vendor, device)) = function.id.split_once(':') else {
            return false;
        };
        let meets = |wanted: &Option<u32>, found: Option<u32>| wanted.is_none() || *wanted == found;
        match self {
            Self::Pci {
                vendor: of,
                device: model,
                class,
            } => {
                let bytes = [0..2, 2..4, 4..6].map(|at| number(function.class.get(at)?));
                meets(of, number(vendor))
                    && meets(model, number(device))
                    && class
                        .iter()
                        .zip(bytes)
                        .all(|(wanted, found)| meets(wanted, found))
            }
            Self::Virtio { device: kind } => {
                vendor.eq_ignore_ascii_case(VIRTIO_VENDOR)
                    && number(device)
                        .and_then(virtio_type)
                        .is_some_and(|found| meets(kind, Some(found)))
            }
        }
    }
}

fn virtio_type(device: u32) -> Option<u32> {
    match device.checked_sub(VIRTIO_MODERN) {
        Some(kind) => Some(kind),
        None => {
            let at = usize::try_from(device.checked_sub(VIRTIO_TRANSITIONAL)?).ok()?;
            VIRTIO_TYPES.get(at).copied()
        }
    }
}

/// The values of an alias' fields, each a hexadecimal number or `*`, in this order. Values are written in capitals, names in small letters.
fn fields<const N: usize>(mut text: &str, names: [&str; N]) -> Option<[Option<u32>; N]> {
    let mut values = [None; N];
    for (value, name) in values.iter_mut().zip(names) {
        text = text.strip_prefix(name)?;
        let end = text.find(|c: char| c.is_ascii_lowercase()).unwrap_or(text.len());
        let (written, rest) = text.split_at(end);
        // The last field's number may be followed by a `*` as well.
        *value = match written.strip_suffix('*').unwrap_or(written) {
            "" if !written.is_empty() => None,
            digits => Some(number(digits)?),
        };
        text = rest;
    }
    text.is_empty().then_some(values)
}

fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn function(id: &str, class: &str) -> PciDevice {
        PciDevice {
            address: "0000:00:03.0".to_owned(),
            id: id.to_owned(),
            class: class.to_owned(),
        }
    }

    fn index() -> DriverIndex {
        let archive = |file: &str, aliases: &[&str]| DriverArchive {
            file: file.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        };
        DriverIndex {
            base: "base.img".to_owned(),
            drivers: vec![
                archive("ahci", &["pci:v*d*sv*sd*bc01sc06i01*"]),
                archive("e1000e", &["pci:v00008086d000010D3sv*sd*bc*sc*i*"]),
                archive("raid", &["pci:v00001000d00000016sv00001028sd00001F41bc*sc*i*"]),
                archive("virtio-net", &["virtio:d00000001v*"]),
                archive("virtio-pci", &["pci:v00001AF4d*sv*sd*bc*sc*i*"]),
            ],
        }
    }

    #[test]
    fn each_function_brings_its_driver() {
        let index = index();
        let functions = [
            function("8086:10d3", "020000"),
            function("8086:2922", "010601"),
            function("1000:0016", "010400"),
            function("10de:2330", "030200"),
        ];
        assert_eq!(
            index.choose(&functions).unwrap(),
            ["base.img", "ahci", "e1000e", "raid"]
        );
    }

    #[test]
    fn a_paravirtual_card_needs_its_bus_and_what_stands_behind_it() {
        let index = index();
        for id in ["1af4:1000", "1af4:1041"] {
            assert_eq!(
                index.choose(&[function(id, "020000")]).unwrap(),
                ["base.img", "virtio-net", "virtio-pci"]
            );
        }
        assert!(!Alias::Virtio { device: Some(1) }.fits(&function("1af4:1001", "010000")));
    }

    #[test]
    fn without_a_driver_for_a_card_nothing_is_chosen() {
        let index = index();
        assert_eq!(index.choose(&[]), None);
        assert_eq!(index.choose(&[function("8086:2922", "010601")]), None);
        assert_eq!(index.choose(&[function("15b3:1017", "020000")]), None);
    }

    #[test]
    fn an_alias_is_read_field_by_field() {
        assert_eq!(
            Alias::parse("pci:v00008086d000010D3sv*sd*bc02sc00i*"),
            Some(Alias::Pci {
                vendor: Some(0x8086),
                device: Some(0x10d3),
                class: [Some(2), Some(0), None],
            })
        );
        for text in [
            "",
            "pci:",
            "pci:v*",
            "usb:v*p*",
            "pci:vGGd*sv*sd*bc*sc*i*",
            "virtio:dv*",
        ] {
            assert_eq!(Alias::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(alias in "(pci:|virtio:)?[a-z0-9A-F*ü]{0,40}", id in ".{0,12}", class in ".{0,8}") {
            let index = DriverIndex {
                base: String::new(),
                drivers: vec![DriverArchive { file: String::new(), aliases: vec![alias] }],
            };
            let _ = index.choose(&[function(&id, &class)]);
        }
    }
}
