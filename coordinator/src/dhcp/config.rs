//! What the lender decides about DHCP: what stands in `lm.toml` ([`DhcpConfig`]) and, joined with what is known elsewhere, what the service works with
//! ([`DhcpSettings`]).

use super::bootfile::Shelf;
use super::loader::{ArchitectureLoaders, FirstLoader, IpxeChain, LoaderRule};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Whose the addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpMode {
    /// Ours: no other DHCP server may stand on the wire.
    #[default]
    Authoritative,
    /// Another DHCP server's, beside which the LM only says what to boot (proxyDHCP): iPXE, whatever `first_loader` and `ipxe_chain` say. Give the servers their
    /// addresses on record there too: the installed system keeps its address.
    Proxy,
    /// Nobody's: the wire carries IPv6 alone, and DHCPv4 is left without an answer.
    Off,
}

/// A `[[subnet]]` of `lm.toml`: a network of servers behind a DHCP relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    /// The network, such as `10.20.0.0/24`.
    pub network: Ipv4Net,
    /// The router of its servers, mostly the relay itself.
    pub router: Option<Ipv4Addr>,
    /// Addresses for cards that nobody wrote down.
    pub pool: Option<PoolConfig>,
}

/// The `[dhcp]` table of `lm.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DhcpConfig {
    /// Whose the addresses are.
    pub mode: DhcpMode,
    /// How long a server that is on record keeps its address without asking again, in seconds.
    pub lease_time_s: u32,
    /// Name servers, three at most; none by default, because nothing in a transfer asks one.
    pub name_servers: Vec<Ipv4Addr>,
    /// The boot program that firmware is sent.
    pub first_loader: FirstLoader,
    /// What iPXE is sent.
    pub ipxe_chain: IpxeChain,
    /// The boot program by architecture, in place of `first_loader`.
    pub architecture: ArchitectureLoaders,
    /// Other loaders for some servers; the first that fits decides.
    #[serde(rename = "loader")]
    pub loader_rules: Vec<LoaderRule>,
    /// Where UEFI's HTTP boot finds the first loaders in place of the LM's own `http://ADDRESS`: a server with TLS in front of it, such as
    /// `https://10.10.0.1`. Without a slash at the end.
    pub http_boot_url: Option<String>,
    /// Addresses for cards that nobody wrote down, so that their servers can report their hardware. Without it they get no answer.
    pub pool: Option<PoolConfig>,
    /// Whether to tell servers that there is no IPv6 router, so that iPXE does not wait 16 s for one. Turn it off on a wire that has one.
    pub answer_router_solicitations: bool,
}

impl Default for DhcpConfig {
    fn default() -> Self {
        Self {
            mode: DhcpMode::default(),
            lease_time_s: 3600,
            name_servers: Vec::new(),
            first_loader: FirstLoader::default(),
            ipxe_chain: IpxeChain::default(),
            architecture: ArchitectureLoaders::default(),
            loader_rules: Vec::new(),
            http_boot_url: None,
            pool: None,
            answer_router_solicitations: true,
        }
    }
}

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig<A = Ipv4Addr> {
    /// The first address.
    pub first: A,
    /// The last address; at most [`MAX_POOL`] in all.
    pub last: A,
    /// How long an address is kept without being asked for again, in seconds. Short, because anybody can take one.
    #[serde(default = "ten_minutes")]
    pub lease_time_s: u32,
}

fn ten_minutes() -> u32 {
    600
}

/// The most addresses that a pool may have: it bounds what strangers can make the LM remember.
pub const MAX_POOL: u32 = 1024;

/// The longest `http_boot_url`: with the name of a boot file behind it, it must fit into the message's field of 128 bytes.
const LONGEST_URL: usize = 100;

impl<A: Copy + PartialOrd> PoolConfig<A> {
    /// Whether the address belongs to the range.
    pub fn contains(&self, address: A) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// All that the service works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpSettings {
    /// The interface on the lender's wire.
    pub interface: String,
    /// The LM's own address there, with the prefix length of the network.
    pub address: Ipv4Net,
    /// The router for servers whose record names none.
    pub router: Option<Ipv4Addr>,
    /// Where boot files are served, without a slash at the end, such as `http://10.10.0.1`.
    pub http_base: String,
    /// Names of the boot programs, such as `grub/core.efi`, which TFTP has as they are and HTTP below [`DhcpSettings::http_base`].
    pub loaders: BTreeSet<String>,
    /// Networks behind relays.
    pub subnets: Vec<SubnetConfig>,
    /// The lender's decisions.
    pub config: DhcpConfig,
}

