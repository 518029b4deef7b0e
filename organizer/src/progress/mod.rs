//! What happened in a borrowing, in order, as it is stored, streamed and shown.
//!
//! [`phases`] folds the stream into phases with seconds and bytes, [`live`] adds where a transfer is, and [`estimate`] what is left of it,
//! by the courses of earlier ones that [`history`] reads. [`screen`] shows one transfer ([`bars`]) or several ([`board`]) while they go on,
//! [`table`] what came of them. They see nothing but the stream, so a follower who comes late or from another process sees the same.

pub mod bars;
pub mod board;
pub mod estimate;
pub mod history;
pub mod live;
pub mod phases;
pub mod screen;
pub mod table;

use crate::borrowing::machine::Outcome;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{Hostname, LeaseId, ServerId};
use leaseboot_protocol::lease::LeaseEvent;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One entry of a borrowing's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Position, counted from 1 without gaps.
    pub sequence: u64,
    /// When the PO learnt of it, by the PO's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub note: Note,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// The borrowing began.
    Created {
        /// The profile.
        profile: String,
        /// The server's name.
        hostname: Hostname,
        /// The server's address inside the tunnel.
        address: IpAddr,
    },
    /// Of several lenders, one was chosen.
    LenderChosen {
        /// Its name.
        lender: String,
        /// Why this one.
        why: String,
    },
    /// A lender does not lend; the others are asked.
    LenderPassedOver {
        /// Its name.
        lender: String,
        /// Why not.
        why: String,
    },
    /// The LM granted a lease.
    Granted {
        /// The lease.
        lease: LeaseId,
        /// The server.
        server: ServerId,
        /// What the server is made of, in words.
        hardware: String,
    },
    /// The PO agreed to the merged kickstart.
    Agreed {
        /// Its digest.
        kickstart_sha256: Sha256,
        /// How many lines the lender added.
        lender_lines: usize,
    },
    /// The LM took the order to boot.
    Ordered,
    /// Something happened at the lender.
    Lender {
        /// What.
        event: LeaseEvent,
    },
    /// A peer was let into the gateway.
    PeerIn {
        /// Its key.
        key: WireguardPublicKey,
        /// Whether the server's address belongs to it.
        has_address: bool,
    },
    /// A peer was dropped from the gateway.
    PeerOut {
        /// Its key.
        key: WireguardPublicKey,
    },
    /// Sealed values went to the server, through the tunnel.
    Unsealed {
        /// Their names.
        names: Vec<String>,
    },
    /// The installer registered the member's key.
    MemberKey,
    /// The member's key shook hands.
    MemberSeen,
    /// The member is there.
    InService {
        /// The server's name.
        hostname: Hostname,
        /// Its address.
        address: IpAddr,
    },
    /// The LM does not answer; the PO tries again.
    LenderSilent {
        /// Why not.
        error: String,
    },
    /// The LM answers again.
    LenderBack,
    /// The borrowing failed; the server, if there is one, goes back.
    Failed {
        /// Why.
        reason: String,
    },
    /// The server failed at the lender, and the lease has another one now.
    Moved {
        /// The server.
        server: ServerId,
    },
    /// The enterprise gives the server back.
    Releasing,
    /// The load is off the server.
    Drained,
    /// The load did not go in time; the server goes back nevertheless.
    DrainFailed {
        /// Why.
        error: String,
    },
    /// What is known of the server's erasure.
    Erasure {
        /// In words.
        summary: String,
    },
    /// Nothing more will happen.
    Over {
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A note that this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_survives_json() {
        let event: LeaseEvent = serde_json::from_str(
            r#"{"sequence":1,"at":5,"state":"stage1","kind":"step-progress","step":"kernel","bytes":1,"total":null}"#,
        )
        .unwrap();
        let notes = [
            Note::Lender { event },
            Note::Ordered,
            Note::Over {
                outcome: Outcome::Released,
            },
            Note::Over {
                outcome: Outcome::Failed {
                    reason: "x".to_owned(),
                },
            },
            Note::InService {
                hostname: "web-1".parse().unwrap(),
                address: "10.99.0.10".parse().unwrap(),
            },
        ];
        for note in notes {
            let progress = Progress {
                sequence: 1,
                at: Timestamp(2),
                note,
            };
            let json = serde_json::to_string(&progress).unwrap();
            assert_eq!(
                serde_json::from_str::<Progress>(&json).unwrap(),
                progress,
                "{json}"
            );
        }
        let later: Progress =
            serde_json::from_str(r#"{"sequence":1,"at":5,"note":"from-the-future","x":1}"#).unwrap();
        assert_eq!(later.note, Note::Unknown);
    }
}
