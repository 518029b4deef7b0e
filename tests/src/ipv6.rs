//! A lender's wire of IPv6 alone: what the lender writes down about it, and about its servers.

use crate::network::LM_ADDRESS6;
use std::net::Ipv6Addr;

/// A server's address, where the lender wrote one down.
pub const SERVER_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x11);
/// The addresses of all others begin so.
pub const POOL: &str = "fd00:10::10";

/// IPv6 on, DHCPv4 off.
pub(crate) fn configure(config: &mut toml::Table) {
    let table = format!(
        "address = '{LM_ADDRESS6}/64'\npool = {{ first = 'fd00:10::1000', last = 'fd00:10::10ff' }}\n"
    );
    // A mistake here is one of the laboratory's author.
    let table: toml::Table = table.parse().expect("a text of TOML");
    config.insert("dhcp6".to_owned(), table.into());
    crate::lab::set(config, "dhcp", "mode", "off");
}
