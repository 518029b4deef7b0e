//! Idempotency keys: a request that creates something, sent again with the same `Idempotency-Key`, is answered as the first time and
//! carried out once, even if the first answer was lost.
//!
//! ```text
//! no key ─────────────────────────────────────────────► the handler
//! key unknown, or left behind by a crash ─► claimed ──► the handler ─► answer kept, or claim dropped after a failure inside
//! key known, same request, answered ──────────────────► the same answer, with `Idempotency-Replayed: true`
//! key known, same request, under way ─────────────────► 409
//! key known, another request ─────────────────────────► 422
//! ```
//!
//! A key is its tenant's own. What makes a request the same is the SHA-256 of method, path and body. The header follows the IETF's
//! draft-ietf-httpapi-idempotency-key-header, but also takes a key without quotation marks.

use super::caller::Tenant;
use super::listener::Peer;
use super::problem::Problem;
use crate::lease::{Driver, driver::now};
use crate::store::{Claim, KeptAnswer};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::ids::TenantId;
use std::sync::Arc;
use std::time::Duration;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";
/// How long an answer is kept.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a request may be under way before its claim counts as left behind: longer than any request may take.
const CLAIM_TIME: Duration = Duration::from_secs(120);
const LONGEST_KEY: usize = 255;
/// Answers of what creates something are views of it, far shorter than this.
const LONGEST_ANSWER: usize = 1 << 20;

/// The layer over all routes.
pub(super) async fn once(State(lm): State<Arc<Driver>>, request: Request, next: Next) -> Response {
    match attempt(&lm, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn attempt(lm: &Arc<Driver>, request: Request, next: Next) -> Result<Response, Problem> {
    let peer = request.extensions().get::<Peer>();
    let ours = *request.method() == Method::POST && peer.is_some_and(|peer| peer.tenant.is_some());
    let Some(key) = key(&request).transpose().filter(|_| ours) else {
        return Ok(next.run(request).await);
    };
    let key = key?;
    // A kept answer is for those only who may ask now.
    let (mut parts, body) = request.into_parts();
    let Tenant(tenant) = Tenant::from_request_parts(&mut parts, lm).await?;
    parts.extensions.insert(Tenant(tenant.clone()));
    let (request, digest) = digested(Request::from_parts(parts, body)).await?;
    match lm
        .store()
        .claim(&tenant, &key, &digest, now(), CLAIM_TIME)
        .await?
    {
        Claim::New => {
            let response = next.run(request).await;
            keep(lm, &tenant, &key, response).await
        }
        Claim::Answered(kept) => Ok(replay(kept)),
        Claim::UnderWay => Err(Problem::invalid(
            "a request with this idempotency key is under way: ask again when it is answered",
        )),
        Claim::Other => Err(Problem::malformed(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this idempotency key was used for another request: a new request needs a new key",
        )),
    }
}

/// The key, without the quotation marks of a structured field.
fn key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    if bare.is_empty() || bare.len() > LONGEST_KEY {
        let message = format!("Idempotency-Key must have 1 to {LONGEST_KEY} printable characters");
        return Err(Problem::malformed(StatusCode::BAD_REQUEST, message));
    }
    Ok(Some(bare.to_owned()))
}

/// Reads the body for its digest, and puts it back.
async fn digested(request: Request) -> Result<(Request, Sha256), Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, super::LARGEST_BODY).await.map_err(|_| {
        Problem::malformed(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too long, or broke off",
        )
    })?;
    let mut hasher = Hasher::new();
    hasher.update(parts.method.as_str().as_bytes());
    hasher.update(b" ");
    hasher.update(parts.uri.path().as_bytes());
    hasher.update(b"\n");
    hasher.update(&body);
    Ok((Request::from_parts(parts, Body::from(body)), hasher.finish()))
}

/// What was carried out is kept; after a refusal or a failure the same key may be tried again.
async fn keep(lm: &Driver, tenant: &TenantId, key: &str, response: Response) -> Result<Response, Problem> {
    if !response.status().is_success() {
        lm.store().drop_claim(tenant, key).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, LONGEST_ANSWER).await.map_err(|_| {
        Problem::malformed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer broke off: ask again",
        )
    })?;
    let kept = KeptAnswer {
        status: parts.status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    lm.store()
        .keep_answer(tenant, key, &kept, now() + LIFETIME)
        .await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(kept: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = (status, kept.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
