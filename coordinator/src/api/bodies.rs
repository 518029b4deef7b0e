//! How much somebody may make us keep before the request is complete.
//!
//! | who asks | may send |
//! |---|---|
//! | anybody | [`SMALL`] bytes: enough to enrol, and for an agent's reports |
//! | a tenant, or a server whose token is on record | [`LARGEST_BODY`](super::LARGEST_BODY), in [`MOST_AT_ONCE`] requests at once |
//!
//! A body is read to its end before its handler looks at it. So whoever could send a large one without being known, or many at once, could fill the memory
//! with beginnings.

use super::caller::Bearer;
use super::listener::Peer;
use super::problem::Problem;
use crate::lease::Driver;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::leases::Refusal;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What anybody may send, in bytes.
const SMALL: u64 = 16 << 10;
/// Larger bodies of one tenant, or from one server, at once.
const MOST_AT_ONCE: usize = 8;
/// When to come back with one more.
const COME_BACK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Tenant(TenantId),
    Server(IpAddr),
}

/// Who is sending how many larger bodies.
#[derive(Clone, Default)]
pub(super) struct Bodies {
    under_way: Arc<Mutex<HashMap<Sender, usize>>>,
}

/// One of them, until its request is answered.
struct UnderWay {
    bodies: Bodies,
    sender: Sender,
}

impl Bodies {
    fn begin(&self, sender: Sender) -> Option<UnderWay> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(sender.clone()).or_default();
        if *count >= MOST_AT_ONCE {
            return None;
        }
        *count += 1;
        Some(UnderWay {
            bodies: self.clone(),
            sender,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self
            .bodies
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.sender);
            }
        }
    }
}

/// The layer over all routes.
pub(super) async fn bound(
    State((lm, bodies)): State<(Arc<Driver>, Bodies)>,
    request: Request,
    next: Next,
) -> Response {
    if is_small(&request) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let sender = match sender(&mut parts, &lm).await {
        Ok(sender) => sender,
        Err(problem) => return problem.into_response(),
    };
    let Some(_under_way) = bodies.begin(sender) else {
        return Problem::from(Refusal::busy(COME_BACK)).into_response();
    };
    next.run(Request::from_parts(parts, body)).await
}

/// A body says its length in front; without one it is of any length.
fn is_small(request: &Request) -> bool {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return false;
    }
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_none_or(|length| {
        let number = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        number.is_some_and(|number| number <= SMALL)
    })
}

async fn sender(parts: &mut axum::http::request::Parts, lm: &Arc<Driver>) -> Result<Sender, Problem> {
    let tenant = parts
        .extensions
        .get::<Peer>()
        .and_then(|peer| peer.tenant.clone());
    if let Some(tenant) = tenant {
        return Ok(Sender::Tenant(tenant));
    }
    let bearer = Bearer::from_request_parts(parts, lm).await.map_err(|_| {
        let message = format!("who is not known may send {SMALL} bytes at most");
        Problem::malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
    })?;
    match lm
        .knows_token(bearer.token.expose())
        .await
        .map_err(Problem::inside)?
    {
        true => Ok(Sender::Server(bearer.from)),
        false => Err(Problem::unauthorized(
            "the token is not known; the server must restart to get a new one",
        )),
    }
}
