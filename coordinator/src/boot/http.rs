//! Plain HTTP for boot loaders.
//!
//! | path | content |
//! |---|---|
//! | `/boot/files/<sha256>/<name>` | a boot file; ranges, ETag, to be kept forever |
//! | `/boot/ipxe/<mac>.ipxe`, `/boot/grub/<mac>.cfg` | the server's script, rendered for this request |
//! | `/boot/site/<id>.img` | the site archive of one boot |
//!
//! GRUB 2.06 compares the names of headers letter by letter, so they go out as `Content-Length`, which hyper does not do by
//! itself; therefore the connections are served here and not by `axum::serve`.

use super::plan::SiteArchiveId;
use super::range::{self, Wanted};
use super::script::Language;
use super::service::BootService;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::network::MacAddress;
use std::net::SocketAddr;
use std::sync::Arc;

/// The routes of the boot files. Needs the client's address as [`ConnectInfo`], as [`BootHttp`](super::BootHttp) and axum provide it.
pub fn router(service: Arc<BootService>) -> Router {
    Router::new()
        .route("/boot/files/{sha256}/{name}", get(file))
        .route("/boot/ipxe/{name}", get(ipxe))
        .route("/boot/grub/{name}", get(grub))
        .route("/boot/site/{name}", get(site))
        .with_state(service)
}

async fn file(
    State(service): State<Arc<BootService>>,
    Path((sha256, name)): Path<(String, String)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some(file) = sha256
        .parse()
        .ok()
        .and_then(|digest: Sha256| service.files().at_path(&digest, &name))
    else {
        return not_found();
    };
    let etag = format!("\"{}\"", file.sha256);
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let common = [
        (ETAG, etag.clone()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    if header(IF_NONE_MATCH)
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*"))
    {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let same = header(IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    let length = file.content.len();
    match range::parse(header(RANGE).filter(|_| same), length) {
        Wanted::Whole => {
            tracing::info!(%from, name, bytes = length, "http boot file");
            (common, Body::from(file.content.clone())).into_response()
        }
        Wanted::Part(part) => {
            tracing::info!(%from, name, ?part, "http boot file");
            let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let body = Body::from(file.content.slice(part));
            (
                StatusCode::PARTIAL_CONTENT,
                common,
                [(CONTENT_RANGE, range)],
                body,
            )
                .into_response()
        }
        Wanted::Unsatisfiable => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            [(CONTENT_RANGE, format!("bytes */{length}"))],
        )
            .into_response(),
    }
}

async fn ipxe(
    service: State<Arc<BootService>>,
    name: Path<String>,
    from: ConnectInfo<SocketAddr>,
) -> Response {
    script(Language::Ipxe, ".ipxe", service, &name, from).await
}

async fn grub(
    service: State<Arc<BootService>>,
    name: Path<String>,
    from: ConnectInfo<SocketAddr>,
) -> Response {
    script(Language::Grub, ".cfg", service, &name, from).await
}

async fn script(
    language: Language,
    suffix: &str,
    State(service): State<Arc<BootService>>,
    name: &str,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
) -> Response {
    let Some(mac) = name
        .strip_suffix(suffix)
        .and_then(|mac| mac.parse::<MacAddress>().ok())
    else {
        return not_found();
    };
    match service.script(language, mac, from.ip()).await {
        Ok(script) => (for_this_boot("text/plain; charset=utf-8"), script).into_response(),
        Err(error) => failed(&error),
    }
}

async fn site(
    State(service): State<Arc<BootService>>,
    Path(name): Path<String>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
) -> Response {
    let Some(id) = name
        .strip_suffix(".img")
        .and_then(|id| id.parse::<SiteArchiveId>().ok())
    else {
        return not_found();
    };
    match service.site_archive(&id, from.ip()).await {
        Ok(Some(archive)) => (for_this_boot("application/octet-stream"), Body::from(archive)).into_response(),
        Ok(None) => {
            tracing::warn!(%from, archive = ?id, "a site archive that is unknown or used up was asked for");
            not_found()
        }
        Err(error) => failed(&error),
    }
}

fn for_this_boot(content_type: &'static str) -> [(HeaderName, &'static str); 2] {
    [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")]
}

// Refusals have no body: GRUB 2.06 takes the body of any answer for the script that it asked for, and would run the words.

fn not_found() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(error, "a boot file cannot be served");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
