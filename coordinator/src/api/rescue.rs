//! The routes of rescue mode (`leaseboot_protocol::rescue`): the tenant's word about its lease, the agent's question whether to stay, and the console that it opens.

use super::caller::{Bearer, Lease, Tenant};
use super::problem::{Body, InPath, Problem};
use super::{Lm, Routes};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use leaseboot_protocol::console::{CallId, UPGRADE};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::rescue::{RescueRequest, RescueView, RescueWord};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(show, order, withdraw))
        .routes(routes!(word))
        .routes(routes!(shell))
        .routes(routes!(console))
}

/// How a lease stands to rescue mode
#[utoipa::path(
    get, path = "/v1/leases/{id}/rescue", tag = "leases", operation_id = "rescue", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 200, description = "what was ordered and agreed to", body = RescueView))
)]
async fn show(State(lm): Lm, Tenant(tenant): Tenant, Lease(id): Lease) -> Result<Json<RescueView>, Problem> {
    Ok(Json(lm.rescue_of(&tenant, &id).await?))
}

/// Has the agent stay before it hands over, and says whether the lender may open a console
///
/// The same again changes nothing: an order that stands keeps its end.
#[utoipa::path(
    put, path = "/v1/leases/{id}/rescue", tag = "leases", operation_id = "order_rescue", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    request_body = RescueRequest,
    responses((status = 200, description = "what is ordered and agreed to now", body = RescueView))
)]
async fn order(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
    Body(request): Body<RescueRequest>,
) -> Result<Json<RescueView>, Problem> {
    Ok(Json(lm.order_rescue(&tenant, &id, request).await?))
}

/// Withdraws order and consent: the agent goes on
#[utoipa::path(
    delete, path = "/v1/leases/{id}/rescue", tag = "leases", operation_id = "withdraw_rescue", security(("tenant" = [])),
    params(("id" = LeaseId, Path, description = "the lease")),
    responses((status = 200, description = "what is ordered now; the lender's order may still stand", body = RescueView))
)]
async fn withdraw(
    State(lm): Lm,
    Tenant(tenant): Tenant,
    Lease(id): Lease,
) -> Result<Json<RescueView>, Problem> {
    let nothing = RescueRequest {
        stay: false,
        lender_console: false,
    };
    Ok(Json(lm.order_rescue(&tenant, &id, nothing).await?))
}

/// Whether the agent is to stay, and who waits for a console
#[utoipa::path(
    get, path = "/v1/agent/rescue", tag = "agents", operation_id = "rescue_word", security(("agent" = [])),
    responses((status = 200, description = "the word for now; to be asked for again", body = RescueWord))
)]
async fn word(State(lm): Lm, bearer: Bearer) -> Result<Json<RescueWord>, Problem> {
    Ok(Json(lm.rescue_word(bearer.token.expose(), bearer.from).await?))
}

/// The program that serves as the shell of rescue mode
///
/// Its digest is in the image of stage 1, so the agent uses no other.
#[utoipa::path(
    get, path = "/v1/agent/shell", tag = "agents", security(("agent" = [])),
    responses((status = 200, description = "a static program", body = Vec<u8>, content_type = "application/octet-stream"))
)]
async fn shell(State(lm): Lm, bearer: Bearer) -> Result<impl IntoResponse, Problem> {
    let path = lm.shell_file(bearer.token.expose(), bearer.from).await?;
    let bytes = tokio::fs::read(&path).await.map_err(|error| {
        tracing::error!(path = %path.display(), %error, "the shell of rescue mode cannot be read");
        Problem::invalid("the shell cannot be read; the lease manager's log tells why")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

/// Opens the console that somebody waits for
///
/// With `Upgrade: leaseboot-console`; frames follow the answer.
#[utoipa::path(
    get, path = "/v1/agent/console/{call}", tag = "agents", security(("agent" = [])),
    params(("call" = CallId, Path, description = "the call of the word")),
    responses((status = 101, description = "frames from here on"))
)]
async fn console(
    State(lm): Lm,
    bearer: Bearer,
    InPath(call): InPath<CallId>,
    mut request: Request,
) -> Result<Response, Problem> {
    let server = lm
        .console_server(bearer.token.expose(), bearer.from, &call)
        .await?;
    let asked = request.headers().get(header::UPGRADE);
    if asked.is_none_or(|asked| asked.as_bytes() != UPGRADE.as_bytes()) {
        let message = format!("a console is opened with `Upgrade: {UPGRADE}`");
        return Err(Problem::malformed(StatusCode::UPGRADE_REQUIRED, message));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    // Ends with the connection: either it is upgraded, or it is closed.
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => lm.console_answered(&server, &call, Box::new(TokioIo::new(stream))),
            Err(error) => tracing::info!(%server, %error, "a console's connection broke before it was open"),
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
