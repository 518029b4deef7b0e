//! How stage 1 hands the server over to the enterprise's kernel.
//!
//! The first way is kexec: from memory to memory, in a second. Some boards hang in it, because a device that the first kernel had set up is never
//! reset for the second one. The other way goes through the firmware: the agent stages kernel, initrd and archive on the disk that is about
//! to be installed, tells their digests, and the boot loader of the next start, which the lender's wire brings, takes them from there. So in
//! neither way a byte of the enterprise's crosses the lender's wire outside of the tunnel.

use crate::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The way into the second kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Handover {
    /// kexec: the running kernel loads the next one and enters it.
    #[default]
    Kexec,
    /// The firmware starts the boot loader once more, which finds everything on the server's own disk.
    Disk,
    /// A way that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Handover {
    /// The way to try when this one led nowhere.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Handover::Kexec => Handover::Disk,
            Handover::Disk | Handover::Unknown => Handover::Kexec,
        }
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Handover::Kexec => "kexec",
            Handover::Disk => "the server's own disk",
            Handover::Unknown => "an unknown way",
        })
    }
}

/// The name of the folder on the staging partition: 128 random bits as 32 lower-case hexadecimal digits, new for each staging, so that a boot
/// loader which looks for it on every disk finds this one and no older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
pub struct StagingId(String);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not the name of a staging: 32 lower-case hexadecimal digits are needed")]
pub struct StagingIdError {
    text: String,
}

impl StagingId {
    /// The name for these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StagingId {
    type Error = StagingIdError;

    fn try_from(text: String) -> Result<Self, StagingIdError> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == 32 {
            Ok(Self(text))
        } else {
            Err(StagingIdError { text })
        }
    }
}

impl FromStr for StagingId {
    type Err = StagingIdError;

    fn from_str(text: &str) -> Result<Self, StagingIdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<StagingId> for String {
    fn from(id: StagingId) -> String {
        id.0
    }
}

impl fmt::Display for StagingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What lies staged, by digests only: the LM pins them in the next boot's script and learns nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StagedFiles {
    /// The folder.
    pub id: StagingId,
    /// Digest of [`STAGED_KERNEL`].
    pub kernel: Sha256,
    /// Digest of [`STAGED_RAMDISK`].
    pub ramdisk: Sha256,
    /// Digest of [`STAGED_START`].
    pub start: Sha256,
}

/// The enterprise's kernel in the staging folder.
pub const STAGED_KERNEL: &str = "kernel";
/// The enterprise's initrd and the agent's archive behind it.
pub const STAGED_RAMDISK: &str = "ramdisk";
/// The commands of GRUB that load and enter both, with the kernel command line. They expect the partition in `$staged`.
pub const STAGED_START: &str = "start.cfg";

impl StagedFiles {
    /// The digests in the form of sha256sum(1), which GRUB's `hashsum --check` reads.
    pub fn sums(&self) -> String {
        let line = |(digest, name): (&Sha256, &str)| format!("{digest}  {name}\n");
        [
            (&self.kernel, STAGED_KERNEL),
            (&self.ramdisk, STAGED_RAMDISK),
            (&self.start, STAGED_START),
        ]
        .map(line)
        .concat()
    }
}

/// Where the staged files lie, for the wrapper that removes them: these facts are themselves among the staged files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedDisk {
    /// The disk, as `/dev/disk/by-id` names it.
    pub disk: String,
    /// Everything that was written lies below this many bytes from the disk's begin, but for the spare partition table at its end.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_folder_is_no_name() {
        for text in [
            "",
            "../../../../../../../etc/shadow00",
            "0123",
            "0123456789ABCDEF0123456789ABCDEF",
        ] {
            assert!(text.parse::<StagingId>().is_err(), "{text:?}");
        }
        let id = StagingId::from_random([0xab; 16]);
        assert_eq!(id.as_str().parse::<StagingId>().unwrap(), id);
    }

    #[test]
    fn sums_are_what_sha256sum_writes() {
        let digest = Sha256::of(b"x");
        let staged = StagedFiles {
            id: StagingId::from_random([0; 16]),
            kernel: digest,
            ramdisk: digest,
            start: digest,
        };
        assert_eq!(
            staged.sums(),
            format!("{digest}  kernel\n{digest}  ramdisk\n{digest}  start.cfg\n")
        );
    }

    #[test]
    fn a_way_of_a_later_version_is_read() {
        let way: Handover = serde_json::from_str("\"teleport\"").unwrap();
        assert_eq!(way, Handover::Unknown);
    }
}
