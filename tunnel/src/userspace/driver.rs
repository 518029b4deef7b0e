//! The loop between the UDP socket and the stack.
//!
//! ```text
//!   UDP socket ─recvmmsg─► Router::carry_in ─► Stack::take ┐
//!                                                          ├─► Stack::give ─► Router::carry_out ─sendmmsg─► UDP socket
//!   streams ──────── work ─────────────────────────────────┘
//! ```
//!
//! One task, not a thread: those who read and write the streams run beside it in the same runtime, and there is one processor to share with an installer.

use super::Shared;
use crate::batch::{self, Inbox};
use crate::datagrams::Datagrams;
use crate::offload::Offload;
use crate::packets::Packets;
use crate::router::Router;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// How often the router's timers run.
const TICK: Duration = Duration::from_millis(250);

/// What the task owns.
pub(super) struct Driver {
    shared: Arc<Shared>,
    router: Arc<Router>,
    socket: UdpSocket,
    /// The same socket, watched by tokio.
    watched: tokio::net::UdpSocket,
    inbox: Inbox,
    network: Datagrams,
    arrived: Packets,
    leaving: Packets,
    segmenting: bool,
    next_tick: Instant,
}

impl Driver {
    /// Takes the socket over; must be called inside a tokio runtime.
    pub(super) fn new(shared: Arc<Shared>, router: Arc<Router>, socket: UdpSocket) -> io::Result<Self> {
        batch::prepare(&socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            shared,
            router,
            watched: tokio::net::UdpSocket::from_std(socket.try_clone()?)?,
            socket,
            inbox: Inbox::new(),
            network: Datagrams::default(),
            arrived: Packets::default(),
            leaving: Packets::default(),
            segmenting: true,
            next_tick: Instant::now(),
        })
    }

    /// Carries packets until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let received = self.carry_in();
            let due = self.carry_out();
            if received {
                // Those who read the streams have their turn before more comes.
                tokio::task::yield_now().await;
            } else {
                self.wait(due).await;
            }
        }
    }

    /// Network to stack; whether there was anything.
    fn carry_in(&mut self) -> bool {
        let (inbox, socket) = (&mut self.inbox, &self.socket);
        // tokio has to hear that nothing is left: it asks the kernel again only then.
        let received = self
            .watched
            .try_io(Interest::READABLE, || match inbox.receive(socket)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            });
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // ICMP errors of earlier datagrams surface here; WireGuard's timers answer them.
            Err(error) => {
                tracing::debug!(%error, "receiving datagrams failed");
                0
            }
        };
        for (from, datagrams, segment) in self.inbox.iter() {
            self.router
                .carry_in(datagrams, segment, from, &mut self.network, &mut self.arrived);
        }
        if count > 0 {
            let now = Instant::now();
            let mut stack = self.shared.stack();
            for packet in self.arrived.iter() {
                stack.take(packet, now, &mut self.leaving);
            }
            drop(stack);
            self.arrived.clear();
        }
        count > 0
    }

    /// Stack to network; gives how long may be waited.
    fn carry_out(&mut self) -> Duration {
        let now = Instant::now();
        let due = self.shared.stack().give(now, &mut self.leaving);
        let (bytes, packets) = self.leaving.parts();
        for packet in packets {
            self.router
                .carry_out(&mut bytes[packet.clone()], Offload::Whole, &mut self.network);
        }
        self.leaving.clear();
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.router.tick(&mut self.network);
        }
        batch::send(&self.socket, &self.network, &mut self.segmenting);
        self.network.clear();
        let tick = self.next_tick.saturating_duration_since(now);
        due.map_or(tick, |due| due.min(tick))
    }

    /// Goal: something to do. Each branch may be dropped: readiness stays until nothing is left to receive, a permit of the streams until it is taken, and time passes.
    async fn wait(&self, at_most: Duration) {
        tokio::select! {
            _ready = self.watched.readable() => {}
            () = self.shared.work.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }
}
