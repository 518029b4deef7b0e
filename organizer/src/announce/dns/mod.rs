//! Names in the enterprise's DNS, by dynamic update (RFC 2136), signed with a shared key (TSIG, RFC 8945).
//!
//! | record | for |
//! |---|---|
//! | `HOST.zone A` or `AAAA` | each server |
//! | `SERVICE.zone A` or `AAAA` | each server whose profile names a service: all of them answer behind one name |
//! | `….in-addr.arpa PTR` | each server, when `reverse` is set |
//!
//! Each record is added and removed for itself, never a whole set: a service's name may have servers of the enterprise's own beside the
//! borrowed ones, and what the PO did not put there it does not take away. An addition removes the same record first, so that it may be
//! repeated and brings a new TTL. Names, not the configuration of the day, are in the journal: a record of a zone that the
//! configuration no longer names is still removed.

mod update;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use update::believe;
pub use update::{UpdateError, send};

use super::plan::{Act, Step, Subject, Wanted};
use super::reconcile::Channel;
use super::{Entry, Roster};
use crate::config::DnsConfig;
use crate::error_chain;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Its name in the journal.
pub const NAME: &str = "dns";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// An `A` or `AAAA` record.
    Address(IpAddr),
    /// A `PTR` record.
    Pointer(String),
}

/// One record of one zone. Names are absolute, with a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRecord {
    /// The zone that is updated.
    pub zone: String,
    /// The record's name.
    pub name: String,
    /// Seconds that resolvers may keep it.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

impl fmt::Display for NamedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.data {
            Data::Address(address @ IpAddr::V4(_)) => write!(f, "{} A {address}", self.name),
            Data::Address(address) => write!(f, "{} AAAA {address}", self.name),
            Data::Pointer(name) => write!(f, "{} PTR {name}", self.name),
        }
    }
}

/// The records of one server.
fn records(config: &DnsConfig, entry: &Entry) -> Vec<NamedRecord> {
    let forward = |label: &str| NamedRecord {
        zone: config.zone.clone(),
        name: format!("{label}.{}", config.zone),
        ttl: config.ttl_s,
        data: Data::Address(entry.address),
    };
    let mut records = vec![forward(entry.hostname.as_str())];
    records.extend(entry.service.iter().map(|service| forward(service.as_str())));
    records.extend(config.reverse.iter().map(|zone| NamedRecord {
        zone: zone.clone(),
        name: reverse_name(entry.address),
        ttl: config.ttl_s,
        data: Data::Pointer(format!("{}.{}", entry.hostname, config.zone)),
    }));
    records
}

/// The name under which an address is looked up (RFC 1035, 3.5, and RFC 3596, 2.5).
pub fn reverse_name(address: IpAddr) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    match address {
        IpAddr::V4(address) => {
            for byte in address.octets().iter().rev() {
                let _ = write!(name, "{byte}.");
            }
            name + "in-addr.arpa."
        }
        IpAddr::V6(address) => {
            for byte in address.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", byte & 15, byte >> 4);
            }
            name + "ip6.arpa."
        }
    }
}

/// The DNS server as a channel.
pub(super) struct Dns {
    config: DnsConfig,
}

impl Dns {
    pub(super) fn new(config: DnsConfig) -> Self {
        Self { config }
    }
}

impl Channel for Dns {
    const NAME: &'static str = NAME;
    const TRIES: Option<u32> = None;
    type Shown = NamedRecord;
    type Error = UpdateError;

    fn wanted(&self, roster: &Roster) -> BTreeMap<Subject, Wanted<NamedRecord>> {
        let of = |entry: &Entry| {
            let borrowing = entry.borrowing.clone();
            records(&self.config, entry).into_iter().map(move |shown| {
                let borrowing = borrowing.clone();
                (shown.to_string(), Wanted { borrowing, shown })
            })
        };
        roster.entries.values().flat_map(of).collect()
    }

    async fn carry_out(&self, step: &Step<NamedRecord>) -> Result<(), UpdateError> {
        send(&self.config, &step.shown, step.act == Act::Tell).await
    }
}

/// Without a server in the configuration, what was told an earlier one cannot be taken back.
pub(super) async fn complain_of_leftovers(store: Store) {
    match store.announced::<NamedRecord>(NAME).await {
        Ok(rows) if rows.is_empty() => {}
        Ok(rows) => {
            let records: Vec<_> = rows.into_keys().collect();
            tracing::error!(
                ?records,
                "records are left over in the DNS: put [announce.dns] back into po.toml and they are removed"
            );
        }
        Err(error) => tracing::error!(
            error = error_chain(&error),
            "the journal of the DNS cannot be read"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::roster::sample;

    fn config() -> DnsConfig {
        DnsConfig {
            server: "127.0.0.1:53".parse().unwrap(),
            zone: "borrowed.example.".to_owned(),
            reverse: Some("99.10.in-addr.arpa.".to_owned()),
            key_name: "leaseboot".to_owned(),
            key: "dns.key".into(),
            ttl_s: 60,
        }
    }

    #[test]
    fn each_server_has_its_records_and_a_service_has_all_of_its_servers() {
        let mut roster = Roster::default();
        for n in [1, 2] {
            let entry = sample(n);
            roster.set(&entry.borrowing.clone(), Some(entry));
        }
        let wanted = Dns::new(config()).wanted(&roster);
        let names: Vec<_> = wanted.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "1.0.99.10.in-addr.arpa. PTR web-1.borrowed.example.",
                "2.0.99.10.in-addr.arpa. PTR web-2.borrowed.example.",
                "shop.borrowed.example. A 10.99.0.1",
                "shop.borrowed.example. A 10.99.0.2",
                "web-1.borrowed.example. A 10.99.0.1",
                "web-2.borrowed.example. A 10.99.0.2",
            ]
        );
    }

    #[test]
    fn addresses_are_looked_up_backwards() {
        let v6 = reverse_name("2001:db8::567:89ab".parse().unwrap());
        assert_eq!(
            v6,
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
    }
}
