//! See [`crate::fuzzing`].

use super::{Dhcp6, Dhcp6Config, Dhcp6Settings, Known, handle_datagram};
use crate::dhcp::{DhcpConfig, PoolConfig};
use std::net::Ipv6Addr;
use std::time::Instant;

/// What is added to a message on the way back: identifiers, addresses and a URL, never more.
const ADDED: usize = 1024;

/// A server's settings, with a small pool.
pub(crate) fn settings() -> Dhcp6Settings {
    let config = Dhcp6Config {
        address: "fd00:10::1/64".parse().expect("an address"),
        router: None,
        lease_time_s: 3600,
        name_servers: vec![Ipv6Addr::LOCALHOST],
        pool: Some(PoolConfig {
            first: Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x100),
            last: Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x103),
            lease_time_s: 600,
        }),
        router_advertisements: true,
        autonomous: false,
        router_lifetime_s: 0,
        subnet: Vec::new(),
    };
    let programs = ["grub/core.efi", "grub/core.0", "ipxe/snponly.efi"];
    Dhcp6Settings {
        interface: "br0".to_owned(),
        config,
        loaders: DhcpConfig::default(),
        http_base: "http://[fd00:10::1]".to_owned(),
        programs: programs.map(str::to_owned).into(),
        mtu: 1500,
    }
}

/// One datagram to port 547, twice to one server, of a card that nobody wrote down and of one that somebody did.
pub(crate) fn dhcp6(bytes: &[u8]) {
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe4c, 0x4201);
    let fixed = Known {
        address: Some(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x11)),
        ..Known::default()
    };
    let mut server = Dhcp6::new(settings(), vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    for known in [None, Some(fixed)] {
        if let Ok(Some(reply)) = handle_datagram(&mut server, bytes, from, |_| known, Instant::now()) {
            // Nobody can have us send much more than was sent to us.
            assert!(
                reply.bytes.len() <= 2 * bytes.len() + ADDED,
                "{} bytes",
                reply.bytes.len()
            );
        }
    }
}
