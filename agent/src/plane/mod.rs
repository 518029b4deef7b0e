//! Data planes: the ways in which the tunnel's packets can be carried in a kernel that is not ours, best first.
//!
//! | plane | needs of the kernel | who connects |
//! |---|---|---|
//! | [`Kind::Kernel`] | `wireguard` | every program, by a route |
//! | [`Kind::Tun`] | `tun` | every program, by a route |
//! | [`Kind::Proxy`] | TCP/IP | every program, by the loopback interface ([`proxy`]) |
//!
//! The first that can be had is taken. What the others were refused for is kept and told, because the slower ways cost an installation minutes that somebody will want to
//! understand. The enterprise may name one on its image's command line (`leaseboot.plane=proxy`); then there is no other.

pub(crate) mod proxy;

use crate::drivers::{DriverError, Drivers};
use crate::errors::{AnyError, chain};
use ipnet::IpNet;
use leaseboot_protocol::network::TunnelSettings;
use leaseboot_tunnel::netlink::{Netlink, NetlinkError};
use leaseboot_tunnel::{
    InterfaceSettings, KernelError, KernelTunnel, PeerSettings, PrivateKey, Tunnel, TunnelError,
};
use proxy::Proxy;
use std::fmt;

/// The device's name, in every stage.
pub(crate) const INTERFACE: &str = "leaseboot0";
/// The word on the command line that names a plane.
const WORD: &str = "leaseboot.plane=";

/// A way to carry the tunnel's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The kernel's own WireGuard.
    Kernel,
    /// A TUN device.
    Tun,
    /// No device: connections through the loopback interface.
    Proxy,
}

impl Kind {
    const BEST_FIRST: [Self; 3] = [Self::Kernel, Self::Tun, Self::Proxy];

    fn parse(text: &str) -> Option<Self> {
        Self::BEST_FIRST.into_iter().find(|kind| kind.to_string() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Tun => "tun",
            Self::Proxy => "proxy",
        })
    }
}

/// Which planes are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The best that can be had.
    Best,
    /// This one alone.
    Only(Kind),
}

/// No plane can be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaneError {
    /// None of those that were tried.
    #[error("no data plane can be had: {}", refusals(.0))]
    None(Vec<Refusal>),
    /// A word that names none.
    #[error("{WORD}{name} on the command line names no data plane: write kernel, tun or proxy")]
    Name {
        /// What stands there.
        name: String,
    },
}

/// A plane that could not be had, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    why: String,
}

/// Why one plane cannot be had.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("the device cannot be had, nor its module")]
    Module {
        #[source]
        source: DriverError,
    },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Proxy(#[from] proxy::ProxyError),
}

/// A running data plane, towards the gateway.
pub(crate) struct Plane {
    carrier: Carrier,
    wish: Wish,
    refusals: Vec<Refusal>,
    inner: Inner,
}

/// What a device of ours has, as it was set up.
struct Inner {
    address: IpNet,
    networks: Vec<IpNet>,
}

impl Inner {
    fn of(settings: &TunnelSettings) -> Self {
        Self {
            address: settings.address,
            networks: settings.allowed_ips.clone(),
        }
    }

    /// An address that is there is left alone: setting it again would be news, and news bring us here.
    async fn restore(&self) -> Result<(), NetlinkError> {
        let netlink = Netlink::open()?;
        let index = netlink.index(INTERFACE).await?;
        netlink.set_up(INTERFACE, None).await?;
        if !netlink.has_address(index, self.address.addr()).await? {
            netlink.add_address(INTERFACE, self.address).await?;
        }
        for network in &self.networks {
            netlink.add_route(*network, INTERFACE, None).await?;
        }
        Ok(())
    }
}

enum Carrier {
    Kernel(KernelTunnel),
    Tun(Tunnel),
    Proxy(Proxy),
}

impl Wish {
    /// What the kernel's command line says; of repeated words the last counts.
    pub(crate) fn on(command_line: &str) -> Result<Self, PlaneError> {
        let words = command_line.split_whitespace();
        let Some(name) = words.filter_map(|word| word.strip_prefix(WORD)).next_back() else {
            return Ok(Self::Best);
        };
        let kind = Kind::parse(name).ok_or_else(|| PlaneError::Name {
            name: name.to_owned(),
        })?;
        Ok(Self::Only(kind))
    }

    fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::BEST_FIRST
            .into_iter()
            .filter(move |kind| self == Self::Best || self == Self::Only(*kind))
    }
}

impl Plane {
    /// Dials the gateway by the best plane that this kernel and its modules give.
    pub(crate) async fn start(
        wish: Wish,
        drivers: &mut Drivers,
        key: &PrivateKey,
        settings: &TunnelSettings,
    ) -> Result<Self, PlaneError> {
        let mut refusals = Vec::new();
        for kind in wish.kinds() {
            match Carrier::start(kind, drivers, key, settings).await {
                Ok(carrier) => {
                    return Ok(Self {
                        carrier,
                        wish,
                        refusals,
                        inner: Inner::of(settings),
                    });
                }
                Err(obstacle) => refusals.push(Refusal {
                    kind,
                    why: chain(&obstacle).join(": "),
                }),
            }
        }
        Err(PlaneError::None(refusals))
    }

    /// By a TUN device, which stage 1 and the installed system have.
    pub(crate) async fn by_tun(key: &PrivateKey, settings: &TunnelSettings) -> Result<Self, TunnelError> {
        Ok(Self {
            carrier: Carrier::Tun(dial(key, settings).await?),
            wish: Wish::Only(Kind::Tun),
            refusals: Vec::new(),
            inner: Inner::of(settings),
        })
    }

