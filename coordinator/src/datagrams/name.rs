//! Addresses in the kernel's form (`sockaddr_in` and `sockaddr_in6`), in one place that has room for either.

use nix::libc;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address as the kernel writes it; both kinds begin with the family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    pub(super) const NONE: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    pub(super) fn of(address: SocketAddr) -> Self {
        let mut name = Self::NONE;
        match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from(*address.ip()).to_be(),
                    },
                    sin_zero: [0; 8],
                };
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
            }
        }
        name
    }

    fn is_v6(&self) -> bool {
        // SAFETY: every byte of a name is initialised ([`Name::NONE`]), and both kinds have the family at the same place.
        let family = unsafe { self.v6.sin6_family };
        family == libc::AF_INET6 as libc::sa_family_t
    }

    pub(super) fn length(&self) -> libc::socklen_t {
        let length = if self.is_v6() {
            size_of::<libc::sockaddr_in6>()
        } else {
            size_of::<libc::sockaddr_in>()
        };
        length as libc::socklen_t
    }

    pub(super) fn address(&self) -> SocketAddr {
        if self.is_v6() {
            // SAFETY: every byte is initialised, and any bytes are a value of this structure.
            let name = unsafe { self.v6 };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            return SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into();
        }
        // SAFETY: as above.
        let name = unsafe { self.v4 };
        let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
        SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into()
    }
}
