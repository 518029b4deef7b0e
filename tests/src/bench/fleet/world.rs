//! What all lives share: where the Lease Manager is, the tenants' desks, the switchboard that hears magic packets, and the tally.

use super::numbered::{self, SWITCHBOARD};
use super::tally::Tally;
use super::wire::Desk;
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_rustls::rustls::ClientConfig;

/// What comes before the card in a magic packet.
const MAGIC: [u8; 6] = [0xff; 6];

/// The world in which servers live.
pub(super) struct World {
    /// The API of the Lease Manager.
    pub(super) api: SocketAddr,
    /// Its boot files.
    pub(super) boot: SocketAddr,
    /// What agents trust.
    pub(super) agents: Arc<ClientConfig>,
    /// One for each tenant.
    pub(super) desks: Vec<Desk>,
    pub(super) tally: Tally,
    /// How much faster than the timetable all goes.
    pub(super) haste: f64,
    /// Every so many leases, one is followed by its tenant.
    pub(super) followed: usize,
    switches: Vec<Notify>,
}

impl World {
    pub(super) fn new(
        servers: usize,
        api: SocketAddr,
        boot: SocketAddr,
        agents: Arc<ClientConfig>,
        desks: Vec<Desk>,
    ) -> Self {
        Self {
            api,
            boot,
            agents,
            desks,
            tally: Tally::default(),
            haste: 1.0,
            followed: 1,
            switches: (0..servers).map(|_| Notify::new()).collect(),
        }
    }

    /// The desk of the tenant who holds the lease of this number.
    pub(super) fn desk(&self, lease: usize) -> &Desk {
        &self.desks[lease % self.desks.len()]
    }

    /// Whether the tenant follows this lease.
    pub(super) fn follows(&self, lease: usize) -> bool {
        // Neighbours in number are of different tenants: each tenant follows its share.
        (lease / self.desks.len()).is_multiple_of(self.followed)
    }

    /// A time of the timetable as it is here.
    pub(super) fn paced(&self, time: Duration) -> Duration {
        time.div_f64(self.haste)
    }

    /// Returns when the server's card was woken, also when that was before.
    pub(super) async fn woken(&self, server: usize) {
        if let Some(switch) = self.switches.get(server) {
            switch.notified().await;
        }
    }
}

/// The socket that magic packets come to.
pub(super) async fn switchboard() -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SWITCHBOARD).await;
    socket.with_context(|| format!("cannot take {SWITCHBOARD} for magic packets"))
}

/// Wakes servers for ever. Packets come in several copies, and a switch remembers one.
pub(super) async fn wake(world: Arc<World>, socket: UdpSocket) {
    let mut packet = [0; 128];
    while let Ok(length) = socket.recv(&mut packet).await {
        let card = packet[..length]
            .strip_prefix(&MAGIC)
            .and_then(|rest| rest.get(..6));
        let switch = card
            .and_then(numbered::by_card)
            .and_then(|server| world.switches.get(server));
        if let Some(switch) = switch {
            switch.notify_one();
        }
    }
}
