//! The lender's word that a server was erased: what the agent reported, compared with what is on record, and signed.
//!
//! The record is written down as JSON once, and these very bytes are signed (Ed25519, RFC 8032), kept and handed out. A report that is not
//! clean is signed too: the record says what the lender found out, not only what pleases.

use crate::pki::{self, PkiError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leaseboot_protocol::erasure::{
    DiskErasure, DiskOutcome, ErasureKey, ErasureRecord, ErasureReport, SignedErasure,
};
use leaseboot_protocol::hardware::Disk;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Signs erasure records.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl Signer {
    /// A new private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn make_key() -> Result<Zeroizing<String>, PkiError> {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519);
        let key = made.map_err(|source| PkiError::Make {
            subject: "the erasure records' signer".to_owned(),
            source,
        })?;
        Ok(Zeroizing::new(key.serialize_pem()))
    }

    /// The key in `path`.
    ///
    /// # Errors
    /// [`PkiError::NoErasureKey`], [`PkiError::Read`], [`PkiError::Content`].
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let content = |problem: String| PkiError::Content {
            path: path.to_owned(),
            problem,
        };
        let read = pki::read(path).map_err(|error| match error {
            PkiError::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                PkiError::NoErasureKey { path, source }
            }
            other => other,
        });
        let pem = Zeroizing::new(read?);
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| content(error.to_string()))?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|error| content(format!("it is not an Ed25519 key in PKCS #8: {error}")))?;
        Ok(Self { key })
    }

    /// The public half.
    pub fn public_key(&self) -> ErasureKey {
        ErasureKey {
            public_key: STANDARD.encode(self.key.public_key().as_ref()),
        }
    }

    /// Writes the record down and signs it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn sign(&self, record: &ErasureRecord) -> Result<SignedErasure, serde_json::Error> {
        let record = serde_json::to_string(record)?;
        let signature = STANDARD.encode(self.key.sign(record.as_bytes()).as_ref());
        Ok(SignedErasure {
            record,
            signature,
            public_key: self.public_key().public_key,
        })
    }
}

/// Each disk that is not erased, in words. A disk that is on record and that the agent did not see may hold anything.
pub fn faults(report: &ErasureReport, on_record: &[Disk]) -> Vec<String> {
    let failed = report.disks.iter().filter_map(failure);
    let missing = on_record
        .iter()
        .filter(|disk| !disk.serial.is_empty())
        .filter_map(|disk| {
            let reported = report.disks.iter().any(|erased| erased.serial == disk.serial);
            (!reported).then(|| {
                format!(
                    "the disk {} ({}) is on record and was not found",
                    disk.name, disk.serial
                )
            })
        });
    let nameless =
        |serials: usize| format!("{serials} disks without serial number are on record and were not found");
    let recorded = on_record.iter().filter(|disk| disk.serial.is_empty()).count();
    let reported = report.disks.iter().filter(|disk| disk.serial.is_empty()).count();
    let lost = recorded.saturating_sub(reported);
    failed
        .chain(missing)
        .chain((lost > 0).then(|| nameless(lost)))
        .collect()
}

fn failure(disk: &DiskErasure) -> Option<String> {
    let what = match &disk.outcome {
        DiskOutcome::Erased { .. } => return None,
        DiskOutcome::Failed { errors } => errors.join("; "),
        DiskOutcome::Unknown => {
            "the agent reported something that this lease manager does not know".to_owned()
        }
    };
    Some(format!(
        "the disk {} ({}) is not erased: {what}",
        disk.name, disk.serial
    ))
}

/// How many disks are erased.
pub fn erased(report: &ErasureReport) -> u32 {
    let erased = report.disks.iter().filter(|disk| failure(disk).is_none()).count();
    u32::try_from(erased).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::erasure::{EraseMethod, ErasureError};
    use leaseboot_protocol::timestamp::Timestamp;

    fn disk(serial: &str) -> Disk {
        Disk {
            name: "sda".to_owned(),
            serial: serial.to_owned(),
            ..Disk::default()
        }
    }

    fn report(disks: &[(&str, bool)]) -> ErasureReport {
        let disks = disks.iter().map(|(serial, clean)| DiskErasure {
            name: "sda".to_owned(),
            serial: (*serial).to_owned(),
            model: String::new(),
            size_bytes: 1,
            outcome: match clean {
                true => DiskOutcome::Erased {
                    method: EraseMethod::Overwrite,
                    checked_bytes: 1,
                    took_ms: 1,
                },
                false => DiskOutcome::Failed {
                    errors: vec!["no".to_owned()],
                },
            },
        });
        ErasureReport {
            disks: disks.collect(),
            boot_entries_removed: Vec::new(),
            boot_entries_error: None,
        }
    }

    #[test]
    fn a_disk_that_failed_or_is_missing_is_a_fault() {
        assert!(faults(&report(&[("A", true), ("", true)]), &[disk("A"), disk("")]).is_empty());
        assert!(faults(&report(&[("A", true), ("B", true)]), &[disk("A")]).is_empty());
        let swapped = faults(&report(&[("B", true)]), &[disk("A")]);
        assert!(
            swapped[0].contains("(A) is on record and was not found"),
            "{swapped:?}"
        );
        let failed = faults(&report(&[("A", false)]), &[disk("A")]);
        assert_eq!(failed, ["the disk sda (A) is not erased: no"]);
        assert_eq!(faults(&report(&[("", true)]), &[disk(""), disk("")]).len(), 1);
    }

    #[test]
    fn anybody_can_check_a_record_and_nobody_can_change_one() {
        let folder = tempfile::tempdir().unwrap();
        let signer = |name: &str| {
            let path = folder.path().join(name);
            pki::write_private(&path, Signer::make_key().unwrap().as_bytes()).unwrap();
            Signer::load(&path).unwrap()
        };
        let (ours, other) = (signer("a.key"), signer("b.key"));
        let record = ErasureRecord {
            lease: "l-1".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            server: "s1".parse().unwrap(),
            at: Timestamp(1),
            report: report(&[("A", true)]),
        };
        let key = ours.public_key();
        let signed = ours.sign(&record).unwrap();
        assert_eq!(signed.verify(&key).unwrap(), record);
        assert!(matches!(
            signed.verify(&other.public_key()),
            Err(ErasureError::OtherKey { .. })
        ));
        let forged = SignedErasure {
            public_key: key.public_key.clone(),
            ..other.sign(&record).unwrap()
        };
        assert!(matches!(forged.verify(&key), Err(ErasureError::Changed)));
        let changed = SignedErasure {
            record: signed.record.replace("acme", "acne"),
            ..signed
        };
        assert!(matches!(changed.verify(&key), Err(ErasureError::Changed)));
    }
}
