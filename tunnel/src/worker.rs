//! A worker: one thread, one queue of the TUN device, one UDP socket, and the loop between them.
//!
//! ```text
//!        ┌── network: recvmmsg ─► decrypt ─► join ─► write to the queue ──┐
//!  wait ─┤                                                                ├─► wait, if both had nothing
//!        └── device: read ─► split ─► encrypt ─► sendmmsg ────────────────┘
//! ```
//!
//! Threads and not tasks: a packet costs less than waking a task for it. A worker serves both directions, because the one causes the other (data, acknowledgement) and the next packet
//! is often there before it would sleep. It takes as much as [`BURST`] at a time from one side and then looks at the other, so that neither waits long.
//! It ends when the [`Stop`] says so.

use crate::batch::{self, Inbox};
use crate::datagrams::Datagrams;
use crate::device::{self, Queue};
use crate::offload::{self, HEADER_LENGTH, Joined};
use crate::packets::Packets;
use crate::router::Router;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the router's timers run.
const TICK: Duration = Duration::from_millis(250);
/// Bytes from the device after which what came of them is sent.
const BURST: usize = 128 << 10;

/// Tells workers to end.
#[derive(Debug)]
pub(crate) struct Stop {
    is_wanted: AtomicBool,
    event: EventFd,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            is_wanted: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// All workers end, after at most one burst.
    pub(crate) fn say(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
        if let Err(error) = self.event.write(1) {
            tracing::error!(%error, "cannot wake the tunnel's workers to end them");
        }
    }
}

/// One thread's part.
pub(crate) struct Worker {
    router: Arc<Router>,
    stop: Arc<Stop>,
    queue: Queue,
    socket: UdpSocket,
    /// When the router's timers are due; one worker of a tunnel sees to them.
    next_tick: Option<Instant>,
    segmenting: bool,
    buffer: Vec<u8>,
    inbox: Inbox,
    network: Datagrams,
    packets: Packets,
    joined: Vec<Joined>,
}

impl Worker {
    pub(crate) fn new(
        router: Arc<Router>,
        stop: Arc<Stop>,
        queue: Queue,
        socket: UdpSocket,
        keeps_time: bool,
    ) -> Self {
        batch::prepare(&socket);
        Self {
            router,
            stop,
            segmenting: queue.has_headers(),
            queue,
            socket,
            next_tick: keeps_time.then(Instant::now),
            buffer: vec![0; device::LONGEST],
            inbox: Inbox::new(),
            network: Datagrams::default(),
            packets: Packets::default(),
            joined: Vec::new(),
        }
    }

    /// Carries packets until it is told to stop.
    pub(crate) fn run(mut self) {
        while !self.stop.is_wanted.load(Ordering::Relaxed) {
            let received = self.carry_in();
            let sent = self.carry_out();
            self.keep_time();
            let result = match (received, sent) {
                (Ok(false), Ok(false)) => self.wait(),
                (received, sent) => received.and(sent).map(drop),
            };
            if let Err(error) = result {
                return tracing::error!(%error, "the TUN device is gone, the tunnel stops");
            }
        }
    }

    /// Network to device; whether there was anything.
    fn carry_in(&mut self) -> io::Result<bool> {
        let count = match self.inbox.receive(&self.socket) {
            Ok(count) => count,
            // ICMP errors of earlier datagrams surface here; WireGuard's timers answer them.
            Err(error) => {
                tracing::debug!(%error, "receiving datagrams failed");
                0
            }
        };
        for (from, datagrams, segment) in self.inbox.iter() {
            self.router
                .carry_in(datagrams, segment, from, &mut self.network, &mut self.packets);
            if self.packets.len() >= BURST {
                deliver(&self.queue, &mut self.packets, &mut self.joined);
            }
        }
        deliver(&self.queue, &mut self.packets, &mut self.joined);
        self.send();
        Ok(count > 0)
    }

    /// Device to network; whether there was anything.
    fn carry_out(&mut self) -> io::Result<bool> {
        let mut bytes = 0;
        while bytes < BURST {
            match self.queue.read(&mut self.buffer) {
                Ok(Some((packet, offload))) => {
                    bytes += packet.len();
                    self.router.carry_out(packet, offload, &mut self.network);
                }
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::debug!(%error, "a packet was lost");
                }
                Err(error) => return Err(error),
            }
        }
        self.send();
        Ok(bytes > 0)
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.next_tick.is_some_and(|due| due <= now) {
            self.next_tick = Some(now + TICK);
            self.router.tick(&mut self.network);
            self.send();
        }
    }

    fn send(&mut self) {
        batch::send(&self.socket, &self.network, &mut self.segmenting);
        self.network.clear();
    }

    /// Until there is something on either side, the timers are due, or it shall end.
    fn wait(&self) -> io::Result<()> {
        let mut sources = [self.queue.as_fd(), self.socket.as_fd(), self.stop.event.as_fd()]
            .map(|source| PollFd::new(source, PollFlags::POLLIN));
        let left = self
            .next_tick
            .map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: a millisecond too early would be a wait of nothing.
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Hands all packets to the device, joined where that can be, and forgets them. A packet that the device refuses (it is down) is lost, as IP allows.
fn deliver(queue: &Queue, packets: &mut Packets, joined: &mut Vec<Joined>) {
    if queue.has_headers() {
        let (bytes, ranges) = packets.parts();
        offload::join(bytes, ranges, joined);
        for one in joined.iter() {
            let pieces = std::iter::once(&one.first).chain(&one.rest);
            let pieces = pieces.map(|piece| packets.bytes(piece.clone()));
            report(queue.write(&one.offload.write(one.payload), pieces));
        }
    } else {
        for packet in packets.iter() {
            report(queue.write(&[0; HEADER_LENGTH], std::iter::once(packet)));
        }
    }
    packets.clear();
}

fn report(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::debug!(%error, "the device refused a packet");
    }
}
