//! What the wrapper has set up stays so, whatever the installer does to the interfaces.
//!
//! Installers set their own addresses, and before that they empty what they find: debian-installer's netcfg takes every address and route from the card and
//! from `lo` and then sets the same address again. With `lo`'s last address the kernel drops all of its routes, those by which the proxy hears the enterprise's
//! networks among them, and on the card the routes to the LM and the gateway go. The address itself is the installer's to set, since the merge gave it
//! the right one.
//!
//! The kernel does not tell of routes that go with their address, so each change of any address is taken as the sign to set the routes again, which
//! changes nothing where they still are.

use crate::errors::chain;
use crate::network::{NetworkError, Wire};
use crate::plane::Plane;
use leaseboot_tunnel::netlink::{AddressChanges, NetlinkError};
use std::convert::Infallible;
use std::net::IpAddr;

/// The lender's wire and those on it that must be reached.
pub(super) struct Held {
    wire: Wire,
    peers: Vec<IpAddr>,
}

impl Held {
    /// Opens the wire for these.
    pub(super) async fn open(wire: Wire, peers: Vec<IpAddr>) -> Result<Self, NetworkError> {
        for peer in &peers {
            wire.allow(*peer).await?;
        }
        Ok(Self { wire, peers })
    }

    async fn restore(&self, plane: &Plane) {
        for peer in &self.peers {
            // In the middle of a change there may be no way yet; the next change brings us here again.
            let _ = self.wire.lead_to(*peer).await;
        }
        if let Err(error) = plane.restore().await {
            crate::console::say!("stage 2: {}", chain(&error).join(": "));
        }
    }
}

/// Listens from now on.
pub(super) fn listen() -> Result<AddressChanges, NetlinkError> {
    AddressChanges::open()
}

/// Restores what was set up after each change that an installer makes, until the machine goes down.
pub(super) async fn keep(mut changes: AddressChanges, held: &Held, plane: &Plane) -> Infallible {
    loop {
        changes.next().await;
        held.restore(plane).await;
    }
}
