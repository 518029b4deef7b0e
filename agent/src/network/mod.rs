//! The lender's wire: the card that the firmware booted from, its link, and its address.
//!
//! Firmware speaks without a tag. Where the LM names one, the address is of an interface above the card that is for frames with this tag ([`vlan`]).
//!
//! The address comes, best first: from the site archive (the LM knows the server), from the command line
//! (`leaseboot.address=10.10.0.11/24 leaseboot.router=10.10.0.1`), or by DHCP. On a wire of IPv6 ([`ipv6`]) it comes from the site archive. Whom the server hears and answers on it is [`isolation`]'s.

mod dhcp;
mod ipv6;
mod isolation;
mod vlan;

use crate::backoff::Backoff;
use crate::console::say;
use crate::drivers::{DriverError, Drivers, Wanted};
use ipv6::Wire6;
use isolation::IsolationError;
pub(crate) use isolation::{Seen, Wire};
use leaseboot_protocol::hardware::Nic;
use leaseboot_protocol::network::{LenderAddress, LenderAddress6, MacAddress};
use leaseboot_tunnel::netlink::{Netlink, NetlinkError};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CARD_DEADLINE: Duration = Duration::from_secs(30);
const CARRIER_DEADLINE: Duration = Duration::from_secs(30);
const DHCP_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const ETHERNET_MTU: u16 = 1500;

