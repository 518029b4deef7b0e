//! Who asks: a tenant, known by the certificate of the connection, or a server, known by its bearer token and its address. An extractor
//! for each, so that a handler cannot forget to ask.

use super::listener::Peer;
use super::problem::{InPath, Problem};
use crate::lease::Driver;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::secret::Secret;
use std::net::IpAddr;
use std::sync::Arc;

/// Whose certificate the connection has. It is on record, not revoked, and its tenant has not asked too often.
///
/// Put into the extensions of a request by a layer that has asked already, so that one request counts once.
#[derive(Clone)]
pub(super) struct Tenant(pub(super) TenantId);

impl FromRequestParts<Arc<Driver>> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, lm: &Arc<Driver>) -> Result<Self, Problem> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let peer = parts.extensions.get::<Peer>();
        let shown = peer.and_then(|peer| Some((peer.tenant.clone()?, peer.certificate?)));
        let (tenant, certificate) = shown.ok_or_else(|| {
            Problem::unauthorized(
                "a client certificate of this lease manager is needed: the lender invites with `leaseboot-lm tenant invite`",
            )
        })?;
        tracing::Span::current().record("tenant", tenant.as_str());
        lm.admit(&tenant, &certificate).await?;
        Ok(Self(tenant))
    }
}

/// The lease that the path names; whether it is the caller's is the driver's to say.
pub(super) struct Lease(pub(super) LeaseId);

impl<S: Send + Sync> FromRequestParts<S> for Lease {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let InPath(id) = InPath::<LeaseId>::from_request_parts(parts, state).await?;
        tracing::Span::current().record("lease", id.as_str());
        Ok(Self(id))
    }
}

/// What a server's agent shows, and where it comes from.
pub(super) struct Bearer {
    pub(super) token: Secret,
    pub(super) from: IpAddr,
}

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
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
            _ => Err(Problem::unauthorized("a bearer token is needed")),
        }
    }
}
