//! What a server is made of, as the agent reads it from the running kernel.

use crate::network::MacAddress;
use serde::{Deserialize, Serialize};

/// Everything that the agent found. A report: unknown fields are ignored and missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct HardwareReport {
    /// Machine name as uname(2) gives it, such as `x86_64`.
    pub architecture: String,
    /// The processors.
    pub cpu: Cpu,
    /// Memory that the kernel manages, in bytes (`MemTotal` of proc(5)); a little less than what is plugged in.
    pub memory_bytes: u64,
    /// What is plugged in, module by module; empty where the firmware does not tell.
    pub memory_modules: Vec<MemoryModule>,
    /// Whole disks, without removable ones.
    pub disks: Vec<Disk>,
    /// Ethernet cards.
    pub nics: Vec<Nic>,
    /// All PCI functions but bridges.
    pub pci: Vec<PciDevice>,
    /// How the server was booted.
    pub firmware: Firmware,
    /// Maker's words, from the SMBIOS tables.
    pub dmi: Dmi,
    /// Whether the kernel found a trusted platform module.
    pub tpm: bool,
    /// Its version, `2.0` or `1.2`; empty where the kernel does not tell.
    pub tpm_version: String,
}

/// The processors of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Cpu {
    /// The first processor's model name.
    pub model: String,
    /// Filled sockets.
    pub sockets: u32,
    /// Cores over all sockets.
    pub cores: u32,
    /// Hardware threads over all sockets.
    pub threads: u32,
    /// Feature flags as proc(5) names them.
    pub flags: Vec<String>,
}

/// A memory module, as SMBIOS (DSP0134) type 17 tells it; empty where the maker left a word out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct MemoryModule {
    /// The socket that it is plugged in, such as `DIMM_A1`.
    pub slot: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The fastest speed that it supports, in MT/s; 0 when unknown.
    pub speed_mts: u32,
    /// Its maker.
    pub vendor: String,
    /// The maker's part number.
    pub part: String,
    /// The maker's serial number.
    pub serial: String,
}

/// A PCI function. Its numbers are texts of lower-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PciDevice {
    /// Domain, bus, device and function, such as `0000:3b:00.0`. It may differ after a change of other cards.
    pub address: String,
    /// Vendor and device, such as `10de:2330`.
    pub id: String,
    /// Class, subclass and programming interface, such as `030200`.
    pub class: String,
}

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// NVM Express.
    Nvme,
    /// No moving parts, on another bus than NVMe.
    Ssd,
    /// Rotating platters.
    Rotating,
    /// Paravirtual, or a kind that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// A whole disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Disk {
    /// The kernel's name in stage 1, such as `vda`. It may differ after the next boot.
    pub name: String,
    /// The maker's serial number; empty when the disk has none.
    pub serial: String,
    /// The maker's model; empty when the disk has none.
    pub model: String,
    /// The name below `/dev/disk/by-id/` that udev gives the disk, such as `virtio-LAB0001`; empty without a serial number.
    pub by_id: String,
    /// Capacity in bytes.
    pub size_bytes: u64,
    /// What it is made of.
    pub kind: DiskKind,
}

/// An Ethernet card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Nic {
    /// The kernel's name in stage 1.
    pub name: String,
    /// Permanent hardware address.
    pub mac: MacAddress,
    /// The kernel driver; empty when unknown.
    #[serde(default)]
    pub driver: String,
    /// Speed of the link in Mbit/s, when there is a link that tells.
    #[serde(default)]
    pub speed_mbps: Option<u32>,
    /// The fastest speed that the card supports, in Mbit/s, where its driver tells.
    #[serde(default)]
    pub max_speed_mbps: Option<u32>,
    /// Whether the link was up.
    #[serde(default)]
    pub carrier: bool,
}

/// How a server's firmware started the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI with Secure Boot off.
    Uefi,
    /// UEFI with Secure Boot on.
    UefiSecureBoot,
    /// A kind that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Maker's words, as SMBIOS (DSP0134) types 1 and 2 give them; empty where the maker left them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Dmi {
    /// System manufacturer.
    pub vendor: String,
    /// Product name.
    pub product: String,
    /// System serial number.
    pub serial: String,
    /// System UUID.
    pub uuid: String,
}

/// Vendor and device of a PCI function, such as `10de:2330`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
}

/// The beginning of a PCI class code: class, or class and subclass, or all three bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciClass {
    bytes: [u8; 3],
    length: u8,
}

/// The text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct HexError {
    text: String,
    what: &'static str,
}

impl std::str::FromStr for PciId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let number = |digits: &str| {
            let plain = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            u16::from_str_radix(digits, 16).ok().filter(|_| plain)
        };
        let parts = text.split_once(':');
        let id = parts.and_then(|(vendor, device)| {
            Some(Self {
                vendor: number(vendor)?,
                device: number(device)?,
            })
        });
        id.ok_or_else(|| HexError {
            text: text.to_owned(),
            what: "a PCI vendor and device: four hexadecimal digits each, such as 10de:2330",
        })
    }
}

impl std::fmt::Display for PciId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl PciClass {
    /// Whether the code begins with these bytes.
    pub fn starts_with(&self, bytes: &[u8]) -> bool {
        self.bytes[..self.length.into()].starts_with(bytes)
    }

    /// Whether a function with this class code belongs to the class.
    pub fn contains(&self, class: Self) -> bool {
        class.starts_with(&self.bytes[..self.length.into()])
    }
}

impl std::str::FromStr for PciClass {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let mut bytes = [0; 3];
        let length = text.len() / 2;
        match bytes
            .get_mut(..length)
            .map(|bytes| hex::decode_to_slice(text, bytes))
        {
            Some(Ok(())) if length > 0 => Ok(Self {
                bytes,
                length: u8::try_from(length).unwrap_or(3),
            }),
            _ => Err(HexError {
                text: text.to_owned(),
                what: "a PCI class: two, four or six hexadecimal digits, such as 0302",
            }),
        }
    }
}

impl std::fmt::Display for PciClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.bytes[..self.length.into()]))
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = HexError;

            fn try_from(text: String) -> Result<Self, HexError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

as_text!(PciId);
as_text!(PciClass);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_contains_its_subclasses() {
        let class = |text: &str| text.parse::<PciClass>().unwrap();
        assert!(class("03").contains(class("030200")));
        assert!(class("0302").contains(class("030200")));
        assert!(!class("0300").contains(class("030200")));
        assert!(!class("030200").contains(class("0302")));
        for text in ["", "3", "030", "03020000", "0x", "ää"] {
            assert!(text.parse::<PciClass>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn devices_are_read_and_printed_alike() {
        assert_eq!("10DE:2330".parse::<PciId>().unwrap().to_string(), "10de:2330");
        for text in ["", "10de", "10de:", "10de:233", "+0de:2330", "10de:2330:1"] {
            assert!(text.parse::<PciId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_older_report_leaves_the_new_parts_empty() {
        let report: HardwareReport = serde_json::from_str(r#"{"tpm": true, "colour": 1}"#).unwrap();
        assert!(report.tpm && report.tpm_version.is_empty() && report.memory_modules.is_empty());
    }
}
