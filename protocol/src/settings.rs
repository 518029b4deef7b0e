//! What the enterprise wants installed. What it asks of the server stands in [`crate::requirements`].

use crate::digest::Sha256;
use crate::disk_image::DiskImage;
use crate::ids::Hostname;
use crate::installer::Installer;
use crate::network::TunnelSettings;
pub use crate::requirements::{DiskRequirement, Requirements};
use serde::{Deserialize, Serialize};

/// All that the enterprise gives the lender for one installation. Values that the lender must not learn stand in the
/// text as marks ([`crate::marks`]) and are listed by name only.
///
/// The text keeps the field's name `kickstart` from the first version, when there was no other language; [`Installer`] says what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstallSettings {
    /// The profile's name, for people.
    pub profile: String,
    /// The server's name inside the enterprise.
    pub hostname: Hostname,
    /// The installer that reads the text; absent means a kickstart of RHEL 9.
    #[serde(default)]
    pub installer: Installer,
    /// The text of the profile in that installer's language, without the lines that the lender owns.
    pub kickstart: String,
    /// Where in the enterprise that text stands, such as `profiles/web/web.ks`: errors name it with the line.
    pub kickstart_origin: String,
    /// The names of the marks in the text.
    pub sealed: Vec<String>,
    /// The server's end of the tunnel.
    pub tunnel: TunnelSettings,
    /// The image, which only the tunnel carries.
    pub image: TenantImage,
    /// Memory that the installer needs, in MiB; a smaller server is refused before it is powered on.
    pub min_memory_mib: u64,
    /// The machine that the image is built for, as uname(2) names it; absent means: nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// What the enterprise's server becomes. On the wire the two are told apart by their fields, so that an LM or agent of before disk images reads the
/// first as it always did, and refuses the second for its missing kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum TenantImage {
    /// An installer that is entered by kexec.
    Installer(BootImage),
    /// A whole disk that is written.
    Disk(DiskImage),
}

impl TenantImage {
    /// The installer, unless it is a disk.
    pub fn installer(&self) -> Option<&BootImage> {
        match self {
            TenantImage::Installer(image) => Some(image),
            TenantImage::Disk(_) => None,
        }
    }

    /// The disk, unless it is an installer.
    pub fn disk(&self) -> Option<&DiskImage> {
        match self {
            TenantImage::Disk(image) => Some(image),
            TenantImage::Installer(_) => None,
        }
    }
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
