//! The routes of agents (`leaseboot_protocol::agent`).

use super::caller::Bearer;
use super::problem::{Body, Problem};
use super::{Lm, Routes};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use leaseboot_protocol::agent::{Directive, Hello, KeyOffer, Reports, Welcome};
use leaseboot_protocol::boot_log::LogLines;
use leaseboot_protocol::erasure::ErasureReport;
use leaseboot_protocol::handover::StagedFiles;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(hello))
        .routes(routes!(key))
        .routes(routes!(kickstart))
        .routes(routes!(reports))
        .routes(routes!(staged))
        .routes(routes!(log))
        .routes(routes!(erasure))
}

/// The agent's first word
///
/// Shows the boot token of the site archive, which is good for one hello; the session token of the answer is for all that follows.
#[utoipa::path(
    post, path = "/v1/agent/hello", tag = "agents", security(("agent" = [])),
    request_body = Hello,
    responses((status = 200, description = "what the server is there for", body = Welcome))
)]
async fn hello(State(lm): Lm, bearer: Bearer, Body(hello): Body<Hello>) -> Result<Json<Welcome>, Problem> {
    Ok(Json(lm.hello(bearer.token.expose(), bearer.from, hello).await?))
}

/// Hands over the public half of the key that the agent made for this boot
#[utoipa::path(
    put, path = "/v1/agent/key", tag = "agents", security(("agent" = [])),
    request_body = KeyOffer,
    responses((status = 204, description = "the key is with the tenant"))
)]
async fn key(State(lm): Lm, bearer: Bearer, Body(offer): Body<KeyOffer>) -> Result<StatusCode, Problem> {
    lm.offer_key(bearer.token.expose(), bearer.from, offer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The merged kickstart, marks in place
#[utoipa::path(
    get, path = "/v1/agent/kickstart", tag = "agents", security(("agent" = [])),
    responses((status = 200, description = "the text", body = String, content_type = "text/plain"))
)]
async fn kickstart(State(lm): Lm, bearer: Bearer) -> Result<impl IntoResponse, Problem> {
    let text = lm.agent_kickstart(bearer.token.expose(), bearer.from).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// What the agent did since it last told
#[utoipa::path(
    post, path = "/v1/agent/reports", tag = "agents", security(("agent" = [])),
    request_body = Reports,
    responses((status = 200, description = "whether to go on", body = Directive))
)]
async fn reports(
    State(lm): Lm,
    bearer: Bearer,
    Body(reports): Body<Reports>,
) -> Result<Json<Directive>, Problem> {
    Ok(Json(
        lm.reports(bearer.token.expose(), bearer.from, reports.reports)
            .await?,
    ))
}

/// What the boot said on its console
#[utoipa::path(
    post, path = "/v1/agent/log", tag = "agents", security(("agent" = [])),
    request_body = LogLines,
    responses((status = 204, description = "the lines are kept, as far as there is room"))
)]
async fn log(State(lm): Lm, bearer: Bearer, Body(lines): Body<LogLines>) -> Result<StatusCode, Problem> {
    lm.boot_log(bearer.token.expose(), bearer.from, &lines).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the agent staged on the server's own disk
///
/// For a board that hangs in kexec. The server's next start, which this orders, enters what lies there. It may be repeated: the answer may have been
/// lost.
#[utoipa::path(
    put, path = "/v1/agent/staged", tag = "agents", security(("agent" = [])),
    request_body = StagedFiles,
    responses((status = 204, description = "the start is ordered"))
)]
async fn staged(
    State(lm): Lm,
    bearer: Bearer,
    Body(files): Body<StagedFiles>,
) -> Result<StatusCode, Problem> {
    lm.staged(bearer.token.expose(), bearer.from, files).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What wipe mode did
///
/// The lease manager holds it against the hardware on record and signs what it finds. It may be repeated: the answer may have been lost.
#[utoipa::path(
    put, path = "/v1/agent/erasure", tag = "agents", security(("agent" = [])),
    request_body = ErasureReport,
    responses((status = 200, description = "that the server may power off", body = Directive))
)]
async fn erasure(
    State(lm): Lm,
    bearer: Bearer,
    Body(report): Body<ErasureReport>,
) -> Result<Json<Directive>, Problem> {
    Ok(Json(
        lm.erasure(bearer.token.expose(), bearer.from, report).await?,
    ))
}
