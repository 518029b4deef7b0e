//! A lender's wire of IPv6 alone: the card goes on with the address that DHCPv6 gave its firmware, which the LM says again in the site archive. So there is no
//! DHCPv6 client here, and nobody's router advertisement is listened to.
//!
//! The kernel settings stand in networking/ip-sysctl. No address is tested for a double (`accept_dad`): firmware has done that, and until the test is over, after a second, the kernel speaks from the link-local address, which the LM does not know.

use super::isolation::{self, IsolationError};
use crate::console::say;
use ipnet::{IpNet, Ipv6Net};
use leaseboot_protocol::network::LenderAddress6;
use leaseboot_tunnel::netlink::Netlink;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

const CARD: [(&str, &str); 6] = [
    ("disable_ipv6", "0"),
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("accept_source_route", "-1"),
    ("accept_dad", "0"),
];

/// Settles a card, before it goes up.
pub(super) fn settle(name: &str) -> Result<(), IsolationError> {
    for (setting, value) in CARD {
        isolation::set(Path::new(isolation::IPV6).join(name).join(setting), value)?;
    }
    Ok(())
}

/// The card on a wire of IPv6, closed to all but those that were allowed.
pub(crate) struct Wire6 {
    name: String,
    address: LenderAddress6,
}

impl Wire6 {
    /// Gives the card its address and closes the wire; only the router is known yet.
    pub(super) async fn close(name: String, address: LenderAddress6) -> Result<Self, IsolationError> {
        shut(&name, &address).await?;
        Ok(Self { name, address })
    }

    /// Lets this host be heard and answered.
    pub(super) async fn allow(&self, peer: IpAddr) -> Result<(), IsolationError> {
        let (host, via) = way(&self.address, peer)?;
        Netlink::open()?.add_route(host, &self.name, via).await?;
        say!("network: {} is open for {peer}", self.name);
        Ok(())
    }
}

/// Gives the card its address, and closes the wire to all but the router.
async fn shut(name: &str, address: &LenderAddress6) -> Result<(), IsolationError> {
    let netlink = Netlink::open()?;
    let own = IpNet::V6(Ipv6Net::from(address.address.addr()));
    netlink.add_address(name, own).await?;
    // Neighbours are asked for, and answered, without a look at routes (RFC 4861): this is about all else.
    netlink.add_unreachable(LINK_LOCAL.into()).await?;
    netlink.add_unreachable(address.address.trunc().into()).await?;
    if let Some(router) = address.router {
        netlink
            .add_route(Ipv6Net::from(router).into(), name, None)
            .await?;
    }
    Ok(())
}

const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);

/// How a host is reached: directly on the wire, or by the router.
fn way(address: &LenderAddress6, peer: IpAddr) -> Result<(IpNet, Option<IpAddr>), IsolationError> {
    match (peer, address.router) {
        (IpAddr::V6(peer), router) if address.address.contains(&peer) || router == Some(peer) => {
            Ok((Ipv6Net::from(peer).into(), None))
        }
        (IpAddr::V6(peer), Some(router)) => Ok((Ipv6Net::from(peer).into(), Some(router.into()))),
        _ => Err(IsolationError::NoRouter {
            peer,
            wire: address.address.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_wire_are_reached_directly_and_others_by_the_router() {
        let address = |router: Option<&str>| LenderAddress6 {
            address: "fd00:10::11/64".parse().unwrap(),
            router: router.map(|router| router.parse().unwrap()),
            mtu: 1500,
        };
        let lm: IpAddr = "fd00:10::1".parse().unwrap();
        let lm_alone: IpNet = "fd00:10::1/128".parse().unwrap();
        assert_eq!(way(&address(None), lm).unwrap(), (lm_alone, None));
        let gateway: IpAddr = "2001:db8::2".parse().unwrap();
        assert!(way(&address(None), gateway).is_err());
        let (_, via) = way(&address(Some("fe80::1")), gateway).unwrap();
        assert_eq!(via, Some("fe80::1".parse().unwrap()));
        let of_ipv4 = way(&address(Some("fe80::1")), IpAddr::from([198, 51, 100, 2]));
        assert!(of_ipv4.unwrap_err().to_string().contains("198.51.100.2"));
    }
}
