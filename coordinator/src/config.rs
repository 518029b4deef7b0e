//! `lm.toml` and `servers.toml`, read once and turned into values that cannot be wrong.
//!
//! Both files are written by people, so everything unknown is refused and every error names file, line, what stands there and what to do.
//! Paths are relative to the folder of the file. Secrets are named by path and never stand in either file.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod servers;
mod source;
mod table;

use crate::dhcp::{DhcpConfig, PoolConfig, SubnetConfig};
use crate::dhcp6::Dhcp6Config;
use crate::fleet::InventoryPolicy;
use crate::lease::{Deadlines, Rules, TermRules};
use crate::power::PowerRules;
use crate::store::{Location, LocationError};
use crate::switch::SwitchConfig;
use ipnet::Ipv4Net;
use leaseboot_protocol::ids::ServerId;
use serde::Deserialize;
pub use servers::Server;
use source::Source;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// The port of the API unless `lm.toml` says otherwise.
pub const API_PORT: u16 = 8443;

/// Where metrics are served unless `lm.toml` says otherwise.
pub const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

/// Everything that the lender wrote down.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The lender's wire.
    pub wire: Wire,
    /// Where the API is served.
    pub api_listen: SocketAddr,
    /// Where the other Lease Managers of the store serve theirs; our own may be among them.
    pub other_apis: Vec<SocketAddr>,
    /// Where metrics and readiness are served, in clear.
    pub metrics_listen: SocketAddr,
    /// CA, certificate and key of the API.
    pub identity: IdentityFiles,
    /// Where the store is.
    pub store: Location,
    /// Where `cargo xtask image` left kernel, image and loaders; may also be named on the command line.
    pub boot_files: Option<PathBuf>,
    /// The `[dhcp]` table.
    pub dhcp: DhcpConfig,
    /// Deadlines and attempts of leases.
    pub rules: Rules,
    /// The `[logs]` table.
    pub logs: LogRules,
    /// The `[power]` table.
    pub power: PowerRules,
    /// The `[switch]` table.
    pub switch: SwitchConfig,
    /// The file that the servers were read from.
    pub servers_path: PathBuf,
    /// What happens when a server is not what it was.
    pub inventory: InventoryPolicy,
    /// The servers of that file, by name. The store takes them in at each start; all else asks [`crate::fleet::Fleet`].
    pub servers: BTreeMap<ServerId, Server>,
}

/// The network that lent servers stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The LM's interface on it.
    pub interface: String,
    /// The LM's address on it, with the network's prefix length.
    pub address: Ipv4Net,
    /// The router of the servers.
    pub router: Option<Ipv4Addr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Networks of servers behind DHCP relays.
    pub subnets: Vec<SubnetConfig>,
    /// Addresses of the own network for cards that nobody wrote down.
    pub pool: Option<PoolConfig>,
    /// The `[dhcp6]` table: IPv6 on the wire, where there is any.
    pub ipv6: Option<Dhcp6Config>,
}

impl Wire {
    /// The network that the address is of, as a [`SubnetConfig`]: the LM's own, or one behind a relay.
    pub fn network_of(&self, address: Ipv4Addr) -> Option<SubnetConfig> {
        let own = SubnetConfig {
            network: self.address.trunc(),
            router: self.router,
            pool: self.pool,
        };
        std::iter::once(&own)
            .chain(&self.subnets)
            .find(|subnet| subnet.network.contains(&address))
            .copied()
    }
}

