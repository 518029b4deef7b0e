//! Sends the echoes of a search, and sets the tunnel's MTU to what was found.

use super::echo::Echoes;
use super::{Found, Search};
use crate::console::say;
use crate::errors::chain;
use crate::plane::Plane;
use leaseboot_protocol::network::TunnelSettings;
use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long echoes are waited for: a way around the earth and back.
const ECHO: Duration = Duration::from_millis(500);
/// How often the way is looked at again while nothing is known of it.
const WHILE_SILENT: Duration = Duration::from_secs(15);
/// How often a way that is known is looked at again: routes change.
const LATER: Duration = Duration::from_secs(600);
/// WireGuard's own bytes around a packet, and UDP's and IPv4's.
const AROUND: u16 = 32 + 8 + 20;

/// Looks for what the way to the gateway carries, and sets the tunnel's MTU to it. Gives the MTU that holds from now on.
///
/// What goes wrong is said and changes nothing: a tunnel with the configured MTU is better than none.
pub(crate) async fn settle(tunnel: &Plane, settings: &TunnelSettings, now: u16) -> u16 {
    match look(tunnel, settings, now).await {
        Ok(Found::Fits(size)) => shrink(tunnel, now, size).await,
        Ok(Found::Silent) => {
            say!("tunnel: the gateway sends no echoes: the MTU stays {now}");
            now
        }
        Err(error) => {
            say!("tunnel: the MTU stays {now}: cannot send echoes: {error}");
            now
        }
    }
}

/// Keeps looking for as long as the tunnel lives, from an MTU of `now` on. It only shrinks: a larger one is found at the next start.
pub(crate) async fn keep(tunnel: &Plane, settings: &TunnelSettings, mut now: u16) -> Infallible {
    loop {
        let pause = match look(tunnel, settings, now).await {
            Ok(Found::Silent) | Err(_) => WHILE_SILENT,
            Ok(Found::Fits(size)) => {
                now = shrink(tunnel, now, size).await;
                LATER
            }
        };
        sleep(pause).await;
    }
}

/// Sets the MTU to what fits, where that is less than now. Gives the MTU that holds from now on.
async fn shrink(tunnel: &Plane, now: u16, fits: u16) -> u16 {
    if fits >= now {
        return now;
    }
    match tunnel.set_mtu(fits).await {
        Ok(()) => {
            say!(
                "tunnel: the way to the gateway carries packets of {fits} bytes and not of {now}: MTU {fits}"
            );
            fits
        }
        Err(error) => {
            say!(
                "tunnel: the MTU stays {now}: {}",
                chain(error.as_ref()).join(": ")
            );
            now
        }
    }
}

/// One search, for packets of at most `most` bytes. Where echoes do not go through the tunnel, what the kernel knows has to do.
async fn look(tunnel: &Plane, settings: &TunnelSettings, most: u16) -> io::Result<Found> {
    if !tunnel.carries_echoes() {
        let outside = outer_mtu(settings.gateway_endpoint).map(|outside| outside.saturating_sub(AROUND));
        return Ok(Found::Fits(outside.unwrap_or(most).min(most)));
    }
    let IpAddr::V4(gateway) = settings.gateway_service.ip() else {
        return Ok(Found::Silent);
    };
    // One process at a time has the tunnel.
    let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let echoes = Echoes::with(gateway, identifier).await?;
    let mut search = Search::up_to(most);
    loop {
        if let Some(outside) = outer_mtu(settings.gateway_endpoint) {
            search.cap(outside.saturating_sub(AROUND));
        }
        for size in search.sizes().collect::<Vec<_>>() {
            // A packet that the device refuses has not fit either.
            let _ = echoes.ask(size).await;
        }
        let until = Instant::now() + ECHO;
        // Goal: every echo that is awaited, or the end of the round. One that comes later counts in the next.
        while search.found().is_none() && search.awaits() {
            match timeout_at(until, echoes.next()).await {
                Ok(size) => search.came_back(size?),
                Err(_) => break,
            }
        }
        if let Some(found) = search.waited() {
            return Ok(found);
        }
    }
}

/// What the kernel knows of the way outside the tunnel: the wire's MTU, or less when a router has said so.
fn outer_mtu(gateway: SocketAddr) -> Option<u16> {
    if !gateway.is_ipv4() {
        return None;
    }
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(gateway).ok()?;
    u16::try_from(getsockopt(&socket, IpMtu).ok()?).ok()
}
