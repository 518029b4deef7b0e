//! The lender's proof that a server which went back was erased: fetched once the lease has ended, verified against the key that came with the
//! lender's bundle, and kept with the borrowing. What cannot be verified is kept too, with the reason: it is what one shows the lender.

use crate::error_chain;
use leaseboot_protocol::erasure::{DiskOutcome, ErasureKey, ErasureRecord, SignedErasure};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is known of the erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "erasure", rename_all = "kebab-case")]
pub enum Erasure {
    /// The lender vouches for it, and every disk is clean.
    Clean {
        /// The server.
        server: ServerId,
        /// Each disk with its method, in words.
        disks: Vec<String>,
        /// The proof.
        signed: SignedErasure,
    },
    /// The lender vouches for its report, and not every disk is clean.
    NotClean {
        /// Each disk that is not, in words.
        faults: Vec<String>,
        /// The proof.
        signed: SignedErasure,
    },
    /// What the lender sent proves nothing.
    Doubtful {
        /// Why.
        reason: String,
        /// What it sent.
        signed: SignedErasure,
    },
    /// The lender has no record.
    None {
        /// What it says.
        reason: String,
    },
}

impl Erasure {
    /// Looks at what the lender sent for `lease`.
    pub fn judge(signed: SignedErasure, published: Option<&ErasureKey>, lease: &LeaseId) -> Self {
        let Some(published) = published else {
            let reason = "the lender's erasure.pub is not in the bundle, so nothing can be compared with it"
                .to_owned();
            return Erasure::Doubtful { reason, signed };
        };
        match signed.verify(published) {
            Err(error) => Erasure::Doubtful {
                reason: error_chain(&error),
                signed,
            },
            Ok(record) if record.lease != *lease => Erasure::Doubtful {
                reason: format!("the record is that of the lease {}", record.lease),
                signed,
            },
            Ok(record) => Self::read(record, signed),
        }
    }

    fn read(record: ErasureRecord, signed: SignedErasure) -> Self {
        let mut disks = Vec::new();
        let mut faults = Vec::new();
        for disk in record.report.disks {
            let name = if disk.serial.is_empty() {
                disk.name
            } else {
                disk.serial
            };
            match disk.outcome {
                DiskOutcome::Erased { method, .. } => disks.push(format!("{name}: {method}")),
                DiskOutcome::Failed { errors } => faults.push(format!("{name}: {}", errors.join("; "))),
                DiskOutcome::Unknown => {
                    faults.push(format!("{name}: an outcome that this version does not know"))
                }
            }
        }
        match faults.as_slice() {
            [] => Erasure::Clean {
                server: record.server,
                disks,
                signed,
            },
            _ => Erasure::NotClean { faults, signed },
        }
    }

    /// Whether the lender vouches for every disk.
    pub fn is_proven(&self) -> bool {
        matches!(self, Erasure::Clean { .. })
    }

    /// The signed record, if there is one.
    pub fn signed(&self) -> Option<&SignedErasure> {
        match self {
            Erasure::Clean { signed, .. }
            | Erasure::NotClean { signed, .. }
            | Erasure::Doubtful { signed, .. } => Some(signed),
            Erasure::None { .. } => None,
        }
    }
}

impl fmt::Display for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Erasure::Clean { server, disks, .. } => {
                write!(
                    f,
                    "the lender's signature on the erasure of {server} is good; {}",
                    disks.join(", ")
                )
            }
            Erasure::NotClean { faults, .. } => write!(f, "NOT every disk is erased: {}", faults.join(", ")),
            Erasure::Doubtful { reason, .. } => write!(f, "the erasure is NOT proven: {reason}"),
            Erasure::None { reason } => write!(f, "no erasure record: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_lenders_key_nothing_is_proven() {
        let signed = SignedErasure {
            record: "{}".to_owned(),
            signature: String::new(),
            public_key: "AAAA".to_owned(),
        };
        let lease = "l-1".parse().unwrap();
        let other = ErasureKey {
            public_key: "BBBB".to_owned(),
        };
        for published in [None, Some(&other)] {
            let judged = Erasure::judge(signed.clone(), published, &lease);
            assert!(matches!(judged, Erasure::Doubtful { .. }), "{judged}");
            assert_eq!(judged.signed(), Some(&signed));
        }
    }
}
