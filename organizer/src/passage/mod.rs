//! Which packets pass from lent servers into the enterprise, and to them: an nftables table of our own on the gateway.
//!
//! ```text
//! Transferring (chained, installing), Installed ──► the install servers that the profile names, by address, protocol and port
//! Joining, InService, Draining ───────────────────► the networks of its tunnel, and new connections to it
//! everything else ────────────────────────────────► nothing; the gateway's own service answers by its own rules
//! ```
//!
//! Where `po.toml` names no `[[install_server]]`, a server that installs has the networks of its tunnel open, as a member has. So the table is always there, and what AllowedIPs say to the
//! member's side of the tunnel is what holds at ours, whatever the member routes.
//!
//! What has to be open is a function of a borrowing's state ([`openings`]), as its peers are: a PO that comes back reads the states and sets the
//! whole table in one transaction, which also takes away what is stale. Between two states the difference is applied, in one transaction too. Doors
//! that a change closes are closed before it is written down, doors that it opens are opened after; what nft refused is tried again, and a
//! table that somebody flushed is made again, since without it the kernel forwards everything.
//!
//! Each packet of a server is checked, not only the first of a connection: what is closed ends there, whatever was going on.

mod nft;
mod ruleset;

use crate::borrowing::Order;
use crate::borrowing::machine::State;
use crate::error_chain;
use ipnet::{IpNet, Ipv4Net};
use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::network::TunnelSettings;
pub use nft::NftError;
use ruleset::Ruleset;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the table is looked after: something refused is tried again, something flushed made again.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Whether there is an nft on this host.
///
/// # Errors
/// [`NftError::Run`] when there is none.
pub async fn nft_works() -> Result<(), NftError> {
    nft::version().await
}

/// Ports from the first to the last, both included.
pub type Ports = (u16, u16);

/// A server inside the enterprise that installers fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallServer {
    /// Its name in `po.toml`.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: Vec<Ports>,
}

/// Something that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opening {
    /// A server that installs reaches an install server.
    Install {
        /// The server's address inside the tunnel.
        from: Ipv4Addr,
        /// The install server.
        to: Ipv4Addr,
        /// The protocol.
        protocol: Protocol,
        /// The ports.
        ports: Ports,
    },
    /// A member, or a server that installs where there are no install servers, reaches a network.
    Member {
        /// The member's address.
        from: Ipv4Addr,
        /// The network.
        to: Ipv4Net,
    },
    /// Such a server is reached.
    Serving {
        /// The member's address.
        member: Ipv4Addr,
    },
}

/// What is open for a borrowing in this state.
pub fn openings(order: &Order, state: &State, servers: &[InstallServer]) -> BTreeSet<Opening> {
    let IpAddr::V4(from) = order.address() else {
        return BTreeSet::new();
    };
    let tunnel = &order.settings.tunnel;
    match state {
        State::Transferring {
            stage: LeaseState::Chained | LeaseState::Installing,
            agent: Some(_),
            ..
        }
        | State::Installed { .. } => match servers {
            [] => networks(from, tunnel),
            servers => install_openings(from, order, servers),
        },
        State::Joining { .. } | State::InService { .. } | State::Draining { .. } => {
            networks(from, &order.membership.network.tunnel(tunnel))
        }
        _ => BTreeSet::new(),
    }
}

/// The networks of a tunnel, none within another, and the way to its end.
fn networks(from: Ipv4Addr, tunnel: &TunnelSettings) -> BTreeSet<Opening> {
    let v4 = tunnel.allowed_ips.iter().filter_map(|network| match network {
        IpNet::V4(network) => Some(network.trunc()),
        IpNet::V6(_) => None,
    });
    Ipv4Net::aggregate(&v4.collect())
        .into_iter()
        .map(|to| Opening::Member { from, to })
        .chain([Opening::Serving { member: from }])
        .collect()
}

fn install_openings(from: Ipv4Addr, order: &Order, servers: &[InstallServer]) -> BTreeSet<Opening> {
    let doors = install_doors(order, servers).into_iter();
    let opened = doors.flat_map(|((to, protocol), ports)| {
        joined(ports).into_iter().map(move |ports| Opening::Install {
            from,
            to,
            protocol,
            ports,
        })
    });
    opened.collect()
}

fn install_doors(order: &Order, servers: &[InstallServer]) -> BTreeMap<(Ipv4Addr, Protocol), Vec<Ports>> {
    let mut doors: BTreeMap<_, Vec<Ports>> = BTreeMap::new();
    for server in servers
        .iter()
        .filter(|server| order.may_install_from(&server.name))
    {
        let ports = doors.entry((server.address, server.protocol)).or_default();
        ports.extend(&server.ports);
    }
    doors
}

