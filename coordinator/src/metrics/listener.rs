//! Where Prometheus and supervisors ask: `/metrics`, `/healthz`, `/readyz`, over plain HTTP on an address of its own, which is the
//! loopback interface unless `lm.toml` says otherwise. Nothing here names a lease, a server or a tenant.

use super::MEDIA_TYPE;
use crate::lease::Driver;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long the store may take to answer before the Lease Manager is not ready.
const STORE_TIME: Duration = Duration::from_secs(2);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {address} for metrics: `ss -ltnp 'sport = :{}'` shows who holds it; [metrics] listen in lm.toml names another", address.port())]
pub struct MetricsError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why it failed.
    pub source: std::io::Error,
}

/// A bound port that nobody is served on yet.
#[derive(Debug)]
pub struct MetricsService {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a handler works with.
#[derive(Clone)]
struct Watched {
    driver: Arc<Driver>,
    stop: CancellationToken,
}

impl MetricsService {
    /// Takes the port.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Address and port that were taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Whoever calls this has bound all other services, so that being served says that they are.
    pub async fn run(self, driver: Arc<Driver>, stop: CancellationToken) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .with_state(Watched {
                driver,
                stop: stop.clone(),
            });
        // Goal: serve until the end. A scrape that is cut off loses nothing that the next one does not have.
        tokio::select! {
            () = stop.cancelled() => {}
            // axum goes on after failed connections and never gives up by itself.
            _ = axum::serve(self.listener, router) => {}
        }
    }
}

async fn metrics(State(watched): State<Watched>) -> Response {
    let Watched { driver, .. } = &watched;
    match driver.metrics().text(driver.store()).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn Error, "metrics could not be collected");
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response()
        }
    }
}

/// Ready is who can do a tenant's order: all services bound, the store answers, and nobody has ordered the end.
async fn ready(State(watched): State<Watched>) -> Response {
    if watched.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match tokio::time::timeout(STORE_TIME, watched.driver.store().counts()).await {
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn Error, "not ready: the store failed");
            (StatusCode::SERVICE_UNAVAILABLE, "the store failed\n").into_response()
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer in time\n",
        )
            .into_response(),
    }
}
