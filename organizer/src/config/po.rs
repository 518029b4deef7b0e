//! `po.toml`: the gateway, the lender and what happens when a server is in service.

use super::announce::{self, AnnounceConfig};
use super::cache::{self, CacheTable};
use super::events::{self, EventsConfig, EventsTable};
use super::install_server::{self, InstallServerTable};
use super::lenders::{self, LenderConfig, LenderTables};
use super::source::{ConfigError, Source};
use crate::cache::Upstream;
use crate::passage::InstallServer;
use ipnet::{IpNet, Ipv4Net};
use leaseboot_protocol::network::{TunnelSettings, WireguardPublicKey};
use leaseboot_tunnel::PlaneChoice;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A server's first address when the configuration does not say: the tenth of the tunnel's network.
const FIRST_SERVER: u32 = 10;
/// The smallest MTU that IPv6 allows on a link (RFC 8200, 5).
const SMALLEST_MTU: u16 = 1280;
/// The in-tunnel service's port: boot programs and agents know no other.
const SERVICE_PORT: u16 = 80;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoFile {
    gateway: GatewayTable,
    lender: LenderTables,
    #[serde(default)]
    install_server: Vec<InstallServerTable>,
    #[serde(default)]
    cache: Vec<CacheTable>,
    #[serde(default)]
    announce: announce::Table,
    events: Option<EventsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayTable {
    endpoint: Spanned<SocketAddr>,
    #[serde(default = "gateway_key")]
    private_key: PathBuf,
    #[serde(default = "interface")]
    interface: Spanned<String>,
    tunnel: Spanned<Ipv4Net>,
    first_server: Option<Spanned<Ipv4Addr>>,
    #[serde(default)]
    allowed: Vec<IpNet>,
    #[serde(default)]
    mirrors: Vec<Spanned<SocketAddr>>,
    #[serde(default = "mtu")]
    mtu: Spanned<u16>,
    #[serde(default = "keepalive_s")]
    keepalive_s: u16,
    #[serde(default)]
    plane: PlaneWord,
}

/// Who carries the packets.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaneWord {
    #[default]
    Auto,
    Kernel,
    User,
}

fn gateway_key() -> PathBuf {
    PathBuf::from("gateway.key")
}

fn interface() -> Spanned<String> {
    Spanned::new(0..0, "leaseboot0".to_owned())
}

fn mtu() -> Spanned<u16> {
    Spanned::new(0..0, 1420)
}

fn keepalive_s() -> u16 {
    15
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct PoConfig {
    /// The folder of `po.toml`: profiles, images, store and control socket lie in it.
    pub folder: PathBuf,
    /// The gateway.
    pub gateway: GatewayConfig,
    /// The lenders, at least one.
    pub lenders: Vec<LenderConfig>,
    /// Where installers fetch from, inside the enterprise.
    pub install_servers: Vec<InstallServer>,
    /// Package servers whose files are kept on the gateway.
    pub caches: Vec<Upstream>,
    /// Who is told of servers in service.
    pub announce: AnnounceConfig,
    /// Where the enterprise's services raise events; without it only the CLI does.
    pub events: Option<EventsConfig>,
}

/// The enterprise's WireGuard gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where lent servers reach it.
    pub endpoint: SocketAddr,
    /// The file of its private key.
    pub private_key: PathBuf,
    /// The name of its device.
    pub interface: String,
    /// Its address inside the tunnel, with the tunnel's network.
    pub tunnel: Ipv4Net,
    /// The first address that a server may get.
    pub first_server: Ipv4Addr,
    /// Further networks that servers reach through it.
    pub allowed: Vec<IpNet>,
    /// Who else serves the files of installers' images, under the gateway's paths; reached through the tunnel.
    pub mirrors: Vec<SocketAddr>,
    /// Largest packet inside the tunnel in bytes.
    pub mtu: u16,
    /// Seconds between the servers' keepalives.
    pub keepalive_s: u16,
    /// Whether the kernel's WireGuard carries the packets, or this program.
    pub plane: PlaneChoice,
}

impl PoConfig {
    /// Reads `po.toml`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read(&Source::read(path, "make one with `leaseboot-po init`")?)
    }

    /// Reads `text` as what is about to be written to `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::read(&Source::of_text(path, text))
    }

    fn read(source: &Source) -> Result<Self, ConfigError> {
        let file: PoFile = source.parse()?;
        let folder = source.folder().to_owned();
        let gateway = gateway(source, file.gateway)?;
        let lenders = lenders::read(source, file.lender)?;
        let reached: Vec<_> = gateway
            .allowed
            .iter()
            .copied()
            .chain([gateway.tunnel.into()])
            .collect();
        let install_servers = install_server::install_servers(source, file.install_server, &reached)?;
        let events = file.events.map(|table| events::read(source, table)).transpose()?;
        Ok(Self {
            folder,
            gateway,
            lenders,
            install_servers,
            caches: cache::caches(source, file.cache)?,
            announce: file.announce.check(source)?,
            events,
        })
    }

    /// The names of the lenders, in the order of the file.
    pub fn lender_names(&self) -> Vec<String> {
        self.lenders.iter().map(|lender| lender.name.clone()).collect()
    }

    /// Where the policies stand, when there are any.
    pub fn policies(&self) -> PathBuf {
        self.folder.join("policies.toml")
    }

    /// Where the CLI reaches the daemon.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.join("po.sock")
    }
}