/// Why the server is not on the wire.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The card has no driver in this image, or the firmware booted from something else.
    #[error("no network card with the address {mac} appeared within {} s; the cards that are there: {}", CARD_DEADLINE.as_secs(), present.join(", "))]
    NoCard {
        /// The card that was awaited.
        mac: MacAddress,
        /// Name and address of the others.
        present: Vec<String>,
    },
    /// The cable.
    #[error("the card {name} has no link after {} s; look at the cable and the switch's port", CARRIER_DEADLINE.as_secs())]
    NoCarrier {
        /// The kernel's name of the card.
        name: String,
    },
    /// Nobody offered an address.
    #[error("no DHCP server answered on {name} within {} s", DHCP_DEADLINE.as_secs())]
    NoOffer {
        /// The kernel's name of the card.
        name: String,
    },
    /// The DHCP exchange failed.
    #[error("cannot ask for an address on {name}")]
    Dhcp {
        /// The kernel's name of the card.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("cannot configure the network")]
    Netlink(#[from] NetlinkError),
    /// The frames of the wire carry a tag, and this kernel knows none.
    #[error("the lender's wire has the VLAN {tag}, and its driver cannot be loaded")]
    Vlan {
        /// The tag.
        tag: u16,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// The wire cannot be closed to others, so it is not used.
    #[error("cannot keep others on the lender's wire away")]
    Isolation(#[from] IsolationError),
}

impl NetworkError {
    /// Whether another driver might have helped.
    pub(crate) fn is_of_hardware(&self) -> bool {
        matches!(self, Self::NoCard { .. } | Self::NoCarrier { .. })
    }

    fn no_card(mac: MacAddress, nics: &[Nic]) -> Self {
        let present = nics.iter().map(|nic| format!("{} ({})", nic.name, nic.mac));
        NetworkError::NoCard {
            mac,
            present: present.collect(),
        }
    }
}

/// A lender's wire of either kind.
pub(crate) enum AnyWire {
    Ipv4(Wire),
    Ipv6(Wire6),
}

impl AnyWire {
    /// Lets this host be heard and answered.
    pub(crate) async fn allow(&self, peer: IpAddr) -> Result<(), IsolationError> {
        match self {
            Self::Ipv4(wire) => wire.allow(peer).await,
            Self::Ipv6(wire) => wire.allow(peer).await,
        }
    }
}

/// Puts the server on a wire of IPv6, closed to everybody but its router.
pub(crate) async fn bring_up6(
    drivers: &mut Drivers,
    mac: MacAddress,
    address: LenderAddress6,
) -> Result<AnyWire, NetworkError> {
    let netlink = Netlink::open()?;
    netlink.set_up("lo", None).await?;
    let name = card(drivers, mac).await?;
    ipv6::settle(&name)?;
    let mtu = (address.mtu != ETHERNET_MTU).then_some(address.mtu);
    netlink.set_up(&name, mtu).await?;
    carrier(&name).await?;
    say!("network: {name} ({mac}) has {}", address.address);
    Ok(AnyWire::Ipv6(Wire6::close(name, address).await?))
}

/// Puts the server on the wire, closed to everybody but its router; [`Wire::allow`] lets more in.
pub(crate) async fn bring_up(
    drivers: &mut Drivers,
    mac: MacAddress,
    known: Option<LenderAddress>,
) -> Result<Wire, NetworkError> {
    let netlink = Netlink::open()?;
    netlink.set_up("lo", None).await?;
    let name = card(drivers, mac).await?;
    isolation::without_ipv6(&name)?;
    netlink.set_up(&name, None).await?;
    carrier(&name).await?;
    let address = match known.or_else(|| from_command_line(&command_line(), mac)) {
        Some(address) => address,
        None => by_dhcp(&name, mac).await?,
    };
    netlink
        .set_up(&name, (address.mtu != ETHERNET_MTU).then_some(address.mtu))
        .await?;
    let name = vlan::above(&netlink, drivers, name, &address).await?;
    say!("network: {name} ({mac}) has {}", address.address);
    Ok(Wire::close(name, address).await?)
}

/// Waits until the card is there. Buses are probed in the background, so drivers are offered again meanwhile.
async fn card(drivers: &mut Drivers, mac: MacAddress) -> Result<String, NetworkError> {
    let deadline = Instant::now() + CARD_DEADLINE;
    loop {
        let nics = crate::hardware::report(std::path::Path::new("/")).nics;
        if let Some(nic) = nics.iter().find(|nic| nic.mac == mac) {
            return Ok(nic.name.clone());
        }
        if Instant::now() > deadline {
            return Err(NetworkError::no_card(mac, &nics));
        }
        if drivers.load_for_hardware(Wanted::Network).is_empty() {
            sleep(POLL).await;
        }
    }
}

/// The card of an installed system, with a link and without an address of our making. Its drivers are the system's own affair.
async fn member_card(address: &LenderAddress) -> Result<String, NetworkError> {
    let deadline = Instant::now() + CARD_DEADLINE;
    let name = loop {
        let nics = crate::hardware::report(std::path::Path::new("/")).nics;
        match nics.iter().find(|nic| nic.mac == address.mac) {
            Some(nic) => break nic.name.clone(),
            None if Instant::now() > deadline => return Err(NetworkError::no_card(address.mac, &nics)),
            None => sleep(POLL).await,
        }
    };
    isolation::without_ipv6(&name)?;
    let mtu = (address.mtu != ETHERNET_MTU).then_some(address.mtu);
    Netlink::open()?.set_up(&name, mtu).await?;
    carrier(&name).await?;
    Ok(name)
}

async fn carrier(name: &str) -> Result<(), NetworkError> {
    let path = format!("/sys/class/net/{name}/carrier");
    let up = async {
        while fs::read_to_string(&path).is_ok_and(|text| text.trim() != "1") {
            sleep(POLL).await;
        }
    };
    timeout(CARRIER_DEADLINE, up)
        .await
        .map_err(|_| NetworkError::NoCarrier {
            name: name.to_owned(),
        })
}

async fn by_dhcp(name: &str, mac: MacAddress) -> Result<LenderAddress, NetworkError> {
    let deadline = Instant::now() + DHCP_DEADLINE;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
    let failed = |source| NetworkError::Dhcp {
        name: name.to_owned(),
        source,
    };
    let exchange = dhcp::Exchange::open(name, mac).map_err(failed)?;
    while Instant::now() < deadline {
        if let Some(address) = exchange.ask(backoff.next()).await.map_err(failed)? {
            return Ok(address);
        }
        say!("network: no answer to DHCP on {name} yet");
    }
    Err(NetworkError::NoOffer {
        name: name.to_owned(),
    })
}

fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

fn from_command_line(command_line: &str, mac: MacAddress) -> Option<LenderAddress> {
    let value = |key: &str| {
        command_line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key))
    };
    Some(LenderAddress {
        mac,
        address: value("leaseboot.address=")?.parse().ok()?,
        router: value("leaseboot.router=").and_then(|text| text.parse::<Ipv4Addr>().ok()),
        mtu: ETHERNET_MTU,
        vlan: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_may_give_the_address() {
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let line = "console=ttyS0 leaseboot.address=10.10.0.11/24 leaseboot.router=10.10.0.1 quiet";
        let address = from_command_line(line, mac).unwrap();
        assert_eq!(address.address.to_string(), "10.10.0.11/24");
        assert_eq!(address.router, Some(Ipv4Addr::new(10, 10, 0, 1)));
        assert_eq!(from_command_line("leaseboot.address=nonsense", mac), None);
    }
}
