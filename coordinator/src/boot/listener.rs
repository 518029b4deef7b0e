//! The TCP side of the boot files: connections with title-case headers, bounded in number and time.

use super::http;
use super::service::BootService;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 1024;
/// How long a client may take for the head of a request, and sit idle between two.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// How long a connection may last in all: a boot over the slowest wire is much shorter.
const CONNECTION_TIME: Duration = Duration::from_secs(1800);
/// How long to wait when the process is out of file descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} for boot files over HTTP: stop the other server on it, and run as root")]
pub struct BootHttpError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why it failed.
    pub source: std::io::Error,
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
        let router = http::router(service);
        let mut connections = JoinSet::new();
        loop {
            // Goal: one more connection, or one less. Accepting and joining are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                    Ok((stream, from)) => {
                        connections.spawn(serve(stream, from, router.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection for boot files could not be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, router: axum::Router) {
    let router = router.layer(axum::Extension(ConnectInfo(from)));
    let mut builder = http1::Builder::new();
    builder
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%from, %error, "a connection for boot files broke"),
        Err(_) => tracing::info!(%from, "a connection for boot files lasted too long"),
    }
}