fn gateway(source: &Source, table: GatewayTable) -> Result<GatewayConfig, ConfigError> {
    let tunnel = *table.tunnel.get_ref();
    if tunnel.addr() == tunnel.network() || tunnel.prefix_len() > 30 {
        let problem = format!(
            "tunnel {tunnel} is not a host's address with its network; write one like \"10.99.0.1/24\""
        );
        return Err(source.at(table.tunnel.span(), problem));
    }
    let first_server = match &table.first_server {
        None => Ipv4Addr::from(u32::from(tunnel.network()).saturating_add(FIRST_SERVER)),
        Some(first) => *first.get_ref(),
    };
    if !tunnel.contains(&first_server) || first_server >= tunnel.broadcast() {
        let span = table
            .first_server
            .map_or(table.tunnel.span(), |first| first.span());
        let problem = format!("first_server {first_server} is not a host of {}", tunnel.trunc());
        return Err(source.at(span, problem));
    }
    let interface = table.interface.get_ref();
    if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ' ']) {
        let problem = format!("interface {interface:?} is not a device's name of 1 to 15 characters");
        return Err(source.at(table.interface.span(), problem));
    }
    if *table.mtu.get_ref() < SMALLEST_MTU {
        let problem = format!(
            "mtu {} is less than {SMALLEST_MTU}; 1420 fits most wires",
            table.mtu.get_ref()
        );
        return Err(source.at(table.mtu.span(), problem));
    }
    let endpoint = *table.endpoint.get_ref();
    if endpoint.port() == 0 || endpoint.ip().is_unspecified() {
        let problem = format!(
            "endpoint {endpoint} cannot be dialled; write the address and port at which lent servers reach the gateway, such as \"198.51.100.2:51820\""
        );
        return Err(source.at(table.endpoint.span(), problem));
    }
    let reached = |mirror: &SocketAddr| table.allowed.iter().any(|network| network.contains(&mirror.ip()));
    if let Some(mirror) = table.mirrors.iter().find(|mirror| !reached(mirror.get_ref())) {
        let problem = format!(
            "no network of `allowed` has the mirror {}, so servers would not reach it through the tunnel",
            mirror.get_ref()
        );
        return Err(source.at(mirror.span(), problem));
    }
    Ok(GatewayConfig {
        endpoint,
        private_key: source.folder().join(table.private_key),
        interface: table.interface.into_inner(),
        tunnel,
        first_server,
        allowed: table.allowed,
        mirrors: table.mirrors.into_iter().map(Spanned::into_inner).collect(),
        mtu: table.mtu.into_inner(),
        keepalive_s: table.keepalive_s.max(1),
        plane: match table.plane {
            PlaneWord::Auto => PlaneChoice::Auto,
            PlaneWord::Kernel => PlaneChoice::Kernel,
            PlaneWord::User => PlaneChoice::User,
        },
    })
}

impl GatewayConfig {
    /// Where the gateway answers inside the tunnel.
    pub fn service(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.tunnel.addr(), SERVICE_PORT)
    }

    /// Every address that a server may get, in order.
    pub fn pool(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let gateway = self.tunnel.addr();
        (u32::from(self.first_server)..u32::from(self.tunnel.broadcast()))
            .map(Ipv4Addr::from)
            .filter(move |address| *address != gateway)
    }

    /// The tunnel of the server that has `address`.
    pub fn settings(&self, address: Ipv4Addr, public_key: WireguardPublicKey) -> TunnelSettings {
        let tunnel = IpNet::V4(self.tunnel.trunc());
        let further = self.allowed.iter().filter(|network| **network != tunnel);
        let allowed_ips = std::iter::once(&tunnel).chain(further).copied().collect();
        let network = IpNet::new(IpAddr::V4(address), self.tunnel.prefix_len());
        TunnelSettings {
            address: network.unwrap_or_else(|_| IpAddr::V4(address).into()),
            gateway_endpoint: self.endpoint,
            gateway_public_key: public_key,
            allowed_ips,
            gateway_service: self.service().into(),
            mtu: self.mtu,
            keepalive_s: self.keepalive_s,
        }
    }
}
