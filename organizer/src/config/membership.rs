//! The parts of a profile that are about the time after the installation: `[announce]`, `[drain]`, `[network]`.

use super::period::Period;
use super::source::{ConfigError, Source};
use crate::borrowing::membership::{Announcement, Drain, Membership, Network};
use ipnet::IpNet;
use leaseboot_protocol::ids::Hostname;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// `[announce]` of `profile.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnnounceTable {
    service: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    metrics: Vec<Spanned<u16>>,
}

/// `[drain]` of `profile.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainTable {
    command: Spanned<Vec<String>>,
    #[serde(default = "deadline")]
    deadline: Spanned<String>,
}

fn deadline() -> Spanned<String> {
    Spanned::new(0..0, "5m".to_owned())
}

/// `[network]` of `profile.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkTable {
    reach: Option<Vec<IpNet>>,
}

/// Looks at everything.
pub(super) fn membership(
    source: &Source,
    announce: AnnounceTable,
    drain: Option<DrainTable>,
    network: NetworkTable,
) -> Result<Membership, ConfigError> {
    Ok(Membership {
        announce: announcement(source, announce)?,
        drain: drain.map(|table| draining(source, table)).transpose()?,
        network: Network { reach: network.reach },
    })
}

fn draining(source: &Source, table: DrainTable) -> Result<Drain, ConfigError> {
    if table.command.get_ref().is_empty() {
        let problem = "command of [drain] is empty; name a program and its arguments, or remove [drain]";
        return Err(source.at(table.command.span(), problem));
    }
    let deadline = table.deadline.get_ref().parse::<Period>();
    let deadline = deadline.map_err(|error| source.at(table.deadline.span(), error.to_string()))?;
    Ok(Drain {
        command: table.command.into_inner(),
        deadline_s: deadline.seconds,
    })
}

fn announcement(source: &Source, table: AnnounceTable) -> Result<Announcement, ConfigError> {
    let service = table.service.map(|service| {
        let name = service.get_ref().parse::<Hostname>().ok();
        name.filter(|name| !name.as_str().contains('.')).ok_or_else(|| {
            let problem = format!(
                "service {:?} is not one label of a domain name; write one like \"shop\", the zone stands in po.toml",
                service.get_ref()
            );
            source.at(service.span(), problem)
        })
    });
    let mut labels = BTreeMap::new();
    for (name, value) in table.labels {
        if !is_label(name.get_ref()) {
            let problem = format!(
                "label {:?} is not a name of a-z, A-Z, 0-9 and _ that begins with a letter: Prometheus and Ansible take no other",
                name.get_ref()
            );
            return Err(source.at(name.span(), problem));
        }
        labels.insert(name.into_inner(), value);
    }
    if let Some(zero) = table.metrics.iter().find(|port| *port.get_ref() == 0) {
        return Err(source.at(zero.span(), "metrics names port 0; ports go from 1 to 65535"));
    }
    Ok(Announcement {
        service: service.transpose()?,
        labels,
        metrics: table.metrics.into_iter().map(Spanned::into_inner).collect(),
    })
}

fn is_label(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
