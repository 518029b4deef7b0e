//! What the wrapper has set up stays so, whatever the installer does to the interfaces.
//!
//! Installers set their own addresses, and before that they empty what they find: debian-installer's netcfg takes every address and route from the card and
//! from `lo` and then sets the same address again. With `lo`'s last address the kernel drops all of its routes, those by which the proxy hears the enterprise's
//! networks among them, and on the card the routes to the LM and the gateway go. NetworkManager and DHCP clients take the card over and prune what is not theirs, or take their address
//! away when its lease ends; udev and scripts take the card down, and its routes with it, to give it another name.
//!
//! | what happens | what is done |
//! |---|---|
//! | a route, or the address that the LM gave, is taken away | it is set again, beside whatever else was set |
//! | the card gets another name, or another number by a driver that is loaded anew | it is known by its number, then by its hardware address |
//! | the card is taken down | after ten seconds it is brought up; sooner would keep a renamer from its work |
//! | the link flaps | nothing: routes stay, and WireGuard asks again |
//! | somebody undoes all this each time | each attempt comes later, up to some seconds |
//!
//! When to look and what to mend is [`keeper`]'s, which is pure; here it is carried out, by netlink alone, since `/proc` and `/sys` are the installer's to mount.

mod keeper;

use crate::console::say;
use crate::errors::{AnyError, chain};
use crate::network::{NetworkError, Wire};
use crate::plane::Plane;
use keeper::{Keeper, Mend};
use leaseboot_tunnel::netlink::{Changes, NetlinkError};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Instant;
use tokio::time::sleep_until;

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

    async fn carry_out(&self, mend: Mend, plane: &Plane) -> Result<(), AnyError> {
        match mend {
            Mend::Nothing => return Ok(()),
            Mend::Card => {
                self.wire.bring_up().await?;
                say!("stage 2: brought {} up again", self.wire.describe());
                return Ok(());
            }
            Mend::AddressAndRoutes => {
                self.wire.hold_address().await?;
                say!("stage 2: set {} again", self.wire.describe());
            }
            Mend::Routes => {}
        }
        self.wire.shut().await?;
        for peer in &self.peers {
            self.wire.lead_to(*peer).await?;
        }
        plane.restore().await
    }
}

/// Listens from now on.
pub(super) fn listen() -> Result<Changes, NetlinkError> {
    Changes::open()
}

/// Restores what was set up after each change that an installer makes, until the machine goes down.
pub(super) async fn keep(mut changes: Changes, held: &mut Held, plane: &Plane) -> Infallible {
    let mut keeper = Keeper::new(Instant::now());
    let mut said = String::new();
    loop {
        // Goal: the time of the next look, which a change brings nearer. The first loses nothing when it is dropped, the second has not begun.
        tokio::select! {
            () = changes.next() => keeper.changed(Instant::now()),
            () = sleep_until(keeper.due().into()) => {
                let trouble = look(&mut keeper, held, plane).await.err();
                let trouble = trouble.map(|error| chain(error.as_ref()).join(": ")).unwrap_or_default();
                // What stays as it is has been said.
                if !trouble.is_empty() && trouble != said {
                    say!("stage 2: {trouble}");
                }
                said = trouble;
            }
        }
    }
}

/// In the middle of a change there may be no card, or no way yet: the next look is never far.
async fn look(keeper: &mut Keeper, held: &mut Held, plane: &Plane) -> Result<(), AnyError> {
    match held.wire.look().await {
        Ok(seen) => held.carry_out(keeper.looked(seen, Instant::now()), plane).await,
        Err(error) => {
            keeper.failed(Instant::now());
            Err(error.into())
        }
    }
}
