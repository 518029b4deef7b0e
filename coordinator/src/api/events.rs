//! What happens to a lease, in two ways: a question that is held until there is an answer (long poll), and a stream of server-sent
//! events (WHATWG HTML, section 9.2) for whoever says `Accept: text/event-stream`.
//!
//! A stream's event has the sequence number as its `id`, so `Last-Event-ID` goes on where a broken stream ended; its data is a
//! [`LeaseEvent`] in JSON. A stream ends with the lease; asked to go on after that, it answers 204, which tells an `EventSource` to
//! stop. A tenant has a bounded number of streams, each of a bounded life, and comments keep the way open while nothing happens.

use super::caller::{Lease, Tenant};
use super::problem::{InQuery, Problem};
use super::{Lm, Routes};
use crate::lease::Driver;
use crate::lease::tenant::OrderError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::lease::LeaseEvent;
use leaseboot_protocol::leases::EventBatch;
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Streams of one tenant at once.
const MOST_STREAMS: usize = 32;
/// A stream ends after this time; whoever reads it comes again with `Last-Event-ID`.
const STREAM_TIME: Duration = Duration::from_secs(3600);
/// How often a silent stream says that it is alive: more often than firewalls forget.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the store is asked to wait for the next event at a time.
const WAIT: Duration = Duration::from_secs(30);

/// The streams that are open, by tenant.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>);

impl Streams {
    /// A place among the tenant's streams, while there is one.
    fn enter(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit, Problem> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has no stream is forgotten, so that the map is no larger than the number of streams.
        all.retain(|_, places| places.available_permits() < MOST_STREAMS);
        let places = all
            .entry(tenant.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(MOST_STREAMS)));
        places.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{MOST_STREAMS} event streams are open: close one first");
            Problem::malformed(StatusCode::TOO_MANY_REQUESTS, message)
        })
    }
}

pub(super) fn routes() -> Routes {
    OpenApiRouter::new().routes(routes!(events))
}

/// Which events, and how long to wait for one.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct After {
    /// Events with a sequence number above this one.
    #[serde(default)]
    after: u64,
    /// Seconds to wait for an event when there is none yet; no more than 30 are waited.
    #[serde(default)]
    wait_s: u64,
}

/// What happened to the lease
///
/// With `Accept: text/event-stream` a stream of server-sent events: each has its sequence number as `id`, its kind as `event`, and a
/// LeaseEvent in JSON as `data`.
#[utoipa::path(
    get, path = "/v1/leases/{id}/events", tag = "leases", security(("tenant" = [])),
    params(
        ("id" = LeaseId, Path, description = "the lease"),
        After,
        ("Last-Event-ID" = Option<u64>, Header, description = "the last event that was read; goes before `after`"),
    ),
    responses(
        (status = 200, description = "the next events; empty when none came in time", content(
            (EventBatch = "application/json"), (String = "text/event-stream"),
        )),
        (status = 204, description = "the lease is over and a stream of it has nothing more to say"),
    )
)]
async fn events(
    State(lm): Lm,
    streams: axum::Extension<Streams>,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    InQuery(After { after, wait_s }): InQuery<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event(&headers)?.unwrap_or(after);
    if !wants_stream(&headers) {
        let wait = Duration::from_secs(wait_s);
        return Ok(Json(lm.events_of(&tenant, &id, after, wait).await?).into_response());
    }
    let first = lm.events_of(&tenant, &id, after, Duration::ZERO).await?;
    if first.events.is_empty() && first.lease.state.is_final() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        place: streams.enter(&tenant)?,
        lm,
        tenant,
        id,
        last: after,
        waiting: first.events.into(),
        until: Instant::now() + STREAM_TIME,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(follower.stream()).keep_alive(keep_alive).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        let message = "Last-Event-ID must be the id of an event that was read";
        Problem::malformed(StatusCode::BAD_REQUEST, message)
    })
}

/// One stream.
struct Follower {
    /// Given back when the stream is dropped, by whichever side.
    #[expect(dead_code, reason = "held for its end")]
    place: OwnedSemaphorePermit,
    lm: Arc<Driver>,
    tenant: TenantId,
    id: LeaseId,
    /// The last event that was sent.
    last: u64,
    /// Events that are read and not yet sent.
    waiting: VecDeque<LeaseEvent>,
    until: Instant,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<Event, axum::Error>> + Send {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((said(&event), follower))
        })
    }

    /// The next event; none at the end of the lease or of the stream's life, or when the store fails: the reader comes again.
    async fn next(&mut self) -> Option<LeaseEvent> {
        while self.waiting.is_empty() {
            if Instant::now() >= self.until {
                return None;
            }
            let batch = self.more().await.ok()?;
            if batch.events.is_empty() && batch.lease.state.is_final() {
                return None;
            }
            self.waiting = batch.events.into();
        }
        let event = self.waiting.pop_front()?;
        self.last = event.sequence;
        Some(event)
    }

    async fn more(&self) -> Result<EventBatch, OrderError> {
        let more = self.lm.events_of(&self.tenant, &self.id, self.last, WAIT).await;
        more.inspect_err(|error| {
            tracing::warn!(lease = %self.id, error = error as &dyn std::error::Error, "an event stream ends early");
        })
    }
}

fn said(event: &LeaseEvent) -> Result<Event, axum::Error> {
    let data = serde_json::to_value(&event.what).unwrap_or_default();
    let kind = data["kind"].as_str().unwrap_or("unknown");
    Event::default()
        .id(event.sequence.to_string())
        .event(kind)
        .json_data(event)
}
