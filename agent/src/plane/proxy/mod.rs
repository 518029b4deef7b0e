//! The plane that needs nothing of the kernel but TCP/IP: the tunnel ends in this process, and programs reach it by the loopback interface.
//!
//! ```text
//!  program ─ connect(172.20.0.2:80) ─► lo ─► transparent ─┐
//!  program ─ http_proxy ─► 127.0.0.1:3128 ─► http ────────┼─► Dialler ─► WireGuard ─► gateway
//!  program ─ sendto(10.99.0.53:53) ──► lo ─► datagrams ───┘
//! ```
//!
//! *Transparent*: the tunnel's networks are made local addresses of `lo`, narrower routes (to the LM, the router and the gateway on the lender's wire) going before
//! them, and we listen there. So an installer needs to know nothing: its mirror has the address that it always had. It works for the ports that are known: the
//! usual ones and those that the installer's text names ([`ports`]). For the rest, and for names, there is an HTTP proxy.
//!
//! Listeners take connections from `lo` alone: nobody on the lender's wire gets into the enterprise by this server.

mod datagrams;
mod http;
mod names;
mod ports;
mod relay;
mod transparent;

use crate::errors::chain;
use ipnet::{IpNet, Ipv4Net};
use leaseboot_tunnel::netlink::{Netlink, NetlinkError};
use leaseboot_tunnel::userspace::{Dialler, Stream, UserTunnel};
use leaseboot_tunnel::{InterfaceSettings, PeerSettings, TunnelError};
use nix::sys::socket::{setsockopt, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Where the HTTP proxy listens: the port that proxies usually have.
const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);
const LOOPBACK: &str = "lo";
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The addresses.
    #[error("cannot take the enterprise's networks to the loopback interface")]
    Networks(#[from] NetlinkError),
    /// A port.
    #[error("cannot listen on {address} of the loopback interface")]
    Listen {
        /// What was to be listened on.
        address: SocketAddrV4,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The running plane; dropping it ends it, and every connection with it.
pub(crate) struct Proxy {
    tunnel: UserTunnel,
    networks: Arc<[Ipv4Net]>,
    _tasks: JoinSet<()>,
}

/// What every listener needs: the way into the tunnel, and what lies there.
#[derive(Clone)]
struct Inside {
    dialler: Dialler,
    networks: Arc<[Ipv4Net]>,
}

impl Proxy {
    /// Dials the gateway and listens.
    pub(super) async fn start(
        interface: &InterfaceSettings,
        gateway: &PeerSettings,
        service: SocketAddr,
    ) -> Result<Self, ProxyError> {
        let tunnel = UserTunnel::start(interface)?;
        tunnel.set_peer(gateway);
        let networks: Arc<[Ipv4Net]> = gateway.allowed_ips.iter().filter_map(ipv4).collect();
        hear(&networks).await?;
        let inside = Inside {
            dialler: tunnel.dialler(),
            networks: Arc::clone(&networks),
        };
        let mut tasks = JoinSet::new();
        for port in ports::known(service.port()) {
            tasks.spawn(transparent::serve(transparent::listen(port)?, inside.clone()));
        }
        tasks.spawn(datagrams::serve(datagrams::listen()?, inside.clone()));
        tasks.spawn(http::serve(http::listen()?, inside));
        Ok(Self {
            tunnel,
            networks,
            _tasks: tasks,
        })
    }

    /// Takes the enterprise's networks to the loopback interface, again where somebody has emptied it.
    pub(super) async fn hear_networks(&self) -> Result<(), ProxyError> {
        hear(&self.networks).await
    }

    /// What `http_proxy` is to be.
    pub(super) fn url(&self) -> String {
        format!("http://{PROXY}")
    }

    pub(super) fn set_mtu(&self, mtu: u16) {
        self.tunnel.set_mtu(mtu);
    }
}

impl Inside {
    fn contains(&self, address: Ipv4Addr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    async fn connect(&self, to: SocketAddrV4) -> io::Result<Stream> {
        let silent = |_| Err(io::ErrorKind::TimedOut.into());
        timeout(CONNECT_DEADLINE, self.dialler.connect(to))
            .await
            .unwrap_or_else(silent)
    }
}

async fn hear(networks: &[Ipv4Net]) -> Result<(), ProxyError> {
    let netlink = Netlink::open()?;
    for network in networks {
        netlink.add_local(*network).await?;
    }
    Ok(())
}

/// Lets a socket hear the loopback interface alone, whatever its address.
fn on_loopback_alone(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(
        socket,
        sockopt::BindToDevice,
        &OsString::from(LOOPBACK),
    )?)
}

fn ipv4(network: &IpNet) -> Option<Ipv4Net> {
    match network {
        IpNet::V4(network) => Some(network.trunc()),
        IpNet::V6(_) => None,
    }
}

/// Something that goes wrong for one program among many: for the console of whoever looks for it.
fn note(what: &str, to: impl std::fmt::Display, error: &(dyn std::error::Error + 'static)) {
    crate::console::say!("proxy: {what} {to}: {}", chain(error).join(": "));
}
