//! A borrowing as the control socket shows it.

use super::BorrowingId;
use super::machine::Outcome;
use crate::erasure::Erasure;
use crate::store::Record;
use leaseboot_protocol::ids::{Hostname, LeaseId, ServerId};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A borrowing as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BorrowingView {
    /// Its name.
    pub id: BorrowingId,
    /// The lender that was asked last, where po.toml names several.
    #[serde(default)]
    pub lender: Option<String>,
    /// The lease, once there is one.
    pub lease: Option<LeaseId>,
    /// The server, while there is one.
    pub server: Option<ServerId>,
    /// The profile.
    pub profile: String,
    /// The server's name.
    pub hostname: Hostname,
    /// The server's address.
    pub address: IpAddr,
    /// Where it stands, in words.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Why it failed, when it did.
    pub reason: Option<String>,
    /// When the lender takes the server back by itself, unless the lease is renewed.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// What is known of the server's erasure, once it went back.
    #[serde(default)]
    pub erasure: Option<Erasure>,
    /// The boot image that it was ordered with.
    #[serde(default)]
    pub image: Option<String>,
    /// Whether nothing more will happen.
    pub over: bool,
}

impl From<&Record> for BorrowingView {
    fn from(record: &Record) -> Self {
        let reason = match record.state.outcome() {
            Some(Outcome::Failed { reason }) => Some(reason.clone()),
            _ => None,
        };
        Self {
            id: record.id.clone(),
            lender: record.lender.clone(),
            lease: record.state.lease().cloned(),
            server: record.state.server().cloned(),
            profile: record.order.settings.profile.clone(),
            hostname: record.order.settings.hostname.clone(),
            address: record.order.address(),
            state: record.state.to_string(),
            since: record.since,
            reason,
            expires: record.heard.expires.filter(|_| record.state.outcome().is_none()),
            erasure: record.state.erasure().cloned(),
            image: record.order.image(),
            over: record.state.is_over(),
        }
    }
}
