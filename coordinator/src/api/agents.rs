//! The routes of agents (`leaseboot_protocol::agent`).

use super::listener::Peer;
use super::refusal::{Body, Refused};
use crate::lease::Driver;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use leaseboot_protocol::agent::{Directive, Hello, KeyOffer, Reports, Welcome};
use leaseboot_protocol::secret::Secret;
use std::net::IpAddr;
use std::sync::Arc;

type Lm = State<Arc<Driver>>;

pub(super) fn routes() -> Router<Arc<Driver>> {
    Router::new()
        .route("/v1/agent/hello", post(hello))
        .route("/v1/agent/key", put(key))
        .route("/v1/agent/kickstart", get(kickstart))
        .route("/v1/agent/reports", post(reports))
}

/// What the agent shows, and where it comes from.
struct Bearer {
    token: Secret,
    from: IpAddr,
}

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        let header = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let peer = parts.extensions.get::<Peer>();
        match (token, peer) {
            (Some(token), Some(peer)) => Ok(Self {
                token: Secret::new(token),
                from: peer.address.ip(),
            }),
            _ => Err(Refused::unauthorized("a bearer token is needed")),
        }
    }
}

async fn hello(State(lm): Lm, bearer: Bearer, Body(hello): Body<Hello>) -> Result<Json<Welcome>, Refused> {
    Ok(Json(lm.hello(bearer.token.expose(), bearer.from, hello).await?))
}

async fn key(State(lm): Lm, bearer: Bearer, Body(offer): Body<KeyOffer>) -> Result<StatusCode, Refused> {
    lm.offer_key(bearer.token.expose(), bearer.from, offer).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kickstart(State(lm): Lm, bearer: Bearer) -> Result<impl IntoResponse, Refused> {
    let text = lm.agent_kickstart(bearer.token.expose(), bearer.from).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

async fn reports(
    State(lm): Lm,
    bearer: Bearer,
    Body(reports): Body<Reports>,
) -> Result<Json<Directive>, Refused> {
    Ok(Json(
        lm.reports(bearer.token.expose(), bearer.from, reports.reports)
            .await?,
    ))
}
