//! The thread that moves TFTP's datagrams between the sockets and [`Sessions`].
//!
//! One thread of its own, because it lives from batches: it takes all that has come, works on it, and sends all that comes of it. In a crowd it then rests for
//! [`REST`], as network cards do before they interrupt, so that the next batch is worth its system calls; for a few clients it does not, so a lone one is answered at once.
//! Looking a name up may take time (a script is rendered from the store), so what is not at hand at once is looked up by the runtime, and the thread is woken.

use super::sessions::{LANES, Lookup, Outboxes, Sessions, Ticket};
use super::{TftpNames, packet};
use crate::datagrams::{BATCH, Inbox, Outbox};
use crate::seldom::Seldom;
use bytes::Bytes;
use futures_util::FutureExt as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

static REFUSED: Seldom = Seldom::new();
/// So many transfers are a crowd, and fewer datagrams than that no batch worth having.
const CROWD: usize = 24;
/// Far below the round trip of a busy wire, and a good batch of a crowd.
const REST: Duration = Duration::from_micros(100);
/// Longer datagrams from clients make no sense.
const LONGEST: usize = 1024;
/// Names that are being looked up at once. A request that would be one more gets no answer, and its client asks again.
const MOST_LOOKUPS: usize = 1024;
/// Batches that are taken from one socket before the others have their turn.
const TURN: usize = 8;

/// Wakes the thread, to stop or to take an answer.
#[derive(Debug)]
pub(super) struct Wake {
    event: EventFd,
    stopping: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            event,
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // It fails only when it is full, and then the thread is woken anyway.
        let _ = self.event.write(1);
    }
}

/// The sockets, bound.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The well-known port.
    pub(super) requests: UdpSocket,
    /// Where transfers take place.
    pub(super) lanes: [UdpSocket; LANES],
}

type Answer = (Ticket, Option<Bytes>);

/// The thread's state.
pub(super) struct Engine {
    sockets: Sockets,
    wake: Arc<Wake>,
    names: Arc<dyn TftpNames>,
    runtime: Handle,
    lookups: JoinSet<()>,
    answers: (Sender<Answer>, Receiver<Answer>),
    sessions: Sessions,
    inbox: Inbox,
    refusals: Outbox,
    outboxes: Outboxes,
}

impl Engine {
    pub(super) fn new(
        sockets: Sockets,
        sessions: Sessions,
        names: Arc<dyn TftpNames>,
        wake: Arc<Wake>,
        runtime: Handle,
    ) -> Self {
        Self {
            sockets,
            wake,
            names,
            runtime,
            lookups: JoinSet::new(),
            answers: channel(),
            sessions,
            inbox: Inbox::new(LONGEST),
            refusals: Outbox::default(),
            outboxes: Outboxes::default(),
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let runtime = self.runtime.clone();
        let _context = runtime.enter();
        while !self.wake.stopping.load(Ordering::Acquire) {
            self.wait()?;
            let now = Instant::now();
            let mut moved = self.take_requests(now)?;
            moved += self.take_answers(now);
            moved += self.take_datagrams(now)?;
            self.sessions.tick(now, &mut self.outboxes);
            self.send();
            if self.sessions.len() >= CROWD && moved < CROWD {
                std::thread::sleep(REST);
            }
        }
        Ok(())
    }

    /// Waits for a datagram, a wake-up or the next tick.
    fn wait(&self) -> io::Result<()> {
        let of = |socket| PollFd::new(socket, PollFlags::POLLIN);
        let lanes = &self.sockets.lanes;
        let mut fds = [
            of(self.sockets.requests.as_fd()),
            of(self.wake.event.as_fd()),
            of(lanes[0].as_fd()),
            of(lanes[1].as_fd()),
            of(lanes[2].as_fd()),
            of(lanes[3].as_fd()),
        ];
        let timeout = match self.sessions.next_tick() {
            None => PollTimeout::NONE,
            Some(next) => {
                let wait = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_requests(&mut self, now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        for _ in 0..TURN {
            let count = self.inbox.receive(self.sockets.requests.as_fd())?;
            moved += count;
            let mut lookups = Vec::new();
            for (client, bytes) in self.inbox.iter() {
                match self.sessions.request(bytes, client, now) {
                    Ok(lookup) => lookups.extend(lookup),
                    Err((code, words)) => {
                        if let Some(spoken) = REFUSED.speak() {
                            tracing::info!(%client, refusal = words, left_out = spoken.left_out, "tftp request refused");
                        }
                        // One short packet for one request; when it gets lost, the client asks again.
                        self.refusals.datagram(client, &packet::error(code, words));
                    }
                }
            }
            for lookup in lookups {
                self.look_up(lookup, now);
            }
            if count < BATCH {
                break;
            }
        }
        Ok(moved)
    }

    fn look_up(&mut self, Lookup { ticket, name }: Lookup, now: Instant) {
        let (names, from) = (self.names.clone(), ticket.client().ip());
        let mut opening = async move { names.open(&name, from).await }.boxed();
        if let Some(file) = (&mut opening).now_or_never() {
            self.sessions.found(ticket, file, now, &mut self.outboxes);
            return;
        }
        if self.lookups.len() >= MOST_LOOKUPS {
            return self.sessions.give_up(ticket);
        }
        let (answers, wake) = (self.answers.0.clone(), self.wake.clone());
        let answer = async move {
            // It fails only when the thread is gone.
            let _ = answers.send((ticket, opening.await));
            wake.wake();
        };
        self.lookups.spawn_on(answer, &self.runtime);
    }

    fn take_answers(&mut self, now: Instant) -> usize {
        let mut moved = 0;
        // Full of nothing is as good as empty.
        let _ = self.wake.event.read();
        while let Ok((ticket, file)) = self.answers.1.try_recv() {
            self.sessions.found(ticket, file, now, &mut self.outboxes);
            moved += 1;
        }
        while let Some(ended) = self.lookups.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "looking up a TFTP name failed inside the LM");
            }
        }
        moved
    }

    fn take_datagrams(&mut self, now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        for (lane, socket) in self.sockets.lanes.iter().enumerate() {
            for _ in 0..TURN {
                let count = self.inbox.receive(socket.as_fd())?;
                moved += count;
                for (client, bytes) in self.inbox.iter() {
                    self.sessions
                        .datagram(lane, client, bytes, now, &mut self.outboxes);
                }
                if count < BATCH {
                    break;
                }
            }
        }
        Ok(moved)
    }

    /// What cannot be sent is lost and will be sent again in its time; the log says why.
    fn send(&mut self) {
        let sockets = std::iter::once(&self.sockets.requests).chain(&self.sockets.lanes);
        let outboxes = std::iter::once(&mut self.refusals).chain(&mut self.outboxes);
        for (socket, outbox) in sockets.zip(outboxes) {
            if let Err(error) = outbox.send(socket.as_fd()) {
                tracing::debug!(%error, "TFTP packets could not be sent");
            }
        }
    }
}

/// A socket with room for the ACKs of a storm. Those that do not fit would cost their clients a second each.
pub(super) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    use nix::sys::socket::{setsockopt, sockopt};
    let socket = UdpSocket::bind(address)?;
    let room = 4 << 20;
    if setsockopt(&socket, sockopt::RcvBufForce, &room).is_err() {
        // Without CAP_NET_ADMIN the system's limit holds.
        setsockopt(&socket, sockopt::RcvBuf, &room)?;
    }
    // A wire that takes nothing for a second is as good as cut.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}
