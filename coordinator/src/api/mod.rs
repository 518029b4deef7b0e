//! The API of the Lease Manager: for tenants (mutual TLS) and for agents (bearer tokens), on one port.
//!
//! | module | what |
//! |---|---|
//! | `listener` | connections: TLS, who is at the other end, how many and how long |
//! | `handshake` | how much may be said until that is known |
//! | `bodies` | how much may be sent before it is known by whom |
//! | `caller` | extractors: the tenant, the agent, the lease that is meant |
//! | `leases` | the routes of `leaseboot_protocol::leases` |
//! | `events` | what happens to a lease, by long poll and as a stream |
//! | `enrolment` | the route by which a tenant becomes known |
//! | `agents` | the routes of `leaseboot_protocol::agent` |
//! | `rescue` | rescue mode: who stays, and the consoles that agents open |
//! | `idempotency` | what is sent twice is carried out once |
//! | `problem` | what an error looks like outside, and what stays inside |
//! | `kinds` | the kinds of errors, explained |
//! | `description` | the OpenAPI description of all this, and where it is served |
//!
//! One file per subject: a function `routes()`, which names the handlers, and the handlers, each with its `#[utoipa::path]`. The route
//! and its description are made from that one attribute, so neither can be without the other. A handler gives its answer or a
//! [`Problem`](problem::Problem). A new subject is a new file and one line in [`router`].

mod agents;
mod bodies;
mod caller;
mod description;
mod enrolment;
mod events;
mod handshake;
mod idempotency;
mod kinds;
mod leases;
mod listener;
mod problem;
mod rescue;

pub use listener::{Api, ApiError, Peer};

use crate::lease::Driver;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Instant;
use utoipa_axum::router::OpenApiRouter;

/// Settings with a kickstart are the largest messages.
const LARGEST_BODY: usize = 1 << 20;

/// What a handler works with.
type Lm = State<Arc<Driver>>;
/// The routes of one subject, with their descriptions.
type Routes = OpenApiRouter<Arc<Driver>>;

/// All subjects.
fn routes() -> Routes {
    OpenApiRouter::with_openapi(description::frame())
        .merge(leases::routes())
        .merge(events::routes())
        .merge(agents::routes())
        .merge(rescue::routes())
        .merge(enrolment::routes())
        .merge(description::routes())
}

/// All routes. Each request must carry a [`Peer`] as its extension, as [`Api`] provides it.
pub fn router(driver: Arc<Driver>) -> Router {
    let (router, description) = routes().split_for_parts();
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(description::layer(description))
        .layer(axum::Extension(events::Streams::default()))
        .layer(axum::middleware::from_fn_with_state(
            driver.clone(),
            idempotency::once,
        ))
        .layer(axum::middleware::from_fn_with_state(
            (driver.clone(), bodies::Bodies::default()),
            bodies::bound,
        ))
        .layer(axum::middleware::from_fn_with_state(driver.clone(), measure))
        .layer(axum::middleware::from_fn(problem::finish))
        .with_state(driver)
}

/// Counts requests by route, so that a made-up path makes no new number.
async fn measure(State(driver): Lm, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET | Method::POST | Method::PUT | Method::DELETE => request.method().to_string(),
        _ => "other".to_owned(),
    };
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    driver.metrics().request(&method, &route, status, begun.elapsed());
    response
}

/// The OpenAPI description as it is served.
pub fn openapi() -> utoipa::openapi::OpenApi {
    description::complete(routes().into_openapi())
}
