//! Errors as they leave the house: problem details (RFC 9457), with the members of [`Refusal`] as their extensions, and never more
//! than the other side may know.
//!
//! A handler gives a [`Problem`]. The layer [`finish`], which sees every request, turns it into a body: it alone knows which request
//! the problem is an instance of, and under which number the cause of a failure inside stands in the log. Only that number goes out.

use super::kinds::Kind;
use crate::lease::DriverError;
use crate::lease::agent::AgentError;
use crate::lease::tenant::OrderError;
use crate::seldom::Seldom;
use crate::store::StoreError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use leaseboot_protocol::leases::Refusal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

static REFUSED: Seldom = Seldom::new();
/// How long one request may take until its answer begins; questions for events are held for 30 s.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// The media type of RFC 9457, section 3.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// Where the kinds of problems are explained.
const KINDS_PATH: &str = "/v1/problems";

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    refusal: Refusal,
    status: StatusCode,
    /// For the lender's log only.
    cause: Option<Arc<DriverError>>,
}

/// The body of every error. Its further members are those of a [`Refusal`].
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ProblemDetails {
    /// The kind, as a path below this server that explains it.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The status of the answer once more.
    status: u16,
    /// What is wrong this time, and what to do.
    detail: String,
    /// The request's path and, behind `#`, its number in the lender's log.
    instance: String,
    #[serde(flatten)]
    refusal: Refusal,
}

impl Problem {
    /// The order does not fit what is there: 409.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal::Invalid { message }.into()
    }

    /// The request is not well formed: 400, or what `status` says.
    pub(super) fn malformed(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            ..Self::invalid(message)
        }
    }

    /// A certificate or token is missing or not good: 401.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal::Unauthorized { message }.into()
    }

    pub(super) fn inside(cause: DriverError) -> Self {
        let incident = String::new();
        Self {
            cause: Some(Arc::new(cause)),
            ..Refusal::Internal { incident }.into()
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: Kind::of(&refusal).status,
            refusal,
            cause: None,
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => (*refusal).into(),
            OrderError::Inside(error) => Self::inside(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::inside(error.into())
    }
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Inside(error) => Self::inside(error),
            AgentError::Unauthorized(_) => Self::unauthorized(error.to_string()),
            AgentError::Invalid(message) => Self::invalid(message),
        }
    }
}

impl IntoResponse for Problem {
    /// A mark for [`finish`], without a body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The layer over all routes: gives the request a number and a span, bounds its time, and writes the body of a [`Problem`].
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let (number, path) = (request_number(), request.uri().path().to_owned());
    let span = tracing::info_span!(
        "request",
        number,
        method = %request.method(),
        path,
        tenant = tracing::field::Empty,
        lease = tracing::field::Empty,
        server = tracing::field::Empty,
    );
    let answer = tokio::time::timeout(REQUEST_TIME, next.run(request)).instrument(span.clone());
    let mut response = match answer.await {
        Ok(response) => response,
        Err(_) => Problem::malformed(
            StatusCode::REQUEST_TIMEOUT,
            "the request took too long: send it again",
        )
        .into_response(),
    };
    match response.extensions_mut().remove::<Problem>() {
        None => response,
        Some(problem) => span.in_scope(|| write(problem, &number, &path)),
    }
}

fn write(mut problem: Problem, number: &str, path: &str) -> Response {
    if let Refusal::Internal { incident } = &mut problem.refusal {
        number.clone_into(incident);
    }
    if let Some(cause) = &problem.cause {
        let cause: &dyn Error = cause.as_ref();
        tracing::error!(incident = number, error = cause, "a request failed inside");
    } else if let Some(spoken) = REFUSED.speak() {
        let status = problem.status.as_u16();
        tracing::info!(status, refusal = %problem.refusal, left_out = spoken.left_out, "a request was refused");
    }
    let kind = Kind::of(&problem.refusal);
    let retry_after = match problem.refusal {
        Refusal::Busy { retry_after_s } => Some(HeaderValue::from(retry_after_s)),
        _ => None,
    };
    let details = ProblemDetails {
        kind: format!("{KINDS_PATH}/{}", kind.name),
        title: kind.title,
        status: problem.status.as_u16(),
        detail: problem.refusal.to_string(),
        instance: format!("{path}#{number}"),
        refusal: problem.refusal,
    };
    let mut response = (problem.status, Json(details)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn request_number() -> String {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => hex::encode(bytes),
        Err(_) => "without-number".to_owned(),
    }
}

/// A JSON body whose faults are problems too.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::from_request(request, state).await;
        let Json(body) = body.map_err(|rejection: JsonRejection| {
            Problem::malformed(rejection.status(), rejection.body_text())
        })?;
        Ok(Self(body))
    }
}

/// Parameters of the path whose faults are problems too.
pub(super) struct InPath<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Path::from_request_parts(parts, state).await;
        let Path(found) = found.map_err(|rejection: PathRejection| {
            Problem::malformed(StatusCode::BAD_REQUEST, rejection.body_text())
        })?;
        Ok(Self(found))
    }
}

/// Parameters behind `?` whose faults are problems too.
pub(super) struct InQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Query::from_request_parts(parts, state).await;
        let Query(found) = found.map_err(|rejection: QueryRejection| {
            Problem::malformed(StatusCode::BAD_REQUEST, rejection.body_text())
        })?;
        Ok(Self(found))
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let message = format!("there is nothing at {}", uri.path());
    Refusal::NotFound { message }.into()
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{} does not take {method}", uri.path());
    Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, message)
}
