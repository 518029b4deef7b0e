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
    /// Whole disks, without removable ones.
    pub disks: Vec<Disk>,
    /// Ethernet cards.
    pub nics: Vec<Nic>,
    /// How the server was booted.
    pub firmware: Firmware,
    /// Maker's words, from the SMBIOS tables.
    pub dmi: Dmi,
    /// Whether the kernel found a trusted platform module.
    pub tpm: bool,
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

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether the link was up.
    #[serde(default)]
    pub carrier: bool,
}

/// How a server's firmware started the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
