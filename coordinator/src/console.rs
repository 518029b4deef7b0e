//! The lender's end of a console: a Unix socket beside `lm.toml` that only its owner may open, over which `leaseboot-lm console` asks the Lease Manager that runs.
//!
//! ```text
//! GET /v1/console/{server}, Upgrade: leaseboot-console ─► may the lender have it? ─no─► 409 and the reason
//!                        └─ the agent is called, and dials in within CALL_TIME ─no─► 504
//!                               └─ 101, written into the audit log, relayed until it ends, written into the audit log
//! ```
//!
//! A session is written down before its first byte, so none is without a line; its end may be missing where the Lease Manager was killed.

use crate::audit::Deed;
use crate::lease::Driver;
use crate::lease::rescue::{CALL_TIME, ConsoleError};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use leaseboot_console::Stream;
use leaseboot_console::relay;
use leaseboot_protocol::console::UPGRADE;
use leaseboot_protocol::console::session::Limits;
use leaseboot_protocol::ids::ServerId;
use std::future::IntoFuture as _;
use std::io;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The socket's name, in the folder of `lm.toml`.
pub const SOCKET: &str = "lm.sock";

/// The header that names whoever runs the command, as the audit log names operators.
pub const OPERATOR: &str = "leaseboot-operator";

#[derive(Clone)]
struct Desk {
    lm: Arc<Driver>,
    sessions: TaskTracker,
    stop: CancellationToken,
}

/// Serves until `stop` is cancelled; sessions are ended then, and written down.
///
/// # Errors
/// Those of the socket.
pub async fn run(listener: UnixListener, lm: Arc<Driver>, stop: CancellationToken) -> io::Result<()> {
    let desk = Desk {
        lm,
        sessions: TaskTracker::new(),
        stop: stop.clone(),
    };
    let sessions = desk.sessions.clone();
    let router = Router::new()
        .route("/v1/console/{server}", get(console))
        .route("/v1/look", get(look))
        .with_state(desk);
    let served = axum::serve(listener, router).into_future();
    // Goal: serve until told to stop.
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        result = served => result,
    };
    sessions.close();
    sessions.wait().await;
    outcome
}

/// A command has written something that is to be acted on now.
async fn look(State(desk): State<Desk>) -> StatusCode {
    desk.lm.store().announce_work();
    StatusCode::NO_CONTENT
}

/// Why there is no session, for the one who asked.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<ConsoleError> for Refused {
    fn from(error: ConsoleError) -> Self {
        let status = match &error {
            ConsoleError::NoServer(_) => StatusCode::NOT_FOUND,
            ConsoleError::Inside(inside) => {
                tracing::error!(
                    error = inside as &dyn std::error::Error,
                    "a console could not be opened"
                );
                return Self(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the lease manager failed; its log tells why".to_owned(),
                );
            }
            _ => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

async fn console(
    State(desk): State<Desk>,
    Path(server): Path<String>,
    headers: HeaderMap,
    mut request: Request,
) -> Result<Response, Refused> {
    let server: ServerId = server
        .parse()
        .map_err(|error| Refused(StatusCode::NOT_FOUND, format!("{error}")))?;
    let who = headers.get(OPERATOR).and_then(|who| who.to_str().ok());
    let who = who.unwrap_or("without a name").to_owned();
    let opened = open(&desk, &server, &who).await;
    if let Err(Refused(_, why)) = &opened {
        tracing::warn!(%server, who, why, "a console was refused");
    }
    let agent = opened?;
    let person = hyper::upgrade::on(&mut request);
    let session = session(desk.clone(), server, who, person, agent);
    desk.sessions.spawn(session);
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The agent's end, once it has dialled in and the session is in the audit log.
async fn open(desk: &Desk, server: &ServerId, who: &str) -> Result<Box<dyn Stream>, Refused> {
    let (id, mut call) = desk.lm.open_console(server).await?;
    let answered = tokio::time::timeout(CALL_TIME, call.answered()).await;
    desk.lm.console_called(&id).await;
    let agent = answered.ok().flatten().ok_or_else(|| {
        let why = format!(
            "the agent of {server} has not dialled in within {} s: is it there yet? `leaseboot-lm servers show {server}` tells its history",
            CALL_TIME.as_secs()
        );
        Refused(StatusCode::GATEWAY_TIMEOUT, why)
    })?;
    let deed = Deed::of_named_operator(who, "open a console");
    desk.lm
        .write_console(deed, server)
        .await
        .map_err(ConsoleError::from)?;
    Ok(agent)
}

async fn session(desk: Desk, server: ServerId, who: String, person: OnUpgrade, agent: Box<dyn Stream>) {
    let Ok(person) = person.await else {
        return;
    };
    tracing::info!(%server, who, "a console is open");
    let (lm, on) = (desk.lm.clone(), server.clone());
    let permitted = move || {
        let (lm, on) = (lm.clone(), on.clone());
        async move { lm.may_open(&on).await.map_err(|error| error.to_string()) }
    };
    let person = TokioIo::new(person);
    // Goal: the end of the session, or of the process, which both sides see as a connection that is closed.
    let words = tokio::select! {
        (ending, tally) = relay::run(person, agent, Limits::default(), permitted) => format!("{ending}; {tally}"),
        () = desk.stop.cancelled() => "the lease manager stopped".to_owned(),
    };
    tracing::info!(%server, who, words, "a console is closed");
    let deed = Deed::of_named_operator(&who, "close a console").saying(words);
    if let Err(error) = desk.lm.write_console(deed, &server).await {
        tracing::error!(%server, error = &error as &dyn std::error::Error, "the end of a console is not in the audit log");
    }
}