/// The files of the LM's identity, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The CA's key, needed only to add tenants.
    pub ca_key: PathBuf,
    /// The LM's certificate.
    pub certificate: PathBuf,
    /// The LM's key.
    pub key: PathBuf,
    /// The key that erasure records are signed with; several LMs of one lender share it.
    pub erasure_key: PathBuf,
}

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: make it with `leaseboot-lm init`, or name another with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A line says something that cannot be.
    #[error("{path}:{line}: {problem}\n  the line says: {text}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
        /// The line.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LmFile {
    interface: Spanned<String>,
    address: Spanned<Ipv4Net>,
    router: Option<Spanned<Ipv4Addr>>,
    #[serde(default)]
    mtu: Option<Spanned<u16>>,
    #[serde(default = "servers_file")]
    servers: PathBuf,
    store: Option<Spanned<String>>,
    store_password_file: Option<PathBuf>,
    store_ca_file: Option<PathBuf>,
    boot_files: Option<PathBuf>,
    #[serde(default)]
    api: ApiTable,
    #[serde(default)]
    metrics: MetricsTable,
    #[serde(default)]
    dhcp: DhcpConfig,
    dhcp6: Option<Spanned<Dhcp6Config>>,
    #[serde(default)]
    inventory: InventoryPolicy,
    #[serde(default)]
    power: PowerRules,
    #[serde(default)]
    subnet: Vec<SubnetConfig>,
    #[serde(default)]
    switch: SwitchConfig,
    #[serde(default)]
    deadlines: Deadlines,
    #[serde(default = "three")]
    attempts: NonZeroU32,
    #[serde(default = "two")]
    moves: u32,
    #[serde(default)]
    term: TermRules,
    #[serde(default)]
    logs: LogRules,
    #[serde(default = "erasure_key_file")]
    erasure_key: PathBuf,
}

/// The `[logs]` table of `lm.toml`: for how long is kept what boots said on their consoles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogRules {
    /// In days.
    pub keep_days: NonZeroU32,
}

impl Default for LogRules {
    fn default() -> Self {
        Self {
            keep_days: NonZeroU32::MIN.saturating_add(89),
        }
    }
}

impl LogRules {
    /// The same as a time.
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days.get()) * 86_400)
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ApiTable {
    listen: SocketAddr,
    others: Vec<SocketAddr>,
    ca: PathBuf,
    ca_key: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsTable {
    listen: SocketAddr,
}

impl Default for MetricsTable {
    fn default() -> Self {
        Self {
            listen: METRICS_LISTEN,
        }
    }
}

impl Default for ApiTable {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, API_PORT)),
            others: Vec::new(),
            ca: "ca.pem".into(),
            ca_key: "ca.key".into(),
            certificate: "lm.pem".into(),
            key: "lm.key".into(),
        }
    }
}

fn servers_file() -> PathBuf {
    "servers.toml".into()
}

/// The store unless `lm.toml` says otherwise.
const STORE_FILE: &str = "lm.sqlite";

fn two() -> u32 {
    2
}

fn erasure_key_file() -> PathBuf {
    "erasure.key".into()
}

fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

impl Config {
    /// Reads `lm.toml` at `path` and the `servers.toml` that it names.
    ///
    /// # Errors
    /// [`ConfigError`], the first that is found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(path)?;
        let file: LmFile = source.parse()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let wire = wire(&source, &file)?;
        let store = store(&source, folder, &file)?;
        let servers_path = folder.join(&file.servers);
        let servers = servers::load(&servers_path, &wire)?;
        Ok(Self {
            path: path.to_owned(),
            wire,
            api_listen: file.api.listen,
            other_apis: file.api.others,
            metrics_listen: file.metrics.listen,
            identity: IdentityFiles {
                ca: folder.join(&file.api.ca),
                ca_key: folder.join(&file.api.ca_key),
                certificate: folder.join(&file.api.certificate),
                key: folder.join(&file.api.key),
                erasure_key: folder.join(&file.erasure_key),
            },
            store,
            boot_files: file.boot_files.map(|files| folder.join(files)),
            dhcp: file.dhcp,
            rules: Rules {
                deadlines: file.deadlines,
                attempts: file.attempts,
                moves: file.moves,
                term: file.term,
            },
            logs: file.logs,
            power: file.power,
            switch: file.switch,
            servers_path,
            inventory: file.inventory,
            servers,
        })
    }

    /// The API's URL on a wire of IPv4.
    pub fn api_url(&self) -> String {
        self.api_url_for(self.wire.address.addr().into())
    }

    /// The API's URL as a lent server at this address reaches it.
    pub fn api_url_for(&self, server: IpAddr) -> String {
        let listen = self.api_listen;
        let host = match (listen.ip(), &self.wire.ipv6) {
            (_, Some(ipv6)) if server.is_ipv6() => IpAddr::from(ipv6.address.addr()),
            (ip, _) if ip.is_unspecified() => IpAddr::from(self.wire.address.addr()),
            (ip, _) => ip,
        };
        format!("https://{}", SocketAddr::from((host, listen.port())))
    }

    /// Where the API is served besides [`Config::api_listen`]: for servers that speak IPv6, unless that is there already.
    pub fn api_listen6(&self) -> Option<SocketAddr> {
        let address = self.wire.ipv6.as_ref()?.address.addr();
        let served = self.api_listen.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
        (!served).then(|| SocketAddr::from((address, self.api_listen.port())))
    }

    /// The URLs of the other Lease Managers' APIs: lent servers ask them when ours does not answer.
    pub fn other_urls(&self, server: IpAddr) -> Vec<String> {
        let reached = self
            .other_apis
            .iter()
            .filter(|other| other.is_ipv6() == server.is_ipv6());
        let others = reached.map(|address| format!("https://{address}"));
        others.filter(|url| *url != self.api_url_for(server)).collect()
    }

    /// Reads servers from a file of the form of `servers.toml`, or from a table when its name ends in `.csv`.
    ///
    /// # Errors
    /// [`ConfigError`], the first that is found.
    pub fn read_servers(&self, path: &Path) -> Result<BTreeMap<ServerId, Server>, ConfigError> {
        servers::load(path, &self.wire)
    }

    /// Reads one server from a text of that form, which is not in a file; `origin` stands for its path.
    ///
    /// # Errors
    /// [`ConfigError`], the first that is found.
    pub fn parse_server(&self, origin: &Path, text: String) -> Result<Server, ConfigError> {
        let source = Source::new(origin, text, None);
        let servers = servers::parse(&source, &self.wire)?;
        let mut servers = servers.into_values();
        match (servers.next(), servers.next()) {
            (Some(server), None) => Ok(server),
            _ => Err(source.line_problem(1, "exactly one [[server]] is needed".to_owned())),
        }
    }
}