    /// Which it is.
    pub(crate) fn kind(&self) -> Kind {
        match self.carrier {
            Carrier::Kernel(_) => Kind::Kernel,
            Carrier::Tun(_) => Kind::Tun,
            Carrier::Proxy(_) => Kind::Proxy,
        }
    }

    /// Which it is, and why, for people.
    pub(crate) fn describe(&self) -> String {
        let kind = self.kind();
        match self.wish {
            Wish::Only(_) => format!("data plane: {kind}, as the command line says"),
            Wish::Best if self.refusals.is_empty() => format!("data plane: {kind}, the best there is"),
            Wish::Best => format!("data plane: {kind}, because of {}", refusals(&self.refusals)),
        }
    }

    /// Where the HTTP proxy listens, when there is one.
    pub(crate) fn proxy_url(&self) -> Option<String> {
        match &self.carrier {
            Carrier::Proxy(proxy) => Some(proxy.url()),
            Carrier::Kernel(_) | Carrier::Tun(_) => None,
        }
    }

    /// Whether echoes that this host's kernel sends go through the tunnel.
    pub(crate) fn carries_echoes(&self) -> bool {
        !matches!(self.carrier, Carrier::Proxy(_))
    }

    /// Sets up again what an installer may have taken away: from the tunnel's own device, or from the loopback interface.
    pub(crate) async fn restore(&self) -> Result<(), AnyError> {
        match &self.carrier {
            Carrier::Kernel(_) | Carrier::Tun(_) => self.inner.restore().await?,
            Carrier::Proxy(proxy) => proxy.hear_networks().await?,
        }
        Ok(())
    }

    /// Sets the largest packet inside the tunnel, in bytes.
    pub(crate) async fn set_mtu(&self, mtu: u16) -> Result<(), AnyError> {
        match &self.carrier {
            Carrier::Kernel(tunnel) => tunnel.set_mtu(mtu).await?,
            Carrier::Tun(tunnel) => tunnel.set_mtu(mtu).await?,
            Carrier::Proxy(proxy) => proxy.set_mtu(mtu),
        }
        Ok(())
    }
}

impl Carrier {
    async fn start(
        kind: Kind,
        drivers: &mut Drivers,
        key: &PrivateKey,
        settings: &TunnelSettings,
    ) -> Result<Self, Obstacle> {
        // A module that is not there may be part of the kernel: the device decides.
        let with_module = |loaded: Result<(), DriverError>, other: Obstacle| match loaded {
            Err(source) => Obstacle::Module { source },
            Ok(()) => other,
        };
        match kind {
            Kind::Kernel => {
                let loaded = drivers.load("wireguard");
                let tunnel = KernelTunnel::start(interface(key, settings)).await;
                let tunnel = tunnel.map_err(|error| with_module(loaded, error.into()))?;
                tunnel.set_peer(&gateway(settings)).await?;
                Ok(Self::Kernel(tunnel))
            }
            Kind::Tun => {
                let loaded = drivers.load("tun");
                let tunnel = dial(key, settings).await;
                Ok(Self::Tun(
                    tunnel.map_err(|error| with_module(loaded, error.into()))?,
                ))
            }
            Kind::Proxy => {
                let (interface, gateway) = (interface(key, settings), gateway(settings));
                Ok(Self::Proxy(
                    Proxy::start(&interface, &gateway, settings.gateway_service).await?,
                ))
            }
        }
    }
}

/// The server's end of the tunnel by a TUN device, dialling the gateway.
async fn dial(key: &PrivateKey, settings: &TunnelSettings) -> Result<Tunnel, TunnelError> {
    let tunnel = Tunnel::start(interface(key, settings)).await?;
    tunnel.set_peer(gateway(settings)).await?;
    Ok(tunnel)
}

fn interface(key: &PrivateKey, settings: &TunnelSettings) -> InterfaceSettings {
    InterfaceSettings {
        name: INTERFACE.to_owned(),
        private_key: key.clone(),
        listen: None,
        addresses: vec![settings.address],
        mtu: settings.mtu,
    }
}

fn gateway(settings: &TunnelSettings) -> PeerSettings {
    PeerSettings {
        public_key: settings.gateway_public_key,
        endpoint: Some(settings.gateway_endpoint),
        allowed_ips: settings.allowed_ips.clone(),
        keepalive_s: Some(settings.keepalive_s),
    }
}

fn refusals(all: &[Refusal]) -> String {
    let each = all
        .iter()
        .map(|refusal| format!("{} ({})", refusal.kind, refusal.why));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_may_name_a_plane() {
        let wish = |line: &str| Wish::on(line);
        assert_eq!(wish("quiet").unwrap(), Wish::Best);
        assert_eq!(
            wish("leaseboot.plane=tun leaseboot.plane=proxy quiet").unwrap(),
            Wish::Only(Kind::Proxy)
        );
        let error = wish("leaseboot.plane=pigeon").unwrap_err().to_string();
        assert!(error.contains("pigeon") && error.contains("proxy"), "{error}");
    }

    #[test]
    fn the_best_comes_first_and_a_named_one_alone() {
        assert_eq!(Wish::Best.kinds().collect::<Vec<_>>(), Kind::BEST_FIRST);
        assert_eq!(Wish::Only(Kind::Tun).kinds().collect::<Vec<_>>(), [Kind::Tun]);
    }

    #[test]
    fn what_was_refused_is_told_with_its_reason() {
        let all = [Kind::Kernel, Kind::Tun].map(|kind| Refusal {
            kind,
            why: format!("no module {kind}"),
        });
        let error = PlaneError::None(all.into()).to_string();
        assert!(
            error.contains("kernel (no module kernel), tun (no module tun)"),
            "{error}"
        );
    }
}
