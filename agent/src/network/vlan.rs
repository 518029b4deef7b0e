//! The interface of a tagged network on a card (kernel document networking/8021q).

use super::{NetworkError, isolation};
use crate::drivers::Drivers;
use leaseboot_protocol::network::LenderAddress;
use leaseboot_tunnel::netlink::Netlink;
use std::fs;

/// What the kernel tells of its VLAN interfaces: `name | tag | card`, below two lines of headings.
const INTERFACES: &str = "/proc/net/vlan/config";
const MODULE: &str = "8021q";

/// The interface that the address belongs on: the card itself, or one above it that is made here and put up.
pub(super) async fn above(
    netlink: &Netlink,
    drivers: &mut Drivers,
    card: String,
    address: &LenderAddress,
) -> Result<String, NetworkError> {
    let Some(tag) = address.vlan else {
        return Ok(card);
    };
    drivers
        .load(MODULE)
        .map_err(|source| NetworkError::Vlan { tag, source })?;
    let name = format!("{card}.{tag}");
    netlink.add_vlan(&name, &card, tag).await?;
    isolation::without_ipv6(&name)?;
    netlink.set_up(&name, Some(address.mtu)).await?;
    Ok(name)
}

/// The same interface in a system that made it by itself, whatever it is called there.
pub(super) fn existing(card: &str, address: &LenderAddress) -> String {
    let found = address.vlan.and_then(|tag| {
        let interfaces = fs::read_to_string(INTERFACES).unwrap_or_default();
        named(&interfaces, card, tag)
    });
    found.unwrap_or_else(|| card.to_owned())
}

fn named(interfaces: &str, card: &str, tag: u16) -> Option<String> {
    interfaces.lines().find_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let (name, number, below) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(tag) && below == card).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_its_tag_and_its_card() {
        let interfaces = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                          eth1.20        | 20  | eth1\nlender         | 20  | eth0\n";
        assert_eq!(named(interfaces, "eth0", 20).unwrap(), "lender");
        assert_eq!(named(interfaces, "eth0", 21), None);
        assert_eq!(named("", "eth0", 20), None);
    }
}
