//! Lent servers of different tenants stand on one wire and must not reach each other. So a server hears, and answers, only those that its
//! transfer needs: the LM, the router, and the enterprise's gateway.
//!
//! It is done with what every kernel has, because the second kernel is the enterprise's own and may lack nf_tables:
//!
//! | what | shuts out |
//! |---|---|
//! | the address has the prefix /32; routes lead to single hosts; the rest of the wire's network is `unreachable` | sending to a neighbour, even when an installer adds a default route later |
//! | `rp_filter=1` (RFC 3704, strict) | every packet from a source without such a route |
//! | `arp_filter=1`, `arp_ignore=1`, `arp_announce=2` | answers to neighbours' ARP requests, and telling of other addresses |
//! | `accept_redirects=0`, `accept_source_route=0` | routes by other people's word |
//! | IPv6 off on the card | all of IPv6 |
//!
//! A wire of IPv6 ([`super::ipv6`]) has no IPv4 to shut out, and no `rp_filter`: there the routes to single hosts, and `unreachable` for the wire's network and for all link-local addresses, keep
//! answers from neighbours; what a neighbour sends arrives.
//!
//! (Kernel document networking/ip-sysctl.) Routes and settings are the kernel's, so they last through switch_root. The installed system gets
//! the same from the member's tunnel service, which puts `unreachable` in the place of the route that the installer's settings made. What this cannot see is
//! a neighbour that forges the LM's or the router's own address: that is the switch's to stop, and all that passes with these two is
//! TLS or WireGuard. An ARP probe from 0.0.0.0 is answered (RFC 5227), so that a doubled address is noticed.

use super::NetworkError;
use crate::console::say;
use ipnet::{IpNet, Ipv4Net};
use leaseboot_protocol::network::LenderAddress;
use leaseboot_tunnel::netlink::{Netlink, NetlinkError};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

const IPV4: &str = "/proc/sys/net/ipv4/conf";
pub(super) const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// For the card alone: the enterprise's other cards are none of the lender's business.
const CARD: [(&str, &str); 6] = [
    ("rp_filter", "1"),
    ("arp_filter", "1"),
    ("arp_ignore", "1"),
    ("arp_announce", "2"),
    ("accept_redirects", "0"),
    ("accept_source_route", "0"),
];
/// A host takes redirects when either the card or `all` says so.
const ALL: [(&str, &str); 1] = [("accept_redirects", "0")];

/// The wire cannot be closed, or not opened for somebody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IsolationError {
    /// The kernel has no such setting, or refuses it.
    #[error("cannot write {value} to {path}")]
    Setting {
        /// The setting.
        path: PathBuf,
        /// The value.
        value: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused an address or a route.
    #[error("cannot set the routes of the lender's wire")]
    Route(#[from] NetlinkError),
    /// The lender's settings do not lead there.
    #[error("{peer} is not on the lender's wire {wire}, and the lender names no router: nothing leads there")]
    NoRouter {
        /// Who is to be reached.
        peer: IpAddr,
        /// The wire.
        wire: IpNet,
    },
}

/// The card on the lender's wire, closed to all but those that were allowed.
pub(crate) struct Wire {
    /// Its name when it was looked at last: udev and installers give others.
    name: String,
    /// What stays the same meanwhile.
    index: u32,
    address: LenderAddress,
}

/// What has become of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is none: its driver is being loaded anew, or somebody moved it to another namespace.
    Gone,
    /// It was taken down.
    Down,
    /// It is up.
    Up {
        /// Whether it has the address that the LM gave, with whatever prefix.
        addressed: bool,
    },
}

/// Turns IPv6 off on a card, before it goes up. A kernel without IPv6 has nothing to turn off.
pub(super) fn without_ipv6(name: &str) -> Result<(), IsolationError> {
    let folder = Path::new(IPV6).join(name);
    match folder.exists() {
        true => set(folder.join("disable_ipv6"), "1"),
        false => Ok(()),
    }
}

impl Wire {
    /// Gives the card its address and closes the wire; only the router is known yet.
    pub(super) async fn close(name: String, address: LenderAddress) -> Result<Self, IsolationError> {
        let wire = Self::on(name, address).await?;
        wire.hold_address().await?;
        wire.set_up_card()?;
        wire.shut().await?;
        Ok(wire)
    }

    async fn on(name: String, address: LenderAddress) -> Result<Self, IsolationError> {
        let index = Netlink::open()?.index(&name).await?;
        Ok(Self { name, index, address })
    }

    /// Closes the wire of an installed system, which has its address by the installer's settings, but for the router and the gateway.
    pub(crate) async fn of_member(address: LenderAddress, gateway: IpAddr) -> Result<(), NetworkError> {
        let nics = crate::hardware::report(Path::new("/")).nics;
        let Some(card) = nics.iter().find(|nic| nic.mac == address.mac) else {
            return Err(NetworkError::no_card(address.mac, &nics));
        };
        without_ipv6(&card.name)?;
        let name = super::vlan::existing(&card.name, &address);
        let wire = Self::on(name, address).await?;
        wire.set_up_card()?;
        wire.shut().await?;
        Ok(wire.allow(gateway).await?)
    }

    /// Puts the card of a written image on the wire, which nobody told the image about, and closes it but for the router and the gateway.
    pub(crate) async fn join_as_member(address: LenderAddress, gateway: IpAddr) -> Result<(), NetworkError> {
        let name = super::member_card(&address).await?;
        let wire = Self::close(name, address).await?;
        Ok(wire.allow(gateway).await?)
    }