fn store(source: &Source, folder: &Path, file: &LmFile) -> Result<Location, ConfigError> {
    let written = file.store.as_ref();
    let words = written.map_or(STORE_FILE, |words| words.get_ref());
    let (password, ca) = (file.store_password_file.as_deref(), file.store_ca_file.as_deref());
    Location::parse(folder, words, password, ca).map_err(|error| {
        let span = written.map(Spanned::span).unwrap_or_default();
        match error {
            // The line itself would repeat what is in it.
            LocationError::Password => source.problem_unquoted(span, error.to_string()),
            error => source.problem(span, error.to_string()),
        }
    })
}

fn wire(source: &Source, file: &LmFile) -> Result<Wire, ConfigError> {
    let (interface, address) = (file.interface.get_ref(), *file.address.get_ref());
    if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ' ']) {
        return Err(source.problem(
            file.interface.span(),
            format!("{interface:?} is not an interface: `ip link` shows their names"),
        ));
    }
    let usable =
        address.prefix_len() <= 30 && ![address.network(), address.broadcast()].contains(&address.addr());
    if !usable {
        return Err(source.problem(
            file.address.span(),
            format!("{address} is not a host's address in a network: write it as 10.10.0.1/24"),
        ));
    }
    if let Some(router) = &file.router
        && !address.contains(router.get_ref())
    {
        return Err(source.problem(
            router.span(),
            format!(
                "the router {} is not in the network {}",
                router.get_ref(),
                address.trunc()
            ),
        ));
    }
    let mtu = file.mtu.as_ref().map_or(1500, |mtu| *mtu.get_ref());
    if let Some(written) = &file.mtu
        && !(1280..=9216).contains(&mtu)
    {
        return Err(source.problem(
            written.span(),
            format!("mtu {mtu} is not between 1280 and 9216 bytes"),
        ));
    }
    if let Some(dhcp6) = &file.dhcp6 {
        let wrong = |problem: crate::dhcp6::Dhcp6Problem| source.problem(dhcp6.span(), problem.to_string());
        dhcp6.get_ref().check().map_err(wrong)?;
    }
    Ok(Wire {
        interface: interface.clone(),
        address,
        router: file.router.as_ref().map(|router| *router.get_ref()),
        mtu,
        subnets: file.subnet.clone(),
        pool: file.dhcp.pool,
        ipv6: file.dhcp6.as_ref().map(|dhcp6| dhcp6.get_ref().clone()),
    })
}

#[cfg(test)]
mod tests;
