//! Events and policies on the control socket: the CLI raises and resolves by hand, and asks for explanations.

use super::desk::Desk;
use super::explain::Report;
use super::file::is_name;
use crate::control::client::{ClientError, ControlClient};
use crate::control::server::Failure;
use crate::events::{Event, EventError, Key, Known, Labels, Status};
use crate::now;
use crate::store::HearError;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use leaseboot_protocol::timestamp::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const DOOR: &str = "cli";

/// Raises an event by hand, or says that one is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseRequest {
    /// Its name; or, of one that is known, its key.
    pub event: String,
    /// Labels.
    pub labels: Labels,
    /// What is said.
    pub status: Status,
}

#[derive(Deserialize)]
struct Only {
    policy: Option<String>,
}

/// The requests.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/events", get(events).post(raise))
        .route("/v1/policies", get(explain))
        .with_state(desk)
}

async fn events(State(desk): State<Arc<Desk>>) -> Result<Json<Vec<Known>>, Failure> {
    Ok(Json(desk.store.events().await?))
}

async fn explain(State(desk): State<Arc<Desk>>, Query(only): Query<Only>) -> Result<Json<Report>, Failure> {
    let report = desk.explain(only.policy.as_deref()).await?;
    match only.policy {
        Some(name) if report.policies.is_empty() => {
            let problem = report.problem.map(|problem| format!(" ({problem})"));
            let problem = problem.unwrap_or_default();
            Err(Failure(
                StatusCode::NOT_FOUND,
                format!("there is no policy {name:?} in force; `leaseboot-po explain` shows all{problem}"),
            ))
        }
        _ => Ok(Json(report)),
    }
}

async fn raise(
    State(desk): State<Arc<Desk>>,
    Json(request): Json<RaiseRequest>,
) -> Result<StatusCode, Failure> {
    let known = desk.store.events().await?;
    let found = known
        .iter()
        .find(|known| known.event.key.as_str() == request.event);
    let event = by_hand(request, found, now())
        .map_err(|error| Failure(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    if event.status == Status::Resolved && !known.iter().any(|known| known.event.key == event.key) {
        let problem = format!(
            "nothing of the name {event} was raised; `leaseboot-po event list` shows what was, with keys"
        );
        return Err(Failure(StatusCode::NOT_FOUND, problem));
    }
    desk.hear(vec![event]).await.map_err(|error| match error {
        HearError::TooMany => Failure(StatusCode::CONFLICT, error.to_string()),
        HearError::Store(error) => error.into(),
    })?;
    Ok(StatusCode::ACCEPTED)
}

/// A person's word on a thing that is known goes before its sender's, whose clock may be ahead.
fn by_hand(request: RaiseRequest, known: Option<&Known>, now: Timestamp) -> Result<Event, EventError> {
    if let Some(known) = known {
        return Ok(Event {
            status: request.status,
            at: now.max(known.event.at),
            ..known.event.clone()
        });
    }
    let labels = request
        .labels
        .iter()
        .flat_map(|(name, value)| [name.as_str(), value]);
    Event {
        key: Key::of(DOOR, [request.event.as_str()].into_iter().chain(labels)),
        source: DOOR.to_owned(),
        name: request.event,
        labels: request.labels,
        status: request.status,
        at: now,
    }
    .measured()
}

impl ControlClient {
    /// Raises an event, or says that it is over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn raise(&self, request: &RaiseRequest) -> Result<(), ClientError> {
        let request = self.at(Method::POST, "/v1/events").json(request);
        self.send(request).await.map(drop)
    }

    /// What was raised.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self) -> Result<Vec<Known>, ClientError> {
        self.ask(self.at(Method::GET, "/v1/events")).await
    }

    /// What the policies do and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, policy: Option<&str>) -> Result<Report, ClientError> {
        let path = match policy {
            None => "/v1/policies".to_owned(),
            Some(name) if is_name(name) => format!("/v1/policies?policy={name}"),
            Some(name) => return Err(ClientError::Refused(format!("{name:?} is no name of a policy"))),
        };
        self.ask(self.at(Method::GET, &path)).await
    }
}
