//! The TCP side of the boot files: connections, bounded in number, in number from one address, in size of what they may send, and in time.
//!
//! Whoever comes when all places are taken gets the place of a connection that is good for nothing, see [`Seats`].

use super::http;
use super::request::{LONGEST_HEAD, Malformed, Method, Request};
use super::response::{Body, Response, Status};
use super::service::BootService;
use crate::seats::{Limits, Seat, Seats};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Connections at once: a thousand servers, and some; a server opens one or two, a cache in front of servers some dozens. While all are
/// being served, more wait in the kernel's queue.
const LIMITS: Limits = Limits {
    total: 2048,
    silent: 1024,
    per_address: 64,
};
/// How often to look whether one of those that are served has stood still for too long.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take for the head of a request, and sit idle between two.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// How long a client may take nothing of what it asked for, or less than [`PROGRESS`].
const STANDSTILL: Duration = Duration::from_secs(60);
/// Bytes that count as progress: a client that takes one now and then takes nothing.
const PROGRESS: usize = 64 << 10;
/// How long a connection may last in all: a boot over the slowest wire is much shorter.
const CONNECTION_TIME: Duration = Duration::from_secs(1800);
/// How long to wait when the process is out of file descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that the kernel is given at once: enough to be worth a system call, few enough that other connections have their turn.
const PIECE: usize = 4 << 20;

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} for boot files over HTTP: stop the other server on it, and run as root")]
pub struct BootHttpError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why it failed.
    pub source: io::Error,
}

/// A bound port that nobody is served on yet.
#[derive(Debug)]
pub struct BootHttp {
    listener: TcpListener,
    address: SocketAddr,
}

impl BootHttp {
    /// Takes the port.
    ///
    /// # Errors
    /// [`BootHttpError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, BootHttpError> {
        let failed = |source| BootHttpError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address: bound,
        })
    }

    /// Address and port that were taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; connections are closed then.
    pub async fn run(self, service: Arc<BootService>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let seats = Seats::new(LIMITS);
        loop {
            let has_room = seats.has_room();
            // Goal: one more connection, or one less. Accepting, joining and waiting are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a connection for boot files failed inside the LM");
                },
                () = tokio::time::sleep(LOOK), if !has_room => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, from)) => match seats.admit(from.ip()) {
                        Some(seat) => drop(connections.spawn(serve(stream, from, seat, service.clone()))),
                        None => tracing::debug!(%from, "one connection too many for boot files is closed"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection for boot files could not be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Why a connection ended before its client was content.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection broke")]
    Io(#[source] io::Error),
    #[error("the client took too long to ask")]
    SlowHead,
    #[error("the client took next to nothing of its file for {} s", STANDSTILL.as_secs())]
    Standstill,
    #[error("its place was needed for another connection")]
    MadeRoom,
    #[error("the client sent what is no request")]
    Malformed(#[source] Malformed),
    #[error("the client sent a head of more than {LONGEST_HEAD} bytes")]
    HeadTooLarge,
}

/// One connection to its end.
async fn serve(mut stream: TcpStream, from: SocketAddr, seat: Seat, service: Arc<BootService>) {
    // Goal: the end of the connection, whichever comes first. Dropping the requests drops answers that nobody is to have.
    let ended = tokio::select! {
        ended = timeout(CONNECTION_TIME, requests(&mut stream, from, &seat, &service)) => ended,
        () = seat.given_away() => Ok(Err(Broken::MadeRoom)),
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%from, error = &error as &dyn std::error::Error, "a connection for boot files ended early");
            let refusal = match error {
                Broken::Malformed(_) => Some(Status::BadRequest),
                Broken::HeadTooLarge => Some(Status::HeadTooLarge),
                _ => None,
            };
            if let Some(status) = refusal {
                // Best effort: the client is at fault.
                let _ = timeout(HEAD_TIME, stream.write_all(&Response::from(status).head(false))).await;
            }
        }
        Err(_) => tracing::info!(%from, "a connection for boot files lasted too long"),
    }
}

async fn requests(
    stream: &mut TcpStream,
    from: SocketAddr,
    seat: &Seat,
    service: &BootService,
) -> Result<(), Broken> {
    stream.set_nodelay(true).map_err(Broken::Io)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let head = timeout(HEAD_TIME, next_request(stream, &mut buffer)).await;
        let Some(request) = head.map_err(|_| Broken::SlowHead)?? else {
            return Ok(());
        };
        seat.busy();
        let response = http::respond(service, &request, from).await;
        write_all(stream, &response.head(request.goes_on)).await?;
        if request.method != Method::Head {
            match &response.body {
                Body::Empty => {}
                Body::Bytes(bytes) => write_all(stream, bytes).await?,
                Body::File(file, part) => {
                    send_file(stream, seat, |stream, part| file.send(stream, part), part.clone()).await?;
                }
            }
        }
        if !request.goes_on {
            return stream.shutdown().await.map_err(Broken::Io);
        }
        seat.idle();
    }
}

/// The next request; what follows it stays in the buffer. `None` when the client has closed the connection instead.
async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Request>, Broken> {
    loop {
        if let Some((request, length)) = Request::parse(buffer).map_err(Broken::Malformed)? {
            buffer.drain(..length);
            return Ok(Some(request));
        }
        if buffer.len() >= LONGEST_HEAD {
            return Err(Broken::HeadTooLarge);
        }
        let room = LONGEST_HEAD - buffer.len();
        let count = stream
            .take(room as u64)
            .read_buf(buffer)
            .await
            .map_err(Broken::Io)?;
        if count == 0 {
            return Ok(None);
        }
    }
}

async fn write_all(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Broken> {
    let written = timeout(STANDSTILL, stream.write_all(bytes)).await;
    written.map_err(|_| Broken::Standstill)?.map_err(Broken::Io)
}

/// Has the kernel send a part of a file with `send`, which gives the bytes that the socket took.
///
/// A socket that took less than it was offered is full. Asking it again at once would find room for a page or two at a time, and each such
/// trip costs as much as one with a megabyte: what is left waits until the kernel says that a third of the buffer is free.
async fn send_file(
    stream: &TcpStream,
    seat: &Seat,
    send: impl Fn(&TcpStream, &Range<usize>) -> io::Result<usize>,
    mut part: Range<usize>,
) -> Result<(), Broken> {
    // Where the file stood when it last moved on, and until when it must move on again.
    let (mut stood, mut until) = (part.start, Instant::now() + STANDSTILL);
    while !part.is_empty() {
        if part.start - stood >= PROGRESS {
            (stood, until) = (part.start, Instant::now() + STANDSTILL);
            seat.busy();
        }
        let piece = part.start..part.end.min(part.start + PIECE);
        let mut taken = 0;
        let sent = stream.try_io(Interest::WRITABLE, || {
            taken = send(stream, &piece)?;
            match taken {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                all if all == piece.len() => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        part.start += taken;
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = timeout_at(until, stream.writable()).await;
                ready.map_err(|_| Broken::Standstill)?.map_err(Broken::Io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Io(error)),
        }
    }
    Ok(())
}
