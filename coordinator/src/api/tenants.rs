//! The routes of tenants (`leaseboot_protocol::leases`).

use super::listener::Peer;
use super::refusal::{Body, Refused};
use crate::lease::{Driver, Event};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::lease::LeaseView;
use leaseboot_protocol::leases::{BootOrder, EventBatch, LeaseList, LeaseRequest, Prepared};
use leaseboot_protocol::settings::InstallSettings;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

type Lm = State<Arc<Driver>>;

pub(super) fn routes() -> Router<Arc<Driver>> {
    Router::new()
        .route("/v1/leases", get(list).post(borrow))
        .route("/v1/leases/{id}", get(show).delete(release))
        .route("/v1/leases/{id}/settings", put(settings))
        .route("/v1/leases/{id}/boot", post(boot))
        .route("/v1/leases/{id}/events", get(events))
        .route("/v1/leases/{id}/installed", post(installed))
        .route("/v1/leases/{id}/in-service", post(in_service))
}

/// Whose certificate the connection has.
struct Tenant(TenantId);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        let tenant = parts
            .extensions
            .get::<Peer>()
            .and_then(|peer| peer.tenant.clone());
        tenant.map(Tenant).ok_or_else(|| {
            Refused::unauthorized(
                "a client certificate of this lease manager is needed: the lender makes one with `leaseboot-lm tenant add`",
            )
        })
    }
}

/// The lease that the path names.
struct Lease(LeaseId);

impl<S: Send + Sync> FromRequestParts<S> for Lease {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let id = Path::<LeaseId>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Lease(id))
            .map_err(|rejection| Refused::invalid(rejection.body_text()))
    }
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_s: u64,
}

async fn borrow(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Body(request): Body<LeaseRequest>,
) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    Ok((StatusCode::CREATED, Json(lm.borrow(&tenant, request).await?)))
}

async fn list(State(lm): Lm, Tenant(tenant): Tenant) -> Result<Json<LeaseList>, Refused> {
    Ok(Json(LeaseList {
        leases: lm.leases_of(&tenant).await?,
    }))
}

async fn show(State(lm): Lm, Tenant(tenant): Tenant, Lease(id): Lease) -> Result<Json<LeaseView>, Refused> {
    Ok(Json(lm.lease_of(&tenant, &id).await?))
}

async fn settings(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    Body(settings): Body<InstallSettings>,
) -> Result<Json<Prepared>, Refused> {
    Ok(Json(lm.settings(&tenant, &id, settings).await?))
}

async fn boot(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    Body(order): Body<BootOrder>,
) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    Ok((StatusCode::ACCEPTED, Json(lm.boot(&tenant, &id, order).await?)))
}

async fn events(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    query: Result<Query<After>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<EventBatch>, Refused> {
    let Query(After { after, wait_s }) =
        query.map_err(|rejection| Refused::invalid(rejection.body_text()))?;
    Ok(Json(
        lm.events_of(&tenant, &id, after, Duration::from_secs(wait_s))
            .await?,
    ))
}

async fn installed(lm: Lm, tenant: Tenant, lease: Lease) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    order(lm, tenant, lease, Event::MemberRegistered).await
}

async fn in_service(lm: Lm, tenant: Tenant, lease: Lease) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    order(lm, tenant, lease, Event::MemberSeen).await
}

async fn release(lm: Lm, tenant: Tenant, lease: Lease) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    order(lm, tenant, lease, Event::Released).await
}

async fn order(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    event: Event,
) -> Result<(StatusCode, Json<LeaseView>), Refused> {
    Ok((StatusCode::ACCEPTED, Json(lm.order(&tenant, &id, event).await?)))
}
