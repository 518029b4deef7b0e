//! `[[install_server]]` of `po.toml`: where installers fetch from, inside the enterprise.

use super::source::{ConfigError, Source};
use crate::passage::{InstallServer, Ports, Protocol};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use toml::Spanned;

/// One of them, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallServerTable {
    name: Spanned<String>,
    address: Spanned<Ipv4Addr>,
    ports: Vec<Spanned<PortsEntry>>,
    #[serde(default)]
    protocol: Protocol,
}

/// `80`, or `"30000-30100"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum PortsEntry {
    One(u16),
    Range(String),
}

impl PortsEntry {
    fn ports(&self) -> Option<Ports> {
        let (first, last) = match self {
            Self::One(port) => (*port, *port),
            Self::Range(text) => {
                let (first, last) = text.split_once('-')?;
                (first.trim().parse().ok()?, last.trim().parse().ok()?)
            }
        };
        (0 < first && first <= last).then_some((first, last))
    }
}

/// Looks at all of them. `reached` are the networks that servers send packets to through the tunnel.
pub(super) fn install_servers(
    source: &Source,
    tables: Vec<InstallServerTable>,
    reached: &[IpNet],
) -> Result<Vec<InstallServer>, ConfigError> {
    let mut servers: Vec<InstallServer> = Vec::new();
    for table in tables {
        let name = table.name.get_ref();
        if name.is_empty() || servers.iter().any(|server| server.name == *name) {
            let problem = format!("install_server has the name {name:?} that is empty or given twice");
            return Err(source.at(table.name.span(), problem));
        }
        let address = *table.address.get_ref();
        if !reached
            .iter()
            .any(|network| network.contains(&IpAddr::V4(address)))
        {
            let problem = format!(
                "install_server {address} is in no network of `tunnel` or `allowed`, so no server would send packets there; add its network to `allowed`"
            );
            return Err(source.at(table.address.span(), problem));
        }
        let mut ports = Vec::new();
        for entry in &table.ports {
            let read = entry.get_ref().ports();
            let problem = "a port is a number from 1 to 65535, or a range such as \"30000-30100\"";
            ports.push(read.ok_or_else(|| source.at(entry.span(), problem))?);
        }
        if ports.is_empty() {
            let problem = format!("install_server {name:?} has no ports; a package server has [80]");
            return Err(source.at(table.name.span(), problem));
        }
        servers.push(InstallServer {
            name: table.name.into_inner(),
            address,
            protocol: table.protocol,
            ports,
        });
    }
    Ok(servers)
}