    /// What the kernel does with packets of the card by itself. Needs `/proc`, and outlives a new name.
    fn set_up_card(&self) -> Result<(), IsolationError> {
        for (card, settings) in [("all", &ALL[..]), (&self.name, &CARD)] {
            for (setting, value) in settings {
                set(Path::new(IPV4).join(card).join(setting), value)?;
            }
        }
        Ok(())
    }

    /// Leads to the router and to nobody else, again where somebody took these routes away.
    pub(crate) async fn shut(&self) -> Result<(), IsolationError> {
        let netlink = Netlink::open()?;
        // The router's own route first: an installed system loses the route to its whole network by the second.
        if let Some(router) = self.address.router {
            self.route(&netlink, router, None).await?;
        }
        Ok(netlink.add_unreachable(self.address.address.into()).await?)
    }

    /// Gives the card its address, again where somebody took it away.
    pub(crate) async fn hold_address(&self) -> Result<(), IsolationError> {
        let own = IpNet::V4(host(self.address.address.addr()));
        Ok(Netlink::open()?.add_address(&self.name, own).await?)
    }

    /// Brings the card up, again where somebody took it down.
    pub(crate) async fn bring_up(&self) -> Result<(), IsolationError> {
        Ok(Netlink::open()?.set_up(&self.name, None).await?)
    }

    /// Looks where the card is now, what it is called, and whether it is up and has its address.
    pub(crate) async fn look(&mut self) -> Result<Seen, IsolationError> {
        let netlink = Netlink::open()?;
        let links = netlink.links().await?;
        // A driver that was loaded anew gives the card another number.
        let found = links
            .iter()
            .find(|link| link.index == self.index)
            .or_else(|| links.iter().find(|link| link.card == self.address.mac.0));
        let Some(link) = found else {
            return Ok(Seen::Gone);
        };
        if link.name != self.name {
            say!("network: {} is called {} now", self.name, link.name);
            self.name.clone_from(&link.name);
        }
        self.index = link.index;
        let addressed = netlink
            .has_address(link.index, self.address.address.addr().into())
            .await?;
        Ok(match link.is_up {
            true => Seen::Up { addressed },
            false => Seen::Down,
        })
    }

    /// The address and the card's present name, for people.
    pub(crate) fn describe(&self) -> String {
        format!("{} on {}", self.address.address.addr(), self.name)
    }

    /// Lets this host be heard and answered.
    pub(crate) async fn allow(&self, peer: IpAddr) -> Result<(), IsolationError> {
        self.lead_to(peer).await?;
        say!("network: {} is open for {peer}", self.name);
        Ok(())
    }

    /// Sets the route to this host, again where somebody took it away.
    pub(crate) async fn lead_to(&self, peer: IpAddr) -> Result<(), IsolationError> {
        let (peer, via) = way(&self.address, peer)?;
        Ok(self.route(&Netlink::open()?, peer, via).await?)
    }

    async fn route(
        &self,
        netlink: &Netlink,
        peer: Ipv4Addr,
        via: Option<Ipv4Addr>,
    ) -> Result<(), NetlinkError> {
        netlink
            .add_route(IpNet::V4(host(peer)), &self.name, via.map(IpAddr::V4))
            .await
    }
}

/// How a host is reached: directly on the wire, or by the router.
fn way(address: &LenderAddress, peer: IpAddr) -> Result<(Ipv4Addr, Option<Ipv4Addr>), IsolationError> {
    match (peer, address.router) {
        (IpAddr::V4(peer), router) if address.address.contains(&peer) || router == Some(peer) => {
            Ok((peer, None))
        }
        (IpAddr::V4(peer), Some(router)) => Ok((peer, Some(router))),
        _ => Err(IsolationError::NoRouter {
            peer,
            wire: address.address.into(),
        }),
    }
}

fn host(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

pub(super) fn set(path: PathBuf, value: &'static str) -> Result<(), IsolationError> {
    std::fs::write(&path, value).map_err(|source| IsolationError::Setting { path, value, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::network::MacAddress;

    fn address(router: Option<[u8; 4]>) -> LenderAddress {
        LenderAddress {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            address: "10.10.0.11/24".parse().unwrap(),
            router: router.map(Ipv4Addr::from),
            mtu: 1500,
            vlan: None,
        }
    }

    #[test]
    fn neighbours_are_reached_directly_and_the_rest_by_the_router() {
        let (lm, gateway) = (Ipv4Addr::new(10, 10, 0, 1), Ipv4Addr::new(198, 51, 100, 2));
        let routed = address(Some([10, 10, 0, 254]));
        assert_eq!(way(&routed, IpAddr::V4(lm)).unwrap(), (lm, None));
        assert_eq!(
            way(&routed, IpAddr::V4(gateway)).unwrap(),
            (gateway, Some(Ipv4Addr::new(10, 10, 0, 254)))
        );
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(
            way(&address(Some([192, 0, 2, 1])), IpAddr::V4(outside)).unwrap(),
            (outside, None)
        );
    }

    #[test]
    fn what_nothing_leads_to_is_told() {
        let error = way(&address(None), "198.51.100.2".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("198.51.100.2"), "{error}");
        // The lender's wire is IPv4, and IPv6 is off on it.
        assert!(way(&address(Some([10, 10, 0, 1])), "2001:db8::1".parse().unwrap()).is_err());
    }
}
