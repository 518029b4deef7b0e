//! Erasing a returned server: what the agent reports, and the record that the lender signs over it.
//!
//! The agent sends an [`ErasureReport`] to its LM (`PUT /v1/agent/erasure`). The LM makes an [`ErasureRecord`] of it, writes that down once as
//! JSON, and signs those very bytes with Ed25519 (RFC 8032). [`SignedErasure`] carries the bytes and not the parsed record, so nobody has
//! to agree on how JSON is written to check a signature. The PO fetches it (`GET /v1/leases/{id}/erasure`) and keeps it.

use crate::ids::{LeaseId, ServerId, TenantId};
use crate::timestamp::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a server in wipe mode is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WipeTask {
    /// The lease that ended.
    pub lease: LeaseId,
    /// Serial numbers of the disks that are on record; one that is missing on the server is a failed erasure.
    pub serials: Vec<String>,
}

/// How a disk was erased, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EraseMethod {
    /// NVMe Sanitize, cryptographic erase.
    NvmeSanitizeCrypto,
    /// NVMe Sanitize, block erase.
    NvmeSanitizeBlock,
    /// NVMe Format with a secure erase of user data.
    NvmeFormat,
    /// ATA SECURITY ERASE UNIT, enhanced.
    AtaSecureEraseEnhanced,
    /// ATA SECURITY ERASE UNIT.
    AtaSecureErase,
    /// Discard of all blocks, after which the whole disk read back as zeros.
    Discard,
    /// Zeros written over all blocks.
    Overwrite,
    /// A method that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for EraseMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EraseMethod::NvmeSanitizeCrypto => "NVMe sanitize (crypto)",
            EraseMethod::NvmeSanitizeBlock => "NVMe sanitize (block)",
            EraseMethod::NvmeFormat => "NVMe format",
            EraseMethod::AtaSecureEraseEnhanced => "ATA secure erase (enhanced)",
            EraseMethod::AtaSecureErase => "ATA secure erase",
            EraseMethod::Discard => "discard",
            EraseMethod::Overwrite => "overwrite",
            EraseMethod::Unknown => "unknown method",
        })
    }
}

/// What became of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskErasure {
    /// The kernel's name in stage 1, such as `sda`.
    pub name: String,
    /// The maker's serial number; empty when the disk has none.
    pub serial: String,
    /// The maker's model.
    pub model: String,
    /// Capacity in bytes.
    pub size_bytes: u64,
    /// How it went.
    #[serde(flatten)]
    pub outcome: DiskOutcome,
}

/// How the erasure of one disk went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum DiskOutcome {
    /// Erased, and samples that were read back held nothing of what was there.
    Erased {
        /// By the strongest method that the disk carried out.
        method: EraseMethod,
        /// Bytes that were read back and checked.
        checked_bytes: u64,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// Not erased: every method that the disk has failed, or a sample still held data.
    Failed {
        /// The errors, one for each method that was tried.
        errors: Vec<String>,
    },
    /// An outcome that this version does not know; it counts as failed.
    #[serde(other)]
    Unknown,
}

/// What the agent did in wipe mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErasureReport {
    /// Each disk that the kernel found, and each that was on record and is missing (as failed).
    pub disks: Vec<DiskErasure>,
    /// Boot entries that were removed from the firmware's NVRAM, by their descriptions.
    pub boot_entries_removed: Vec<String>,
    /// Why the firmware's boot entries could not be cleared, where that failed. On a BIOS there are none.
    pub boot_entries_error: Option<String>,
}

impl ErasureReport {
    /// Whether every disk was erased. A server without disks has nothing to erase.
    pub fn is_clean(&self) -> bool {
        self.disks
            .iter()
            .all(|disk| matches!(disk.outcome, DiskOutcome::Erased { .. }))
    }
}

/// What the lender vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErasureRecord {
    /// The lease that ended.
    pub lease: LeaseId,
    /// Whose data was erased.
    pub tenant: TenantId,
    /// The server.
    pub server: ServerId,
    /// When the LM took the report.
    pub at: Timestamp,
    /// What the agent did.
    pub report: ErasureReport,
}

/// An erasure record with the lender's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedErasure {
    /// The [`ErasureRecord`] as JSON text: the bytes that are signed.
    pub record: String,
    /// The Ed25519 signature over these bytes, in base64.
    pub signature: String,
    /// The lender's Ed25519 public key, in base64. Whoever checks the signature compares it with the key that the lender published.
    pub public_key: String,
}

/// The key that a lender signs its erasure records with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErasureKey {
    /// The Ed25519 public key, in base64.
    pub public_key: String,
}

impl fmt::Display for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.public_key)
    }
}

/// An erasure record cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// It was signed by somebody else.
    #[error("the record is signed with the key {found}, and the lender's is {published}")]
    OtherKey {
        /// The key beside the signature.
        found: String,
        /// The key that the lender published.
        published: String,
    },
    /// Key or signature is not what it should be.
    #[error("the {what} is not base64")]
    Base64 {
        /// Which.
        what: &'static str,
        /// Where it goes wrong.
        source: base64::DecodeError,
    },
    /// The signature is not over this record.
    #[error("the signature does not fit the record: one of the two was changed")]
    Changed,
    /// The record is authentic and makes no sense.
    #[error("the signature is good, and the record is not one that this version can read")]
    Content(#[source] serde_json::Error),
}

impl SignedErasure {
    /// The record, if the lender whose published key this is has signed it.
    ///
    /// # Errors
    /// [`ErasureError`].
    pub fn verify(&self, published: &ErasureKey) -> Result<ErasureRecord, ErasureError> {
        if self.public_key.trim() != published.public_key.trim() {
            return Err(ErasureError::OtherKey {
                found: self.public_key.clone(),
                published: published.public_key.clone(),
            });
        }
        let decode = |what, text: &str| {
            let decoded = STANDARD.decode(text.trim());
            decoded.map_err(|source| ErasureError::Base64 { what, source })
        };
        let key = decode("lender's key", &published.public_key)?;
        let signature = decode("signature", &self.signature)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(self.record.as_bytes(), &signature)
            .map_err(|_| ErasureError::Changed)?;
        serde_json::from_str(&self.record).map_err(ErasureError::Content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_from_the_future_does_not_count_as_erased() {
        let text = r#"{"disks":[{"name":"sda","serial":"S1","model":"M","size_bytes":1,"outcome":"melted"}],
            "boot_entries_removed":[],"boot_entries_error":null}"#;
        let report: ErasureReport = serde_json::from_str(text).unwrap();
        assert!(!report.is_clean());
    }
}
