//! Plain HTTP for boot loaders: what is answered to a request.
//!
//! | path | content |
//! |---|---|
//! | `/boot/files/<sha256>/<name>` | a boot file; ranges, ETag, to be kept forever |
//! | `/<folder>/<name>`, such as `/grub/core.efi` | a first loader under the name that it has by TFTP; to be asked for each time |
//! | `/boot/ipxe/<mac>.ipxe`, `/boot/grub/<mac>.cfg`, for another architecture than x86-64 in a folder of its name | the server's script, rendered for this request |
//! | `/boot/site/<id>.img` | the site archive of one boot |
//! | `/boot/sums/<id>/<sha256>/<sha256>/<sha256>` | these digests as GRUB's `hashsum` reads them; the script that names the path pins them |
//!
//! An HTTP library would copy each boot file through the process for each server that fetches it. Here a large file goes from memory to the socket inside the kernel, and what is left of HTTP
//! for files that can only be read is little: [`Request`], [`Response`], and the connections in [`BootHttp`](super::BootHttp).

use super::files::BootFile;
use super::plan::SiteArchiveId;
use super::range::{self, Wanted};
use super::request::{Method, Request};
use super::response::{Body, Response, Status};
use super::script_path::ScriptPath;
use super::service::BootService;
use crate::seldom::Seldom;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::handover::StagedFiles;
use std::net::SocketAddr;

static UNKNOWN: Seldom = Seldom::new();

/// The answer to a request.
pub(super) async fn respond(service: &BootService, request: &Request, from: SocketAddr) -> Response {
    let parts: Vec<&str> = request.path.split('/').collect();
    let loader = request
        .path
        .strip_prefix('/')
        .and_then(|name| service.files().loader(name));
    let known = loader.is_some()
        || matches!(
            parts[..],
            ["", "boot", "files", _, _]
                | ["", "boot", "ipxe" | "grub" | "site", _]
                | ["", "boot", "ipxe" | "grub", _, _]
                | ["", "boot", "sums", _, _, _, _]
        );
    if known && request.method == Method::Other {
        return Response {
            headers: vec![("Allow", "GET, HEAD".to_owned())],
            ..Status::MethodNotAllowed.into()
        };
    }
    if let Some(loader) = loader {
        return file(loader, &request.path, Keep::Asking, request, from);
    }
    match parts[..] {
        ["", "boot", "files", sha256, name] => match digested(service, sha256, name) {
            Some(found) => file(found, name, Keep::Forever, request, from),
            None => Status::NotFound.into(),
        },
        ["", "boot", "site", name] => site(service, name, from).await,
        ["", "boot", "sums", id, kernel, ramdisk, start] => sums(id, [kernel, ramdisk, start]),
        ["", "boot", ref name @ ..] => script(service, ScriptPath::parse(name), from).await,
        _ => Status::NotFound.into(),
    }
}

/// For how long a cache may keep a file.
#[derive(Clone, Copy)]
enum Keep {
    /// Its path has the content's digest in it.
    Forever,
    /// Another version of the LM may have another file of this name.
    Asking,
}

fn digested<'a>(service: &'a BootService, sha256: &str, name: &str) -> Option<&'a BootFile> {
    let digest: Sha256 = sha256.parse().ok()?;
    service.files().at_path(&digest, name)
}

fn file(file: &BootFile, name: &str, keep: Keep, request: &Request, from: SocketAddr) -> Response {
    let etag = format!("\"{}\"", file.sha256);
    let is_known = |tags: &String| tags.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*");
    if request.if_none_match.as_ref().is_some_and(is_known) {
        return Response {
            headers: kept(etag, keep),
            ..Status::NotModified.into()
        };
    }
    let same = request.if_range.as_ref().is_none_or(|tag| *tag == etag);
    let length = file.len();
    match range::parse(request.range.as_deref().filter(|_| same), length) {
        Wanted::Whole => {
            tracing::info!(%from, name, bytes = length, "http boot file");
            content(Status::Ok, kept(etag, keep), file, 0..length)
        }
        Wanted::Part(part) => {
            tracing::info!(%from, name, ?part, "http boot file");
            let mut headers = kept(etag, keep);
            headers.push((
                "Content-Range",
                format!("bytes {}-{}/{length}", part.start, part.end - 1),
            ));
            content(Status::PartialContent, headers, file, part)
        }
        Wanted::Unsatisfiable => Response {
            headers: vec![("Content-Range", format!("bytes */{length}"))],
            ..Status::RangeNotSatisfiable.into()
        },
    }
}

fn content(
    status: Status,
    headers: Vec<(&'static str, String)>,
    file: &BootFile,
    part: std::ops::Range<usize>,
) -> Response {
    Response {
        status,
        headers,
        body: Body::File(file.clone(), part),
    }
}

fn kept(etag: String, keep: Keep) -> Vec<(&'static str, String)> {
    let control = match keep {
        Keep::Forever => "public, max-age=31536000, immutable",
        Keep::Asking => "public, no-cache",
    };
    vec![
        ("Etag", etag),
        ("Accept-Ranges", "bytes".to_owned()),
        ("Cache-Control", control.to_owned()),
        ("Content-Type", "application/octet-stream".to_owned()),
    ]
}

async fn script(service: &BootService, asked: Option<ScriptPath>, from: SocketAddr) -> Response {
    let Some(asked) = asked else {
        return Status::NotFound.into();
    };
    match service.script(asked, from.ip()).await {
        Ok(script) => for_this_boot("text/plain; charset=utf-8", script.into()),
        Err(error) => failed(&error),
    }
}

async fn site(service: &BootService, name: &str, from: SocketAddr) -> Response {
    let id = name
        .strip_suffix(".img")
        .and_then(|id| id.parse::<SiteArchiveId>().ok());
    let Some(id) = id else {
        return Status::NotFound.into();
    };
    match service.site_archive(&id, from.ip()).await {
        Ok(Some(archive)) => for_this_boot("application/octet-stream", archive),
        Ok(None) => {
            if let Some(spoken) = UNKNOWN.speak() {
                tracing::warn!(%from, archive = ?id, left_out = spoken.left_out, "a site archive that is unknown or used up was asked for");
            }
            Status::NotFound.into()
        }
        Err(error) => failed(&error),
    }
}

fn sums(id: &str, digests: [&str; 3]) -> Response {
    let [kernel, ramdisk, start] = digests.map(|digest| digest.parse().ok());
    match (id.parse(), kernel, ramdisk, start) {
        (Ok(id), Some(kernel), Some(ramdisk), Some(start)) => {
            let files = StagedFiles {
                id,
                kernel,
                ramdisk,
                start,
            };
            for_this_boot("text/plain; charset=utf-8", files.sums().into())
        }
        _ => Status::NotFound.into(),
    }
}

fn for_this_boot(content_type: &str, bytes: bytes::Bytes) -> Response {
    Response {
        status: Status::Ok,
        headers: vec![
            ("Content-Type", content_type.to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ],
        body: Body::Bytes(bytes),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(error, "a boot file cannot be served");
    Status::Unavailable.into()
}
