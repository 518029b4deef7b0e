//! What the lender decides about IPv6 on its wire: the `[dhcp6]` table of `lm.toml` ([`Dhcp6Config`]) and, joined with what is known elsewhere, what the
//! services work with ([`Dhcp6Settings`]).

use crate::dhcp::{DhcpConfig, MAX_POOL, PoolConfig};
use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// The `[dhcp6]` table of `lm.toml`. Without the table the LM speaks no IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp6Config {
    /// The LM's own address on the wire with the network's prefix length, such as `fd00:10::1/64`; the LM's host must have it.
    pub address: Ipv6Net,
    /// The router of the servers; none where the LM itself is all that they need to reach.
    pub router: Option<Ipv6Addr>,
    /// How long a server that is on record keeps its address without asking again, in seconds.
    #[serde(default = "an_hour")]
    pub lease_time_s: u32,
    /// Name servers; none by default, because nothing in a transfer asks one.
    #[serde(default)]
    pub name_servers: Vec<Ipv6Addr>,
    /// Addresses for servers that have no IPv6 address on record.
    pub pool: Option<PoolConfig<Ipv6Addr>>,
    /// Whether the LM sends router advertisements. Turn it off where the wire's router says that addresses come by DHCPv6.
    #[serde(default = "yes")]
    pub router_advertisements: bool,
    /// Whether those allow hosts to make addresses of the prefix by themselves (SLAAC). Nothing of a transfer does.
    #[serde(default)]
    pub autonomous: bool,
    /// For how many seconds those make the LM's host a default router; 0, the default, is not at all.
    #[serde(default)]
    pub router_lifetime_s: u16,
    /// Networks of servers behind relays.
    #[serde(default)]
    pub subnet: Vec<Subnet6Config>,
}

/// A `[[dhcp6.subnet]]` of `lm.toml`: a network of servers behind a DHCPv6 relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet6Config {
    /// The network, such as `fd00:20::/64`.
    pub network: Ipv6Net,
    /// The router of its servers, mostly the relay itself.
    pub router: Option<Ipv6Addr>,
    /// Addresses for servers that have no IPv6 address on record.
    pub pool: Option<PoolConfig<Ipv6Addr>>,
}

fn an_hour() -> u32 {
    3600
}

fn yes() -> bool {
    true
}

/// The most name servers that are told.
const MOST_NAME_SERVERS: usize = 3;
/// RFC 4861, section 6.2.1.
const LONGEST_ROUTER_LIFETIME: u16 = 9000;

/// The table contradicts itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dhcp6Problem {
    /// No host can have it.
    #[error("dhcp6.address: {0} is not a host's address in a network: write it as fd00:10::1/64")]
    Address(Ipv6Net),
    /// The pool is empty, too large, or elsewhere.
    #[error(
        "the DHCPv6 pool {first} to {last} must have between 1 and {MAX_POOL} addresses of its network {network}"
    )]
    Pool {
        /// First address of the pool.
        first: Ipv6Addr,
        /// Last address of the pool.
        last: Ipv6Addr,
        /// Its network.
        network: Ipv6Net,
    },
    /// Two networks overlap.
    #[error("[[dhcp6.subnet]] {second} overlaps {first}: a relay's address must tell the networks apart")]
    Overlap {
        /// One of them.
        first: Ipv6Net,
        /// The other.
        second: Ipv6Net,
    },
    /// A router that its servers cannot reach.
    #[error("dhcp6: the router {router} is not in the network {network}")]
    Router {
        /// The network.
        network: Ipv6Net,
        /// The router.
        router: Ipv6Addr,
    },
    /// A lease that clients would have to renew all the time.
    #[error("dhcp6: a lease time of {0} s is too short: 60 s is the least")]
    LeaseTime(u32),
    /// More than anybody asks.
    #[error("dhcp6.name_servers has {0} addresses: {MOST_NAME_SERVERS} are the most")]
    NameServers(usize),
    /// More than a router may promise.
    #[error("dhcp6.router_lifetime_s is {0}: {LONGEST_ROUTER_LIFETIME} s are the most (RFC 4861)")]
    RouterLifetime(u16),
}

impl Dhcp6Config {
    /// Refuses a table that cannot work.
    ///
    /// # Errors
    /// [`Dhcp6Problem`], the first that applies.
    pub fn check(&self) -> Result<(), Dhcp6Problem> {
        let own = self.address;
        if own.prefix_len() > 126 || own.addr() == own.network() || own.addr().is_multicast() {
            return Err(Dhcp6Problem::Address(own));
        }
        let pools = self.networks().filter_map(|subnet| subnet.pool);
        let mut times = pools.map(|pool| pool.lease_time_s).chain([self.lease_time_s]);
        if let Some(seconds) = times.find(|seconds| *seconds < 60) {
            return Err(Dhcp6Problem::LeaseTime(seconds));
        }
        if self.name_servers.len() > MOST_NAME_SERVERS {
            return Err(Dhcp6Problem::NameServers(self.name_servers.len()));
        }
        if self.router_lifetime_s > LONGEST_ROUTER_LIFETIME {
            return Err(Dhcp6Problem::RouterLifetime(self.router_lifetime_s));
        }
        let networks: Vec<Subnet6Config> = self.networks().collect();
        for (index, subnet) in networks.iter().enumerate() {
            check_subnet(subnet, &networks[..index])?;
        }
        Ok(())
    }

    /// The LM's own network, then those behind relays.
    pub fn networks(&self) -> impl Iterator<Item = Subnet6Config> {
        let own = Subnet6Config {
            network: self.address.trunc(),
            router: self.router,
            pool: self.pool,
        };
        std::iter::once(own).chain(self.subnet.iter().cloned())
    }

    /// The network that the address is of.
    pub fn network_of(&self, address: Ipv6Addr) -> Option<Subnet6Config> {
        self.networks().find(|subnet| subnet.network.contains(&address))
    }
}

fn check_subnet(subnet: &Subnet6Config, before: &[Subnet6Config]) -> Result<(), Dhcp6Problem> {
    let network = subnet.network;
    let overlaps = |first: &&Subnet6Config| {
        first.network.contains(&network.network()) || network.contains(&first.network.network())
    };
    if let Some(first) = before.iter().find(overlaps) {
        return Err(Dhcp6Problem::Overlap {
            first: first.network,
            second: network,
        });
    }
    // A link-local address is as good for a router as any.
    let outside = |router: &Ipv6Addr| !network.contains(router) && !router.is_unicast_link_local();
    if let Some(router) = subnet.router.filter(outside) {
        return Err(Dhcp6Problem::Router { network, router });
    }
    if let Some(PoolConfig { first, last, .. }) = subnet.pool {
        let size = u128::from(last).wrapping_sub(u128::from(first));
        let inside = network.contains(&first) && network.contains(&last);
        if !inside || first > last || size >= MAX_POOL.into() {
            return Err(Dhcp6Problem::Pool { first, last, network });
        }
    }
    Ok(())
}

/// All that the services work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp6Settings {
    /// The interface on the lender's wire.
    pub interface: String,
    /// The `[dhcp6]` table, checked.
    pub config: Dhcp6Config,
    /// The `[dhcp]` table, for what it says about loaders.
    pub loaders: DhcpConfig,
    /// Where boot files are served, without a slash at the end, such as `http://[fd00:10::1]`.
    pub http_base: String,
    /// Names of the boot programs, such as `grub/core.efi`.
    pub programs: BTreeSet<String>,
    /// The largest packet of the wire in bytes.
    pub mtu: u16,
}
