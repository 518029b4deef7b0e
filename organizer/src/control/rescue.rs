//! Rescue mode over the control socket: the order, and the console of whoever owns the socket.

use super::server::Failure;
use crate::gateway::Peers;
use crate::organizer::Organizer;
use crate::organizer::rescue::ConsoleError;
use crate::store::ConsoleRecord;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use leaseboot_protocol::console::UPGRADE;
use leaseboot_protocol::rescue::{RescueRequest, RescueView};
use std::sync::Arc;

/// The header that names whoever runs the command.
pub(super) const OPERATOR: &str = "leaseboot-operator";

pub(super) fn routes<P: Peers>() -> Router<Arc<Organizer<P>>> {
    Router::new()
        .route("/v1/borrowings/{name}/rescue", put(order::<P>))
        .route("/v1/borrowings/{name}/consoles", get(consoles::<P>))
        .route("/v1/borrowings/{name}/console", get(console::<P>))
}

impl From<ConsoleError> for Failure {
    fn from(error: ConsoleError) -> Self {
        let status = match error {
            ConsoleError::Lookup(error) => return error.into(),
            ConsoleError::Closed { .. } | ConsoleError::Busy(_) => StatusCode::CONFLICT,
            ConsoleError::Silent => StatusCode::GATEWAY_TIMEOUT,
            ConsoleError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, crate::error_chain(&error))
    }
}

async fn order<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
    Json(request): Json<RescueRequest>,
) -> Result<Json<RescueView>, Failure> {
    Ok(Json(organizer.order_rescue(&name, request).await?))
}

async fn consoles<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ConsoleRecord>>, Failure> {
    Ok(Json(organizer.consoles(&name).await?))
}

async fn console<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    mut request: Request,
) -> Result<Response, Failure> {
    let who = headers.get(OPERATOR).and_then(|who| who.to_str().ok());
    let open = organizer
        .open_console(&name, who.unwrap_or("without a name"))
        .await?;
    let person = hyper::upgrade::on(&mut request);
    organizer.spawn(async move {
        if let Ok(person) = person.await {
            open.run(TokioIo::new(person)).await;
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