/// Ranges in order, one where they meet: nftables takes no two that overlap.
fn joined(mut ports: Vec<Ports>) -> Vec<Ports> {
    ports.sort_unstable();
    let mut joined: Vec<Ports> = Vec::new();
    for (first, last) in ports {
        match joined.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// The doors of this gateway.
#[derive(Clone)]
pub struct Passage(Option<Arc<Guarded>>);

struct Guarded {
    ruleset: Ruleset,
    servers: Vec<InstallServer>,
    table: Mutex<Table>,
}

/// What should be open, and what is.
#[derive(Default)]
struct Table {
    wanted: BTreeMap<Ipv4Addr, BTreeSet<Opening>>,
    /// `None` until the table was made by this process, and when it is not known what is in it.
    applied: Option<BTreeSet<Opening>>,
}

impl Passage {
    /// No table: everything passes that the host's own rules let pass. For tests that have no tunnel.
    pub fn unguarded() -> Self {
        Self(None)
    }

    /// Doors for the tunnel device `interface`, behind which the gateway answers on `service`.
    pub fn guarded(interface: &str, service: SocketAddrV4, servers: Vec<InstallServer>) -> Self {
        Self(Some(Arc::new(Guarded {
            ruleset: Ruleset::new(interface, service),
            servers,
            table: Mutex::default(),
        })))
    }

    /// Doors by the configuration.
    ///
    /// # Errors
    /// [`NftError`], when there is no nft that works.
    pub async fn prepare(
        interface: &str,
        service: SocketAddrV4,
        servers: &[InstallServer],
    ) -> Result<Self, NftError> {
        if servers.is_empty() {
            tracing::info!(
                "po.toml names no [[install_server]]: servers that install reach all networks of their tunnel"
            );
        }
        nft::version().await?;
        Ok(Self::guarded(interface, service, servers.to_vec()))
    }

    /// The first of `names` that is no install server of `po.toml`.
    pub fn unknown<'a>(&self, names: &'a [String]) -> Option<&'a String> {
        let servers = self.0.as_ref().map_or(&[][..], |guarded| &guarded.servers);
        names
            .iter()
            .find(|name| !servers.iter().any(|server| server.name == **name))
    }

    /// Makes the table with what the borrowings need, in one transaction.
    ///
    /// # Errors
    /// [`NftError`].
    pub async fn begin<'a>(
        &self,
        borrowings: impl Iterator<Item = (&'a Order, &'a State)>,
    ) -> Result<(), NftError> {
        let Some(guarded) = &self.0 else {
            return Ok(());
        };
        let mut table = guarded.table.lock().await;
        for (order, state) in borrowings {
            guarded.want(&mut table, order, openings(order, state, &guarded.servers));
        }
        guarded.reconcile(&mut table).await
    }

    /// Closes what `after` no longer needs; call it before `after` is written down.
    pub async fn close(&self, order: &Order, before: &State, after: &State) {
        self.set(order, |servers| {
            let stays = openings(order, after, servers);
            openings(order, before, servers)
                .intersection(&stays)
                .copied()
                .collect()
        })
        .await;
    }

    /// Opens what `state` needs; call it after `state` was written down.
    pub async fn open(&self, order: &Order, state: &State) {
        self.set(order, |servers| openings(order, state, servers)).await;
    }

    async fn set(&self, order: &Order, wanted: impl FnOnce(&[InstallServer]) -> BTreeSet<Opening>) {
        let Some(guarded) = &self.0 else {
            return;
        };
        let wanted = wanted(&guarded.servers);
        let mut table = guarded.table.lock().await;
        guarded.want(&mut table, order, wanted);
        if let Err(error) = guarded.reconcile(&mut table).await {
            tracing::error!(server = %order.address(), error = error_chain(&error), "the gateway's doors are not as they should be, trying again");
        }
    }

    /// Looks after the table until `stop`.
    pub async fn look_after(&self, stop: CancellationToken) {
        let Some(guarded) = &self.0 else {
            return stop.cancelled().await;
        };
        let mut looks = interval(LOOK_AFTER);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Goal: a table that is as it should be. A look that is dropped changed nothing, or what `applied` does not know, and then the next process
        // makes the table anew.
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            guarded.look().await;
        }
    }
}

impl Guarded {
    fn want(&self, table: &mut Table, order: &Order, openings: BTreeSet<Opening>) {
        let IpAddr::V4(address) = order.address() else {
            return;
        };
        if openings.is_empty() {
            table.wanted.remove(&address);
        } else {
            table.wanted.insert(address, openings);
        }
    }

    /// Brings the kernel's table to what is wanted, in one transaction.
    async fn reconcile(&self, table: &mut Table) -> Result<(), NftError> {
        let wanted: BTreeSet<_> = table.wanted.values().flatten().copied().collect();
        let commands = match &table.applied {
            Some(applied) if *applied == wanted => return Ok(()),
            Some(applied) => self.ruleset.change(applied, &wanted),
            None => self.ruleset.whole(&wanted),
        };
        // Whatever comes of it, what was applied is not known until it is known.
        table.applied = None;
        nft::apply(&commands).await?;
        table.applied = Some(wanted);
        Ok(())
    }

    async fn look(&self) {
        let mut table = self.table.lock().await;
        if table.applied.is_some() && !nft::exists(self.ruleset.table()).await {
            tracing::warn!(
                table = self.ruleset.table(),
                "the gateway's table of nftables is gone: lent servers could reach everything; making it again"
            );
            table.applied = None;
        }
        if let Err(error) = self.reconcile(&mut table).await {
            tracing::error!(
                error = error_chain(&error),
                "the gateway's doors are not as they should be, trying again"
            );
        }
    }
}

#[cfg(test)]
mod tests;
