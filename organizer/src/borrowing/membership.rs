//! What the profile says about a server's life after its installation. It is part of the order: pinned when the borrowing begins.

use ipnet::IpNet;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::network::TunnelSettings;
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
    /// What it reaches as a member.
    #[serde(default)]
    pub network: Network,
}

/// What a member reaches through its tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Networks that it routes into the tunnel, besides the tunnel's own; without it, those that the installer had.
    pub reach: Option<Vec<IpNet>>,
}

impl Network {
    /// The member's tunnel, made of the one that the installer has.
    pub fn tunnel(&self, installer: &TunnelSettings) -> TunnelSettings {
        let mut tunnel = installer.clone();
        if let Some(reach) = &self.reach {
            let own = installer.address.trunc();
            let further = reach.iter().map(IpNet::trunc).filter(|network| *network != own);
            tunnel.allowed_ips = std::iter::once(own).chain(further).collect();
        }
        tunnel
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::borrowing::machine::tests::order;

    fn networks(reach: Option<&[&str]>) -> Vec<String> {
        let parse = |text: &&str| text.parse().unwrap();
        let reach = reach.map(|reach| reach.iter().map(parse).collect());
        let tunnel = Network { reach }.tunnel(&order().settings.tunnel);
        tunnel.allowed_ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_member_reaches_what_the_profile_says_and_always_the_gateway() {
        assert_eq!(networks(None), ["10.99.0.0/24"], "as the installer");
        assert_eq!(networks(Some(&[])), ["10.99.0.0/24"]);
        let wider = ["10.99.0.9/24", "10.20.0.0/16"];
        assert_eq!(networks(Some(&wider)), ["10.99.0.0/24", "10.20.0.0/16"]);
    }
}
