//! The routes of tenants about their leases (`leaseboot_protocol::leases`).

use super::caller::{Lease, Tenant};
use super::problem::{Body, InQuery, Problem};
use super::{Lm, Routes};
use crate::lease::Event;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use leaseboot_protocol::erasure::{ErasureKey, SignedErasure};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseView;
use leaseboot_protocol::leases::{
    BootOrder, LeaseList, LeaseRequest, Lent, Prepared, RenewRequest, SearchAnswer, SearchRequest,
};
use leaseboot_protocol::settings::InstallSettings;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Leases of one page, at most.
const LONGEST_PAGE: u32 = 1000;

/// An order was taken; the lease as it stands.
type Taken = Result<(StatusCode, Json<LeaseView>), Problem>;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(list, borrow))
        .routes(routes!(show, release))
        .routes(routes!(settings))
        .routes(routes!(boot))
        .routes(routes!(installed))
        .routes(routes!(in_service))
        .routes(routes!(renew))
        .routes(routes!(erasure))
        .routes(routes!(erasure_key))
}

/// Says what a request for servers would find, without taking anything
#[utoipa::path(
    post, path = "/v1/search", tag = "leases", security(("tenant" = [])),
    request_body = SearchRequest,
    responses((status = 200, description = "what fits, or what is in the way", body = SearchAnswer))
)]
async fn search(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Body(request): Body<SearchRequest>,
) -> Result<Json<SearchAnswer>, Problem> {
    Ok(Json(lm.search(&tenant, &request).await?))
}

/// Takes a server that fits, or several at once
#[utoipa::path(
    post, path = "/v1/leases", tag = "leases", security(("tenant" = [])),
    request_body = LeaseRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same key gives the same answer for a day")),
    responses((
        status = 201, body = Lent,
        description = "the lease, or those of the group; also when the same request made them before"
    ))
)]
async fn borrow(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Body(request): Body<LeaseRequest>,
) -> Result<(StatusCode, Json<Lent>), Problem> {
    Ok((StatusCode::CREATED, Json(lm.borrow(&tenant, request).await?)))
}

/// Which part of the list.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Part {
    /// How many leases, at most.
    #[serde(default = "usual_limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// The `next` of the page before.
    cursor: Option<String>,
}

fn usual_limit() -> u32 {
    100
}

impl Part {
    /// The number that the page begins behind. To others a cursor is opaque.
    fn after(&self) -> Result<i64, Problem> {
        let Some(cursor) = &self.cursor else {
            return Ok(0);
        };
        let number = hex::decode(cursor).ok().and_then(|bytes| bytes.try_into().ok());
        number.map(i64::from_be_bytes).ok_or_else(|| {
            let message = "cursor must be the `next` of the page before";
            Problem::malformed(StatusCode::BAD_REQUEST, message)
        })
    }
}

/// The tenant's leases, oldest first, page by page
#[utoipa::path(
    get, path = "/v1/leases", tag = "leases", security(("tenant" = [])),
    params(Part),
    responses((status = 200, description = "the leases", body = LeaseList))
)]
async fn list(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    InQuery(part): InQuery<Part>,
) -> Result<Json<LeaseList>, Problem> {
    if !(1..=LONGEST_PAGE).contains(&part.limit) {
        let message = format!("limit must be 1 to {LONGEST_PAGE}");
        return Err(Problem::malformed(StatusCode::BAD_REQUEST, message));
    }
    let page = lm.lease_page(&tenant, part.after()?, part.limit).await?;
    Ok(Json(LeaseList {
        leases: page.leases,
        next: page.next.map(|number| hex::encode(number.to_be_bytes())),
    }))
}

/// One lease
#[utoipa::path(
    get, path = "/v1/leases/{id}", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 200, description = "the lease", body = LeaseView))
)]
async fn show(State(lm): Lm, Tenant(tenant): Tenant, Lease(id): Lease) -> Result<Json<LeaseView>, Problem> {
    Ok(Json(lm.lease_of(&tenant, &id).await?))
}

/// Merges the install settings with the server's hardware
#[utoipa::path(
    put, path = "/v1/leases/{id}/settings", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    request_body = InstallSettings,
    responses((status = 200, description = "the merged text, to look at before the boot is ordered", body = Prepared))
)]
async fn settings(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    Body(settings): Body<InstallSettings>,
) -> Result<Json<Prepared>, Problem> {
    Ok(Json(lm.settings(&tenant, &id, settings).await?))
}

/// Consents to the merged text and orders the boot
#[utoipa::path(
    post, path = "/v1/leases/{id}/boot", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    request_body = BootOrder,
    responses((status = 202, description = "power is ordered", body = LeaseView))
)]
async fn boot(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    Body(order): Body<BootOrder>,
) -> Taken {
    Ok((StatusCode::ACCEPTED, Json(lm.boot(&tenant, &id, order).await?)))
}

/// Says that the member's key is registered with the tenant
#[utoipa::path(
    post, path = "/v1/leases/{id}/installed", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 202, description = "noted", body = LeaseView))
)]
async fn installed(lm: Lm, tenant: Tenant, lease: Lease) -> Taken {
    order(lm, tenant, lease, Event::MemberRegistered).await
}

/// Says that the member was seen through its own tunnel
#[utoipa::path(
    post, path = "/v1/leases/{id}/in-service", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 202, description = "noted", body = LeaseView))
)]
async fn in_service(lm: Lm, tenant: Tenant, lease: Lease) -> Taken {
    order(lm, tenant, lease, Event::MemberSeen).await
}

/// Keeps the server for another term, counted from now
///
/// Never shortens the present one, and never beyond the lender's maximum.
#[utoipa::path(
    post, path = "/v1/leases/{id}/renew", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    request_body = RenewRequest,
    responses((status = 202, description = "the lease with the new end of its term", body = LeaseView))
)]
async fn renew(lm: Lm, tenant: Tenant, lease: Lease, Body(request): Body<RenewRequest>) -> Taken {
    order(lm, tenant, lease, Event::Renewed(request.term_s)).await
}

/// The signed record of the server's erasure, once it was erased
#[utoipa::path(
    get, path = "/v1/leases/{id}/erasure", tag = "leases", operation_id = "erasure_record", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 200, description = "the record and its signature", body = SignedErasure))
)]
async fn erasure(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
) -> Result<Json<SignedErasure>, Problem> {
    Ok(Json(lm.erasure_of(&tenant, &id).await?))
}

/// The public key that erasure records are verified with
#[utoipa::path(
    get, path = "/v1/erasure-key", tag = "leases", security(("tenant" = [])),
    responses((status = 200, description = "the key", body = ErasureKey))
)]
async fn erasure_key(State(lm): Lm, Tenant(_): Tenant) -> Json<ErasureKey> {
    Json(lm.erasure_key())
}

/// Gives the server back
#[utoipa::path(
    delete, path = "/v1/leases/{id}", tag = "leases", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 202, description = "the server goes back", body = LeaseView))
)]
async fn release(lm: Lm, tenant: Tenant, lease: Lease) -> Taken {
    order(lm, tenant, lease, Event::Released).await
}

async fn order(State(lm): Lm, Tenant(tenant): Tenant, Lease(id): Lease, event: Event) -> Taken {
    Ok((StatusCode::ACCEPTED, Json(lm.order(&tenant, &id, event).await?)))
}
