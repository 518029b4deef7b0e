//! The OpenAPI description (3.1), put together from the attributes of the handlers, and the explanations that problems point to.
//!
//! What holds for every operation stands here once: each may answer with problem details, and the two ways to show who one is.

use super::Routes;
use super::kinds::Kind;
use super::problem::{InPath, MEDIA_TYPE, Problem, ProblemDetails};
use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use leaseboot_protocol::leases::Refusal;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The description as the bytes that are served.
#[derive(Clone)]
pub(super) struct Served(Bytes);

/// The document without its paths.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("leaseboot Lease Manager")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Lends bare servers: for tenants over mutual TLS, and for the agents on lent servers with bearer tokens. \
             Points in time are milliseconds since 1970 (POSIX time).",
        ))
        .license(Some(utoipa::openapi::License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components()))
        .build()
}

fn components() -> Components {
    let mut components = Components::new();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "the boot token for the hello, the session token for all that follows",
        ));
    components.add_security_scheme("agent", SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(
        "tenant",
        SecurityScheme::MutualTls {
            description: Some("the tenant is the common name of its client certificate".to_owned()),
            deprecated: None,
            extensions: None,
        },
    );
    let mut schemas = vec![(ProblemDetails::name().into_owned(), ProblemDetails::schema())];
    ProblemDetails::schemas(&mut schemas);
    components.schemas.extend(schemas);
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(ProblemDetails::name()))));
    let response = ResponseBuilder::new()
        .description("what was asked for was not done: problem details (RFC 9457)")
        .content(MEDIA_TYPE, content);
    components
        .responses
        .insert("Problem".to_owned(), response.build().into());
    components
}

/// Adds what holds for every operation.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let problem = RefOr::Ref(Ref::from_response_name("Problem"));
        operation
            .responses
            .responses
            .insert("default".to_owned(), problem);
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Hands the finished description to its handler.
pub(super) fn layer(document: OpenApi) -> Extension<Served> {
    let text = complete(document)
        .to_json()
        .expect("strings and maps of strings are JSON");
    Extension(Served(text.into()))
}

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(openapi))
        .routes(routes!(explanation))
}

/// This description
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "description",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
async fn openapi(Extension(Served(text)): Extension<Served>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// What a kind of problem means
#[utoipa::path(
    get, path = "/v1/problems/{kind}", tag = "description",
    params(("kind" = String, Path, description = "the last part of a problem's type")),
    responses((status = 200, description = "an explanation for people", body = String, content_type = "text/plain"))
)]
async fn explanation(InPath(kind): InPath<String>) -> Result<impl IntoResponse, Problem> {
    let found = Kind::named(&kind).ok_or_else(|| Refusal::NotFound {
        message: format!("there is no kind of problem {kind:?}"),
    })?;
    let text = format!("{}\n\n{}", found.title, found.explanation);
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}
