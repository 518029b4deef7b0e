//! What the profile says about a server's life after its installation. It is part of the order: pinned when the borrowing begins.

use leaseboot_protocol::ids::Hostname;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything after the installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// How the server is announced.
    #[serde(default)]
    pub announce: Announcement,
    /// What to do before the server is given back.
    #[serde(default)]
    pub drain: Option<Drain>,
}

/// A program that takes the load off a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Program and arguments.
    pub command: Vec<String>,
    /// For how many seconds it is tried.
    pub deadline_s: u64,
}

/// How a server in service is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The name of the service that it answers for, one label below the DNS zone.
    pub service: Option<Hostname>,
    /// Labels for inventories and for Prometheus.
    pub labels: BTreeMap<String, String>,
    /// TCP ports that Prometheus reads metrics from.
    pub metrics: Vec<u16>,
}