/// The settings contradict each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhcpSettingsError {
    /// Part of the pool is elsewhere.
    #[error(
        "the DHCP pool {first} to {last} does not lie inside its network {network}: choose addresses of that network"
    )]
    PoolOutside {
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
        /// The network of the interface.
        network: Ipv4Net,
    },
    /// The pool is empty or too large.
    #[error("the DHCP pool {first} to {last} must have between 1 and {MAX_POOL} addresses")]
    PoolSize {
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
    },
    /// Two networks overlap.
    #[error("[[subnet]] {second} overlaps {first}: a relay's address must tell the networks apart")]
    Overlap {
        /// One of them.
        first: Ipv4Net,
        /// The other.
        second: Ipv4Net,
    },
    /// A router that its servers cannot reach.
    #[error("[[subnet]] {network}: the router {router} is not in it")]
    Router {
        /// The network.
        network: Ipv4Net,
        /// The router.
        router: Ipv4Addr,
    },
    /// Only one server can give addresses.
    #[error(
        "dhcp.mode is \"proxy\", so the other DHCP server gives the addresses: remove the pool, or the mode"
    )]
    PoolOfProxy,
    /// No URL that firmware could complete.
    #[error(
        "dhcp.http_boot_url {url:?} cannot work: write http:// or https://, the server's name or address, and no slash at the end, at most {LONGEST_URL} bytes"
    )]
    HttpBootUrl {
        /// What was written.
        url: String,
    },
    /// A lease that clients would have to renew all the time.
    #[error("dhcp: a lease time of {seconds} s is too short: 60 s is the least")]
    LeaseTime {
        /// What was asked for.
        seconds: u32,
    },
    /// More name servers than the smallest message holds.
    #[error("dhcp.name_servers has {count} addresses: three are the most")]
    NameServers {
        /// How many there are.
        count: usize,
    },
}

impl DhcpSettings {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`DhcpSettingsError`], the first that applies.
    pub fn check(&self) -> Result<(), DhcpSettingsError> {
        let config = &self.config;
        let pools = || {
            config
                .pool
                .iter()
                .chain(self.subnets.iter().filter_map(|subnet| subnet.pool.as_ref()))
        };
        let mut times = pools().map(|pool| pool.lease_time_s).chain([config.lease_time_s]);
        if let Some(seconds) = times.find(|seconds| *seconds < 60) {
            return Err(DhcpSettingsError::LeaseTime { seconds });
        }
        if config.name_servers.len() > 3 {
            return Err(DhcpSettingsError::NameServers {
                count: config.name_servers.len(),
            });
        }
        if config.mode == DhcpMode::Proxy && pools().next().is_some() {
            return Err(DhcpSettingsError::PoolOfProxy);
        }
        if let Some(url) = config.http_boot_url.as_ref().filter(|url| !is_base(url)) {
            return Err(DhcpSettingsError::HttpBootUrl { url: url.clone() });
        }
        self.check_networks()?;
        check_pool(self.address.trunc(), config.pool)?;
        self.subnets
            .iter()
            .try_for_each(|subnet| check_pool(subnet.network, subnet.pool))
    }

    fn check_networks(&self) -> Result<(), DhcpSettingsError> {
        let networks: Vec<Ipv4Net> = self.networks().collect();
        for (index, second) in networks.iter().enumerate() {
            let overlaps =
                |first: &&Ipv4Net| first.contains(&second.network()) || second.contains(&first.network());
            if let Some(first) = networks[..index].iter().find(overlaps) {
                return Err(DhcpSettingsError::Overlap {
                    first: *first,
                    second: *second,
                });
            }
        }
        let outside = |subnet: &SubnetConfig| {
            Some((
                subnet.network,
                subnet.router.filter(|r| !subnet.network.contains(r))?,
            ))
        };
        match self.subnets.iter().find_map(outside) {
            Some((network, router)) => Err(DhcpSettingsError::Router { network, router }),
            None => Ok(()),
        }
    }

    /// The LM's own network, then those behind relays.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Net> {
        let subnets = self.subnets.iter().map(|subnet| subnet.network.trunc());
        std::iter::once(self.address.trunc()).chain(subnets)
    }

    /// What UEFI's HTTP boot finds boot files below.
    fn http_boot_base(&self) -> &str {
        self.config.http_boot_url.as_deref().unwrap_or(&self.http_base)
    }

    /// What there is for clients to boot.
    pub(super) fn shelf(&self) -> Shelf<'_> {
        Shelf {
            config: &self.config,
            http_base: &self.http_base,
            http_boot_base: self.http_boot_base(),
            programs: &self.loaders,
        }
    }

    pub(super) fn lease_time(&self) -> Duration {
        Duration::from_secs(self.config.lease_time_s.into())
    }
}

/// Whether a boot file's name can be put behind it.
fn is_base(url: &str) -> bool {
    let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    url.len() <= LONGEST_URL
        && host.is_some_and(|host| {
            !host.is_empty() && !host.ends_with('/') && url.bytes().all(|b| b.is_ascii_graphic())
        })
}

fn check_pool(network: Ipv4Net, pool: Option<PoolConfig>) -> Result<(), DhcpSettingsError> {
    let Some(PoolConfig { first, last, .. }) = pool else {
        return Ok(());
    };
    if !network.contains(&first) || !network.contains(&last) {
        return Err(DhcpSettingsError::PoolOutside { first, last, network });
    }
    if first > last || u32::from(last) - u32::from(first) >= MAX_POOL {
        return Err(DhcpSettingsError::PoolSize { first, last });
    }
    Ok(())
}
