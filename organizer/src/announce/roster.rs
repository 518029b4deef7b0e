//! The servers that the enterprise may count on, as everybody should see them. Pure: the roster is a function of the borrowings.

use crate::borrowing::machine::State;
use crate::borrowing::{BorrowingId, Order};
use leaseboot_protocol::ids::{Hostname, LeaseId, ServerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A server in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its borrowing.
    pub borrowing: BorrowingId,
    /// Its lease.
    pub lease: LeaseId,
    /// Its name at the lender.
    pub server: ServerId,
    /// Its name.
    pub hostname: Hostname,
    /// Its address inside the tunnel.
    pub address: IpAddr,
    /// Its profile.
    pub profile: String,
    /// The name of the service that it answers for, one label below the zone.
    pub service: Option<Hostname>,
    /// Labels of the profile.
    pub labels: BTreeMap<String, String>,
    /// TCP ports that Prometheus reads metrics from.
    pub metrics: Vec<u16>,
}

impl Entry {
    /// The entry of a borrowing; `None` when its server is not to be counted on.
    pub fn of(id: &BorrowingId, order: &Order, state: &State) -> Option<Self> {
        if !state.is_announced() {
            return None;
        }
        let announce = order.membership.announce.clone();
        Some(Self {
            borrowing: id.clone(),
            lease: state.lease()?.clone(),
            server: state.server()?.clone(),
            hostname: order.settings.hostname.clone(),
            address: order.address(),
            profile: order.settings.profile.clone(),
            service: announce.service,
            labels: announce.labels,
            metrics: announce.metrics,
        })
    }
}

/// All servers in service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Counts the changes, so that a reader can tell what it has seen.
    pub version: u64,
    /// The servers.
    pub entries: BTreeMap<BorrowingId, Entry>,
}

impl Roster {
    /// Puts a borrowing in its place; says whether that changed anything.
    pub fn set(&mut self, id: &BorrowingId, entry: Option<Entry>) -> bool {
        let changed = match entry {
            Some(entry) if self.entries.get(id) != Some(&entry) => {
                self.entries.insert(id.clone(), entry);
                true
            }
            Some(_) => false,
            None => self.entries.remove(id).is_some(),
        };
        self.version += u64::from(changed);
        changed
    }
}

#[cfg(test)]
pub(super) fn sample(n: u8) -> Entry {
    Entry {
        borrowing: BorrowingId::from_text(format!("b-{n}")),
        lease: format!("l-{n}").parse().unwrap(),
        server: format!("rack-{n}").parse().unwrap(),
        hostname: format!("web-{n}").parse().unwrap(),
        address: IpAddr::from([10, 99, 0, n]),
        profile: "web".to_owned(),
        service: Some("shop".parse().unwrap()),
        labels: BTreeMap::from([("tier".to_owned(), "front".to_owned())]),
        metrics: vec![9100],
    }
}
