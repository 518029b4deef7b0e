//! Connections to the API: TLS, bounded in number, time and what they may make us keep, each request marked with who is at the other end.
//!
//! Whoever comes when all places are taken gets the place of a connection that is good for nothing, see [`Seats`].

use super::handshake::Hello;
use crate::pki;
use crate::seats::{Limits, Seat, Seats};
use crate::seldom::Seldom;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::TenantId;
use nix::sys::socket::{setsockopt, sockopt};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

static NO_HANDSHAKE: Seldom = Seldom::new();
/// Connections at once. While all are being served, more wait in the kernel's queue. An organizer has one for each lease that it follows.
const LIMITS: Limits = Limits {
    total: 4096,
    silent: 2048,
    per_address: 1024,
};
/// How often to look whether one of those that are served has stood still for too long.
const LOOK: Duration = Duration::from_secs(1);
/// The most that a connection reads ahead, and so the longest head of a request, in bytes.
const READ_AHEAD: usize = 16 << 10;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The longest TCP segment, in both directions, in bytes: a packet of 1,280, which every way carries whose routers do not say what they carry
/// (RFC 8200, 5, less the headers of IPv6 and TCP). What is said here is short, so little is lost by it.
const LONGEST_SEGMENT: u32 = 1280 - 40 - 20;
/// How long a client may take for the head of a request, and sit idle between two.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How long to wait when the process is out of file descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The tenant, when a certificate was shown and verified.
    pub tenant: Option<TenantId>,
    /// The digest of that certificate, by which the store knows it.
    pub certificate: Option<Sha256>,
}

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} for the API: `ss -ltnp 'sport = :{}'` shows who holds it; [api] listen in lm.toml names another", address.port())]
pub struct ApiError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why it failed.
    pub source: std::io::Error,
}

/// A bound port that nobody is served on yet.
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
}

impl Api {
    /// Takes the port.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn bind(address: SocketAddr, tls: Arc<rustls::ServerConfig>) -> Result<Self, ApiError> {
        let failed = |source| ApiError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let segments = setsockopt(&listener, sockopt::TcpMaxSeg, &LONGEST_SEGMENT);
        segments.map_err(|error| failed(error.into()))?;
        Ok(Self {
            listener,
            address: bound,
            tls: TlsAcceptor::from(tls),
        })
    }

    /// Address and port that were taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; connections are closed then.
    pub async fn run(self, router: Router, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let seats = Seats::new(LIMITS);
        loop {
            let has_room = seats.has_room();
            // Goal: one more connection, or one less. Accepting, joining and waiting are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => {}
                () = tokio::time::sleep(LOOK), if !has_room => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, from)) => match seats.admit(from.ip()) {
                        Some(seat) => drop(connections.spawn(seated(stream, from, seat, self.tls.clone(), router.clone()))),
                        None => tracing::info!(%from, "one connection too many to the API is closed"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the API could not be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn seated(stream: TcpStream, from: SocketAddr, seat: Seat, tls: TlsAcceptor, router: Router) {
    let seat = Arc::new(seat);
    // Goal: the end of the connection, whichever comes first. A request that is dropped half-way is one whose client went away.
    tokio::select! {
        () = serve(stream, from, seat.clone(), tls, router) => {}
        () = seat.given_away() => tracing::debug!(%from, "the place of a connection to the API was needed for another"),
    }
}

fn no_handshake(from: SocketAddr, error: &dyn Display) {
    if let Some(spoken) = NO_HANDSHAKE.speak() {
        tracing::info!(%from, %error, left_out = spoken.left_out, "a TLS handshake failed");
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, seat: Arc<Seat>, tls: TlsAcceptor, router: Router) {
    // Small answers must not wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(Hello::new(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return no_handshake(from, &error),
        Err(_) => return no_handshake(from, &"it took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first());
    let tenant = certificate.and_then(pki::tenant_of);
    let certificate = certificate.map(|certificate| Sha256::of(certificate));
    let peer = Peer {
        address: from,
        tenant,
        certificate,
    };
    if peer.tenant.is_some() {
        seat.known();
    }
    stream.get_ref().0.is_over();
    seat.idle();
    let router = router
        .layer(axum::middleware::from_fn_with_state(seat, while_busy))
        .layer(axum::Extension(peer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        // What becomes a console is the console's from then on: it has bounds of its own.
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%from, %error, "a connection to the API broke");
    }
}

/// The layer over all requests of a connection: tells its seat when one is being answered.
async fn while_busy(State(seat): State<Arc<Seat>>, request: Request, next: Next) -> Response {
    seat.busy();
    let response = next.run(request).await;
    seat.idle();
    response
}
