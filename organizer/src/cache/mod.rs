//! A read-through cache of the enterprise's package servers, inside the tunnel: `GET http://<gateway>/cache/NAME/PATH` is `GET UPSTREAM/PATH`.
//!
//! ```text
//! request ─► admitted by the borrowing's state ─► kept and immutable ──────────────────────────► the file
//!                                              └► a flight to the upstream, one for all readers of a path
//!                                                   ├ 304: what is kept is still right ────────► the file
//!                                                   ├ 200: into a new file, readers follow it ─► whole: kept; cut: nobody got a whole answer
//!                                                   └ anything else: passed on, nothing kept
//! ```
//!
//! Two kinds of paths: what carries its version in its name (`pool/…`, `by-hash/…`, `*.deb`, `*.rpm`, …) never changes and is asked for once; everything else
//! (`InRelease`, `Packages`, `repomd.xml`) is revalidated at each request by `If-None-Match` and `If-Modified-Since` (RFC 9110, 13). So there is no
//! freshness to compute, which is what the libraries for HTTP caches are about (http-cache-semantics was looked at), and the rest of the work, streaming to many
//! readers and a bound on bytes, they leave to their users.
//!
//! | module | does |
//! |---|---|
//! | [`index`] | what is kept, in the order of its use, within the bound; pure |
//! | `shelf` | the files: an entry is its description, which names its body; both appear whole |
//! | `flight` | one fetch from an upstream, and those who read along |

mod flight;
pub mod index;
mod shelf;

use crate::borrowing::machine::State;
use crate::error_chain;
use crate::gateway::service::{Identities, Refused, Source, admit};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use flight::{Answer, Flights};
use leaseboot_protocol::digest::Sha256;
use shelf::Shelf;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tower_http::services::ServeFile;

/// What a path may be made of, besides letters and digits: what package servers have in their names, and escapes.
const PATH_CHARACTERS: &[u8] = b"/-._~+:=@,!%";
const LONGEST_PATH: usize = 1024;

/// A package server, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in paths.
    pub name: String,
    /// Where it is, such as `http://172.20.0.5/debian`, without a slash at its end.
    pub url: String,
    /// How many bytes are kept of it at most.
    pub max_bytes: u64,
    /// The file with the CA of an upstream that is reached by TLS; without it, the system's.
    pub ca: Option<PathBuf>,
}

/// A cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Its folder cannot be used.
    #[error("cannot use the cache's folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The upstream's CA cannot be read.
    #[error("cannot read the CA of the cache's upstream in {}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no client for TLS.
    #[error("cannot speak TLS with the cache's upstream {url}")]
    Tls {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// All caches.
pub struct Cache {
    upstreams: BTreeMap<String, Flights>,
}

impl Cache {
    /// Opens a folder below `folder` for each upstream, and takes away what a killed process left there.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open(folder: &Path, upstreams: &[Upstream]) -> Result<Self, CacheError> {
        let mut opened = BTreeMap::new();
        for upstream in upstreams {
            let path = folder.join(&upstream.name);
            let shelf = Shelf::open(&path, upstream.max_bytes)
                .map_err(|source| CacheError::Folder { path, source })?;
            tracing::info!(
                cache = upstream.name,
                upstream = upstream.url,
                kept = shelf.kept(),
                limit = upstream.max_bytes,
                "the cache is open"
            );
            opened.insert(upstream.name.clone(), Flights::new(upstream, shelf)?);
        }
        Ok(Self { upstreams: opened })
    }
}

/// The cache's part of the service inside the tunnel.
pub fn router<I: Identities>(identities: Arc<I>, cache: Arc<Cache>) -> Router {
    Router::new()
        .route("/cache/{name}/{*path}", get(package::<I>))
        .with_state((identities, cache))
}

/// Whether a server may fetch packages: while the enterprise's installer runs on it, and as a member.
fn may_fetch(state: &State) -> bool {
    state.runs_our_software()
}

