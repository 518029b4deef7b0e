//! Errors as they leave the house: always a [`Refusal`], and never more than the other side may know. What went
//! wrong inside is logged
//! under a number, and only the number goes out.

use crate::lease::DriverError;
use crate::lease::agent::AgentError;
use crate::lease::tenant::OrderError;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use leaseboot_protocol::leases::Refusal;
use std::error::Error;

/// An answer that is not what was asked for.
pub(super) struct Refused(Refusal);

impl Refused {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self(Refusal::Invalid {
            message: message.into(),
        })
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self(Refusal::Unauthorized {
            message: message.into(),
        })
    }

    fn inside(error: &DriverError) -> Self {
        let mut bytes = [0; 4];
        let incident = match getrandom::fill(&mut bytes) {
            Ok(()) => hex::encode(bytes),
            Err(_) => "without number".to_owned(),
        };
        tracing::error!(incident, error = error as &dyn Error, "a request failed inside");
        Self(Refusal::Internal { incident })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Refusal::NothingFits { .. } => StatusCode::CONFLICT,
            Refusal::Merge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Invalid { .. } => StatusCode::CONFLICT,
            Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
            Refusal::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Refusal::Internal { .. } | Refusal::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

impl From<OrderError> for Refused {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => Self(*refusal),
            OrderError::Inside(error) => Self::inside(&error),
        }
    }
}

impl From<AgentError> for Refused {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Inside(error) => Self::inside(&error),
            AgentError::Unauthorized(_) => Self::unauthorized(error.to_string()),
            AgentError::Invalid(message) => Self::invalid(message),
        }
    }
}

/// A JSON body whose faults are refusals too.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(malformed(&rejection)),
        }
    }
}

fn malformed(rejection: &JsonRejection) -> Response {
    let mut response = Refused::invalid(rejection.body_text()).into_response();
    *response.status_mut() = rejection.status();
    response
}

pub(super) async fn no_such_path(uri: Uri) -> Response {
    let message = format!("there is nothing at {}", uri.path());
    Refused(Refusal::NotFound { message }).into_response()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let mut response = Refused::invalid(format!("{} does not take {method}", uri.path())).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
