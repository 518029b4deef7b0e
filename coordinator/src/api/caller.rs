//! Who asks: a tenant, known by the certificate of the connection, or a server, known by its bearer token and its address. An extractor
//! for each, so that a handler cannot forget to ask.

use super::listener::Peer;
use super::problem::{InPath, Problem};
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::secret::Secret;
use std::net::IpAddr;

/// Whose certificate the connection has.
pub(super) struct Tenant(pub(super) TenantId);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let tenant = parts
            .extensions
            .get::<Peer>()
            .and_then(|peer| peer.tenant.clone());
        let tenant = tenant.ok_or_else(|| {
            Problem::unauthorized(
                "a client certificate of this lease manager is needed: the lender makes one with `leaseboot-lm tenant add`",
            )
        })?;
        tracing::Span::current().record("tenant", tenant.as_str());
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