async fn package<I: Identities>(
    Shared((identities, cache)): Shared<(Arc<I>, Arc<Cache>)>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Result<Response, Refused> {
    let tenant = admit(&*identities, source, "packages", may_fetch)?;
    let not_found = || Refused(StatusCode::NOT_FOUND);
    let uri = request.uri().clone();
    let (name, path) = split(uri.path()).ok_or_else(not_found)?;
    let path = path.as_str();
    let flights = cache.upstreams.get(name).ok_or_else(not_found)?;
    let answer = flights.answer(path).await.map_err(|error| {
        tracing::error!(borrowing = %tenant.id, cache = name, path, error = error_chain(&error), "a package does not come");
        Refused(StatusCode::BAD_GATEWAY)
    })?;
    match answer {
        Answer::Kept(file) => kept(&file, request).await.map_err(|error| {
            tracing::error!(borrowing = %tenant.id, cache = name, path, error = error_chain(&error), "a kept package cannot be read");
            Refused(StatusCode::INTERNAL_SERVER_ERROR)
        }),
        Answer::Coming { length, body } => {
            let mut response = Response::new(Body::from_stream(body));
            if let Some(length) = length {
                response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
            Ok(response)
        }
        Answer::Other(status) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            Ok(response)
        }
    }
}

/// The file from disk, from the asked byte on. It may be evicted meanwhile: who has it open reads on.
async fn kept(file: &Path, request: Request) -> io::Result<Response> {
    let response = ServeFile::new(file).try_call(request).await?;
    match response.status() {
        StatusCode::NOT_FOUND => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(response.map(Body::new)),
    }
}

/// Name and path of `/cache/NAME/PATH`, when the path leads nowhere else. Parts that say "here" are left out: apt asks a flat archive (`deb http://… ./`) for `./Packages`.
fn split(path: &str) -> Option<(&str, String)> {
    let (name, path) = path.strip_prefix("/cache/")?.split_once('/')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || PATH_CHARACTERS.contains(&b);
    // An escaped dot or slash would be one for the upstream.
    let lower = path.to_ascii_lowercase();
    let escapes = ["%2e", "%2f", "%5c", "%25", "%00"];
    let fits = path.len() <= LONGEST_PATH
        && path.bytes().all(plain)
        && path.split('/').all(|part| !matches!(part, "" | ".."))
        && !escapes.iter().any(|escape| lower.contains(escape));
    let parts: Vec<_> = path.split('/').filter(|part| *part != ".").collect();
    (fits && !parts.is_empty()).then(|| (name, parts.join("/")))
}

/// Whether what is at a path never changes.
fn is_immutable(path: &str) -> bool {
    const FOLDERS: [&str; 2] = ["pool", "by-hash"];
    const ENDINGS: [&str; 7] = [".deb", ".udeb", ".ddeb", ".rpm", ".drpm", ".dsc", ".apk"];
    path.split('/').any(|part| FOLDERS.contains(&part)) || ENDINGS.iter().any(|ending| path.ends_with(ending))
}

/// The digest that a path promises: apt's `by-hash/SHA256/…`.
fn promised(path: &str) -> Option<Sha256> {
    let (_, digest) = path.rsplit_once("by-hash/SHA256/")?;
    digest.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_nowhere_else() {
        for path in [
            "pool/main/n/nginx/nginx_1%3a1.22.1-9+deb12u1~x_amd64.deb",
            "dists/bookworm/InRelease",
        ] {
            let found = Some(("debian", path.to_owned()));
            assert_eq!(split(&format!("/cache/debian/{path}")), found);
            assert_eq!(split(&format!("/cache/debian/./{path}")), found);
        }
        for path in [
            "",
            "..",
            "a/../b",
            "a//b",
            ".",
            "./",
            "./..",
            "%2e%2e/x",
            "a%2Fb",
            "a%252fb",
            "a\\b",
            "a?b",
            "a b",
            &"x".repeat(1025),
        ] {
            assert_eq!(split(&format!("/cache/debian/{path}")), None, "{path}");
        }
    }

    #[test]
    fn what_carries_its_version_in_its_name_never_changes() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let by_hash = format!("dists/bookworm/main/binary-amd64/by-hash/SHA256/{digest}");
        for path in [
            "pool/main/n/nginx/nginx_1_all.deb",
            by_hash.as_str(),
            "BaseOS/Packages/b/bash.rpm",
        ] {
            assert!(is_immutable(path), "{path}");
        }
        for path in [
            "dists/bookworm/InRelease",
            "dists/bookworm/main/binary-amd64/Packages.xz",
            "repodata/repomd.xml",
        ] {
            assert!(!is_immutable(path), "{path}");
        }
        assert_eq!(promised(&by_hash).unwrap().to_string(), digest);
        assert_eq!(promised("by-hash/MD5Sum/x"), None);
    }
}
