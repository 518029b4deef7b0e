//! The door for the enterprise's services: HTTP, closed unless `[events]` of po.toml opens it.
//!
//! Whoever can speak here can borrow servers, which costs, and have servers given back, which hurts. So:
//!
//! - A token that `Authorization: Bearer` must carry opens it for a network. Without one it listens on the loopback interface only,
//!   which po.toml is held to.
//! - Without a token a browser on the same machine could be led to speak for a web page. Only media types that a page may not send without
//!   asking first are read, and nothing answers when it asks; the `Host` must be an address or `localhost`, so that no name of the
//!   page's owner can be pointed here.
//! - Lent servers reach the enterprise through the tunnel, some of them while they are still the lender's: addresses of the tunnel are not heard.
//!
//! What cannot be kept is answered with 503, which Alertmanager takes for "again, later"; what is wrong with 4xx, which it gives up on.

use super::{Event, EventError, alertmanager, cloudevents};
use crate::gateway::service::Source;
use crate::now;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use ipnet::Ipv4Net;
use leaseboot_protocol::secret::Secret;
use serde_json::json;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

/// A group of some thousand alerts.
const LONGEST_BODY: usize = 4 << 20;

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for events on {address}: correct `listen` in [events] of po.toml, or stop the program that holds it (ss -ltnp)"
)]
pub struct ListenError {
    /// Address and port.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Takes the port.
///
/// # Errors
/// [`ListenError`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address, source })
}

/// Whoever keeps events.
pub trait Keeper: Send + Sync + 'static {
    /// Keeps them, all or none. An error says what to answer; its cause is logged.
    fn keep(&self, events: Vec<Event>) -> impl Future<Output = Result<(), NotKept>> + Send;
}

/// Why events are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// They are too many.
    TooMany,
    /// The store failed.
    Store,
}

/// Who may speak.
pub struct Admission {
    /// What they must know; without it only this machine is heard.
    pub token: Option<Secret>,
    /// Where lent servers speak from.
    pub tunnel: Ipv4Net,
}

/// The service.
pub fn router<K: Keeper>(keeper: Arc<K>, admission: Admission) -> Router {
    Router::new()
        .route("/v1/alertmanager", post(from_alertmanager::<K>))
        .route("/v1/events", post(from_cloudevents::<K>))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(Arc::new(admission), admit))
        .with_state(keeper)
}

struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        tracing::warn!(error = crate::error_chain(&error), "an event is not taken");
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<NotKept> for Problem {
    fn from(_: NotKept) -> Self {
        let answer = "the event cannot be kept now; send it again (the daemon's log tells why)";
        Self(StatusCode::SERVICE_UNAVAILABLE, answer.to_owned())
    }
}

async fn admit(
    State(admission): State<Arc<Admission>>,
    Extension(Source(from)): Extension<Source>,
    request: Request,
    next: Next,
) -> Response {
    match admission.objection(from, request.headers()) {
        None => next.run(request).await,
        Some(Problem(status, reason)) => {
            tracing::warn!(%from, reason, "a speaker of events is not heard");
            Problem(status, reason).into_response()
        }
    }
}

impl Admission {
    fn objection(&self, from: IpAddr, headers: &HeaderMap) -> Option<Problem> {
        let deny = |status, reason: &str| Some(Problem(status, reason.to_owned()));
        if matches!(from, IpAddr::V4(from) if !from.is_loopback() && self.tunnel.contains(&from)) {
            return deny(StatusCode::FORBIDDEN, "lent servers raise no events");
        }
        match &self.token {
            Some(token) => match bearer(headers).is_some_and(|given| token.matches(given)) {
                true => None,
                false => deny(
                    StatusCode::UNAUTHORIZED,
                    "the token of po.toml's [events] is needed: Authorization: Bearer …",
                ),
            },
            None if !from.is_loopback() => deny(
                StatusCode::FORBIDDEN,
                "without a token only this machine is heard",
            ),
            None if !names_this_machine(headers) => deny(
                StatusCode::FORBIDDEN,
                "the Host is neither an address nor localhost",
            ),
            None => None,
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

async fn from_alertmanager<K: Keeper>(
    State(keeper): State<Arc<K>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    match cloudevents::media_type(&headers) {
        "application/json" => take(&*keeper, alertmanager::read(&body, now())).await,
        _ => {
            let wanted = "the message of an Alertmanager is application/json";
            Err(Problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, wanted.to_owned()))
        }
    }
}

async fn from_cloudevents<K: Keeper>(
    State(keeper): State<Arc<K>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    take(&*keeper, cloudevents::read(&headers, &body, now())).await
}

async fn take<K: Keeper>(keeper: &K, events: Result<Vec<Event>, EventError>) -> Result<StatusCode, Problem> {
    keeper.keep(events?).await?;
    Ok(StatusCode::ACCEPTED)
}
