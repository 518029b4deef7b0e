//! What an agent in rescue mode asks inside the tunnel (contract: `leaseboot_protocol::rescue`). Its source address is one that WireGuard checked, so it names the borrowing, as for all else
//! that is served there.

use super::service::{Identities, Refused, Source, admit};
use axum::Json;
use axum::extract::{Extension, Path, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use leaseboot_protocol::console::{CallId, UPGRADE};
use leaseboot_protocol::rescue::RescueWord;
use std::sync::Arc;

pub(super) async fn word<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
) -> Result<Json<RescueWord>, Refused> {
    admit(&*identities, source, "rescue mode", |state| {
        state.session().is_some()
    })?;
    Ok(Json(identities.rescue(source.0).await?))
}

pub(super) async fn console<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    Path(call): Path<CallId>,
    mut request: Request,
) -> Result<Response, Refused> {
    admit(&*identities, source, "console", |state| state.session().is_some())?;
    let asked = request.headers().get(header::UPGRADE);
    if asked.is_none_or(|asked| asked.as_bytes() != UPGRADE.as_bytes()) {
        return Err(Refused(StatusCode::UPGRADE_REQUIRED));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    // Ends with the connection: either it is upgraded, or it is closed.
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => identities.console(source.0, &call, Box::new(TokioIo::new(stream))),
            Err(error) => {
                tracing::info!(from = %source.0, %error, "a console's connection broke before it was open")
            }
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
