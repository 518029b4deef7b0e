//! The TCP side of the service inside the tunnel, and of the one for events: connections bounded in number and time, each with its source
//! address.

use super::service::Source;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 512;
const QUEUE: u32 = 256;
/// How long a client may take for the head of a request, and sit idle between two.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// How long a connection may last in all: an image over the slowest line is there sooner.
const CONNECTION_TIME: Duration = Duration::from_secs(3600);
/// How long to wait when the process is out of file descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The service's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve on {address} inside the tunnel: stop the other program that holds the port (ss -ltnp tells which)"
)]
pub struct ListenError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Takes the port. With a device, only packets that came through it are heard, so the source address is one that WireGuard checked.
///
/// # Errors
/// [`ListenError`].
pub fn bind(address: SocketAddr, device: Option<&str>) -> Result<TcpListener, ListenError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind_device(device.map(str::as_bytes))?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    listen().map_err(|source| ListenError { address, source })
}

/// Serves until `stop` is cancelled; connections are closed then.
pub async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        // Goal: one more connection, or one less. Accepting and joining are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, from)) => {
                    connections.spawn(serve(stream, from, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, router: Router) {
    let router = router.layer(axum::Extension(Source(from.ip().to_canonical())));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%from, %error, "a connection broke"),
        Err(_) => tracing::info!(%from, "a connection lasted too long"),
    }
}
