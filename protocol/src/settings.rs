//! What the enterprise asks for (requirements) and what it wants installed (settings).

use crate::digest::Sha256;
use crate::hardware::DiskKind;
use crate::ids::Hostname;
use crate::network::TunnelSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a server must have. Absent means: any. Strict, because it is written by people in profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Requirements {
    /// Machine name as uname(2) gives it, such as `x86_64`.
    pub architecture: Option<String>,
    /// At least this many cores.
    pub min_cores: u32,
    /// At least this much memory, in MiB.
    pub min_memory_mib: u64,
    /// The disks that are needed, each list entry met by disks of its own.
    pub disks: Vec<DiskRequirement>,
    /// At least this many Ethernet cards.
    pub min_nics: u32,
    /// Labels that the lender gave the server, each with this value.
    pub labels: BTreeMap<String, String>,
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

fn one() -> u32 {
    1
}

/// All that the enterprise gives the lender for one installation. Values that the lender must not learn stand in the
/// kickstart as marks ([`crate::marks`]) and are listed by name only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstallSettings {
    /// The profile's name, for people.
    pub profile: String,
    /// The server's name inside the enterprise.
    pub hostname: Hostname,
    /// The kickstart of the profile, without the lines that the lender owns.
    pub kickstart: String,
    /// Where in the enterprise that text stands, such as `profiles/web/web.ks`: errors name it with the line.
    pub kickstart_origin: String,
    /// The names of the marks in the kickstart.
    pub sealed: Vec<String>,
    /// The server's end of the tunnel.
    pub tunnel: TunnelSettings,
    /// The boot image, which only the tunnel carries.
    pub image: BootImage,
    /// Memory that the installer needs, in MiB; a smaller server is refused before it is powered on.
    pub min_memory_mib: u64,
}

/// The enterprise's installer: kernel, initrd and the command line that its makers want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootImage {
    /// The kernel (bzImage).
    pub kernel: Blob,
    /// The initrd, in any compression that the kernel reads, or several archives one after the other.
    pub initrd: Blob,
    /// Kernel command line, without what leaseboot adds (`rdinit=`, `inst.ks=`, console).
    pub command_line: String,
}

/// A file that is known by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blob {
    /// Path on the gateway's service inside the tunnel, such as `/v1/image/kernel`.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of all bytes.
    pub sha256: Sha256,
}
