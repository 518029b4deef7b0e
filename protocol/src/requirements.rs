//! What an enterprise asks of the servers that it borrows: of each one ([`Requirements`]) and of several together ([`Group`]).
//!
//! Strict, because people write it in profiles; every part that can be wrong is a type that is parsed once.

use crate::hardware::{DiskKind, Firmware, PciClass, PciId};
use crate::labels::LabelExpression;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Entries that each list of [`Requirements`] may have.
pub const MOST_ENTRIES: usize = 16;

/// What a server must have. Absent means: any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Requirements {
    /// Machine name as uname(2) gives it, such as `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// At least this many cores.
    pub min_cores: u32,
    /// At least this many hardware threads.
    pub min_threads: u32,
    /// Feature flags of the processor, as proc(5) names them, such as `avx512f`.
    pub cpu_flags: Vec<String>,
    /// At least this much memory, in MiB.
    pub min_memory_mib: u64,
    /// The disks that are needed, each list entry met by disks of its own.
    pub disks: Vec<DiskRequirement>,
    /// At least this many Ethernet cards.
    pub min_nics: u32,
    /// Ethernet cards of a speed, each list entry met by cards of its own.
    pub nics: Vec<NicRequirement>,
    /// PCI devices, such as accelerators, each list entry met by devices of its own.
    pub pci: Vec<PciRequirement>,
    /// How the server boots; absent means: any way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareRequirement>,
    /// A trusted platform module; absent means: none is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmRequirement>,
    /// Labels that the lender gave the server, each with this value.
    pub labels: BTreeMap<String, String>,
    /// An expression over the lender's labels, such as `rack in (a1, a2) and !gpu`.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub matching: Option<LabelExpression>,
    /// Which of the servers that meet all this are liked better. The sum of the weights decides before the size does.
    pub prefer: Vec<Preference>,
}

/// Disks that a server must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskRequirement {
    /// How many such disks.
    #[serde(default = "one")]
    pub count: u32,
    /// At least this large, in GiB (2^30 bytes).
    pub min_size_gib: u64,
    /// Of this kind; absent means: any.
    #[serde(default)]
    pub kind: Option<DiskKind>,
}

/// Ethernet cards that a server must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NicRequirement {
    /// How many such cards.
    #[serde(default = "one")]
    pub count: u32,
    /// At least this fast, in Mbit/s. A card whose speed is not known does not count.
    pub min_speed_mbps: u32,
}

/// PCI devices that a server must have: by vendor and device, by class, or by both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PciRequirement {
    /// How many such devices.
    #[serde(default = "one")]
    pub count: u32,
    /// Vendor and device, such as `10de:2330`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub device: Option<PciId>,
    /// The class, such as `0302` for 3D controllers (PCI Code and ID Assignment Specification), or the beginning of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub class: Option<PciClass>,
}

/// How a server must boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareRequirement {
    /// By PC BIOS.
    Bios,
    /// By UEFI, Secure Boot on or off.
    Uefi,
    /// By UEFI with Secure Boot on.
    UefiSecureBoot,
}

impl FirmwareRequirement {
    /// Whether a server that boots by `firmware` is meant.
    pub fn is_met_by(self, firmware: Firmware) -> bool {
        match self {
            FirmwareRequirement::Bios => firmware == Firmware::Bios,
            FirmwareRequirement::Uefi => matches!(firmware, Firmware::Uefi | Firmware::UefiSecureBoot),
            FirmwareRequirement::UefiSecureBoot => firmware == Firmware::UefiSecureBoot,
        }
    }
}

/// Which trusted platform module a server must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TpmRequirement {
    /// Of any version.
    #[serde(rename = "any")]
    Any,
    /// Of TPM 2.0 (ISO/IEC 11889:2015).
    #[serde(rename = "2.0")]
    V2,
}

/// Servers that are liked better, or worse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Which servers.
    #[serde(rename = "where")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub matching: LabelExpression,
    /// How much better; below zero: how much worse.
    pub weight: i32,
}

/// Several servers in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many servers.
    #[cfg_attr(feature = "openapi", schema(value_type = u32, minimum = 1))]
    pub count: NonZeroU32,
    /// Whether fewer will do.
    #[serde(default)]
    pub take: Take,
    /// A label of which no two of the servers may have the same value, such as `rack`. Servers without the label do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// A label of which all servers must have the same value, such as `room`. Servers without the label do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<String>,
}

/// What to do when there are fewer servers than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// Take none.
    #[default]
    AllOrNothing,
    /// Take those that there are, if there is one.
    AsManyAsThereAre,
}

impl Requirements {
    /// Whether a search can work with them: the lists are short enough, and each PCI entry says what it wants.
    ///
    /// # Errors
    /// A sentence for the one who asked.
    pub fn check(&self) -> Result<(), String> {
        let lists = [
            ("cpu_flags", self.cpu_flags.len()),
            ("disks", self.disks.len()),
            ("nics", self.nics.len()),
            ("pci", self.pci.len()),
            ("labels", self.labels.len()),
            ("prefer", self.prefer.len()),
        ];
        if let Some((list, length)) = lists.into_iter().find(|(_, length)| *length > MOST_ENTRIES) {
            return Err(format!(
                "requirements.{list} has {length} entries: {MOST_ENTRIES} are the most"
            ));
        }
        match self.pci.iter().any(|wanted| wanted.device.is_none() && wanted.class.is_none()) {
            true => Err(
                "requirements.pci has an entry without device, such as \"10de:2330\", and without class, such as \"0302\""
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_devices_are_asked_for_by_name_or_class() {
        let read = |json: &str| serde_json::from_str::<PciRequirement>(json);
        let gpu = read(r#"{"device": "10de:2330", "count": 8}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&gpu).unwrap(),
            r#"{"count":8,"device":"10de:2330"}"#
        );
        for (json, words) in [
            (r#"{"device": "10de"}"#, "\"10de\" is not"),
            (r#"{"class": "3"}"#, "\"3\" is not"),
            (r#"{"device": "10de:2330", "colour": 1}"#, "colour"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
        let anything = Requirements {
            pci: vec![read("{}").unwrap()],
            ..Requirements::default()
        };
        assert!(anything.check().unwrap_err().contains("without device"));
    }

    #[test]
    fn a_wrong_expression_is_refused_with_its_place() {
        let error = serde_json::from_str::<Requirements>(r#"{"where": "rack in (a"}"#).unwrap_err();
        assert!(error.to_string().starts_with("at character 11"), "{error}");
    }

    #[test]
    fn lists_are_bounded() {
        let mut requirements = Requirements::default();
        assert_eq!(requirements.check(), Ok(()));
        requirements.cpu_flags = vec!["aes".to_owned(); MOST_ENTRIES + 1];
        assert!(requirements.check().unwrap_err().contains("cpu_flags has 17"));
    }
}
