//! A network of servers that the LM does not stand in: a bridge of its own, and a router that relays DHCP to the LM.
//!
//! ```text
//!   bare servers                   relay and router               LM
//!   10.20.0.11 … ──remote── 10.20.0.1 ─────── 10.10.0.2 ──br0── 10.10.0.1
//! ```
//!
//! The relay is dnsmasq's, which knows nothing but the LM's address. It stands in the namespace of the package repository: the laboratory's cheapest host
//! that is not the lender's own.

use crate::daemon::Daemon;
use crate::dnsmasq;
use crate::machine::Machine;
use crate::network::{LM_ADDRESS, Network};
use anyhow::{Context as _, Result};
use std::net::Ipv4Addr;
use std::path::Path;

/// The network of the servers.
pub const SUBNET: &str = "10.20.0.0/24";
/// A server's address in it.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 11);
const ROUTER: &str = "10.20.0.1";
const UPLINK: &str = "10.10.0.2";
const BRIDGE: &str = "remote";

/// What the lender writes down about the network.
pub(crate) fn configure(config: &mut toml::Table) {
    let subnet = toml::Table::from_iter([("network", SUBNET), ("router", ROUTER)].map(|(key, value)| {
        let value: toml::Value = value.into();
        (key.to_owned(), value)
    }));
    config.insert("subnet".to_owned(), vec![toml::Value::Table(subnet)].into());
}

/// Moves the servers' cables to the other bridge and starts the relay.
pub(crate) async fn start(network: &Network, machines: &[Machine], folder: &Path) -> Result<Daemon> {
    let router = network.add_lender_port("uplink", &format!("{UPLINK}/24")).await?;
    let moved: String = machines
        .iter()
        .map(|machine| format!("link set {} master {BRIDGE}\n", machine.port()))
        .collect();
    let wire = format!(
        "link add name {BRIDGE} type bridge\nlink set {BRIDGE} up\n\
         link add name downlink type veth peer name downlink netns {}\n\
         link set downlink master {BRIDGE}\nlink set downlink up\n{moved}\
         route add {SUBNET} via {UPLINK}\n",
        router.name()
    );
    network
        .lender
        .ip_batch(&wire)
        .await
        .context("cannot lay the wire of the servers behind the relay")?;
    let there = format!("link set downlink up\naddress add {ROUTER}/24 dev downlink\n");
    router.ip_batch(&there).await?;
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    router.run("sh", &["-c", forward]).await?;
    let words = [format!("--dhcp-relay={ROUTER},{LM_ADDRESS}")];
    dnsmasq::start(router, &words, &folder.join("relay.log"), "DHCP relay from").await
}
