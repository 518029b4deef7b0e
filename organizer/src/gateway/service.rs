//! What servers may ask inside the tunnel (contract: `leaseboot_protocol::gateway`).
//!
//! WireGuard has checked the source address of every packet, so the address of a connection names the borrowing. Each answer is
//! decided anew from the borrowing's present state: what is allowed lies in [`State`], here it
//! is only asked. A source without a borrowing in the right state gets 403 and learns nothing.

use super::rescue;
use crate::borrowing::driver::Denied;
use crate::borrowing::machine::State;
use crate::borrowing::{BorrowingId, Order};
use crate::config::{ImageFiles, read_sealed};
use crate::error_chain;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use leaseboot_console::Stream;
use leaseboot_protocol::boot_log::LogLines;
use leaseboot_protocol::console::CallId;
use leaseboot_protocol::gateway::{MemberHello, MemberKey, MemberSettings, SealedValues, SessionManifest};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::rescue::RescueWord;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tower_http::services::ServeFile;

/// Keys and greetings are short.
const LONGEST_BODY: usize = 4096;

/// Lines of a log, of the longest, with what JSON adds.
const LONGEST_LOG: usize = 1 << 20;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub IpAddr);

/// The borrowing behind an address.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub id: BorrowingId,
    /// What was ordered.
    pub order: Arc<Order>,
    /// Where it stands.
    pub state: State,
}

/// Who is who inside the tunnel.
pub trait Identities: Send + Sync + 'static {
    /// The borrowing that has `address`.
    fn tenant(&self, address: IpAddr) -> Option<Tenant>;

    /// Who else serves the images' files.
    fn mirrors(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Writes down that the sealed values of the borrowing that has `address` go to its server now.
    fn unseal(&self, address: IpAddr) -> impl Future<Output = Result<(), Denied>> + Send;

    /// The server at `address` goes on to its image: it has its sealed values.
    fn gather(&self, address: IpAddr) -> impl Future<Output = Result<(), Denied>> + Send;

    /// Keeps what the server at `address` says on its console.
    fn log(&self, address: IpAddr, lines: &LogLines) -> impl Future<Output = Result<(), Denied>> + Send {
        let _ = (address, lines);
        std::future::ready(Err(Denied::NotNow))
    }

    /// What the enterprise wants of rescue mode on the server at `address`.
    fn rescue(&self, address: IpAddr) -> impl Future<Output = Result<RescueWord, Denied>> + Send {
        let _ = address;
        std::future::ready(Err(Denied::NotNow))
    }

    /// The server at `address` has answered the call of a console.
    fn console(&self, address: IpAddr, call: &CallId, stream: Box<dyn Stream>) {
        let _ = (address, call, stream);
    }

    /// Registers the member's key for the borrowing that has `address`.
    fn register(
        &self,
        address: IpAddr,
        key: WireguardPublicKey,
    ) -> impl Future<Output = Result<(), Denied>> + Send;

    /// The member at `address` says that it is there.
    fn greet(&self, address: IpAddr) -> impl Future<Output = Result<(), Denied>> + Send;
}

/// The service over `identities`.
pub fn router<I: Identities>(identities: Arc<I>) -> Router {
    Router::new()
        .route("/v1/session", get(session::<I>))
        .route("/v1/sealed", get(sealed::<I>))
        .route("/v1/image/kernel", get(kernel::<I>))
        .route("/v1/image/initrd", get(initrd::<I>))
        .route("/v1/image/disk", get(disk::<I>))
        .route("/v1/image/disk.chunks", get(chunks::<I>))
        .route(
            "/v1/log",
            post(log::<I>).layer(DefaultBodyLimit::max(LONGEST_LOG)),
        )
        .route("/v1/rescue", get(rescue::word::<I>))
        .route("/v1/console/{call}", get(rescue::console::<I>))
        .route("/v1/member/key", put(member_key::<I>))
        .route("/v1/member/hello", post(member_hello::<I>))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(identities)
}

/// An answer that is not the one that was asked for. It goes to a server, so it tells no reasons.
pub(crate) struct Refused(pub(crate) StatusCode);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let words = match self.0 {
            StatusCode::FORBIDDEN => "not allowed from this address now\n",
            StatusCode::SERVICE_UNAVAILABLE => "not now; try again\n",
            StatusCode::NOT_FOUND => "there is no such file\n",
            _ => "the gateway failed; its log tells why\n",
        };
        (self.0, words).into_response()
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Refused(match denied {
            Denied::NotNow => StatusCode::FORBIDDEN,
            Denied::Store => StatusCode::SERVICE_UNAVAILABLE,
        })
    }
}

/// The borrowing behind `source`, when it is in a state that `permits` what is asked.
pub(crate) fn admit<I: Identities>(
    identities: &I,
    source: Source,
    what: &str,
    permits: impl FnOnce(&State) -> bool,
) -> Result<Tenant, Refused> {
    let tenant = identities.tenant(source.0);
    match tenant {
        Some(tenant) if permits(&tenant.state) => Ok(tenant),
        Some(tenant) => {
            tracing::warn!(borrowing = %tenant.id, from = %source.0, state = %tenant.state, what, "refused in this state");
            Err(Refused(StatusCode::FORBIDDEN))
        }
        None => {
            tracing::warn!(from = %source.0, what, "refused: no borrowing has this address");
            Err(Refused(StatusCode::FORBIDDEN))
        }
    }
}

async fn session<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
) -> Result<Json<SessionManifest>, Refused> {
    let tenant = admit(&*identities, source, "session", |state| state.session().is_some())?;
    let boot = tenant.state.session().ok_or(Refused(StatusCode::FORBIDDEN))?;
    Ok(Json(SessionManifest {
        lease: boot.lease.clone(),
        kickstart_sha256: boot.kickstart_sha256,
        installer: tenant.order.settings.installer,
        image: tenant.order.settings.image.clone(),
        member: Some(member_settings(&tenant)),
        mirrors: identities.mirrors(),
    }))
}

async fn sealed<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
) -> Result<Json<SealedValues>, Refused> {
    let tenant = admit(&*identities, source, "sealed values", State::may_unseal)?;
    let mut values = BTreeMap::new();
    for (name, path) in &tenant.order.sealed {
        let value = read_sealed(path).map_err(|error| {
            tracing::error!(borrowing = %tenant.id, name, error = error_chain(&error), "no sealed value");
            Refused(StatusCode::INTERNAL_SERVER_ERROR)
        })?;
        values.insert(name.clone(), value);
    }
    // Written down before they leave: what is in the history may not have arrived, but nothing arrives that is not in it.
    identities.unseal(source.0).await?;
    let names: Vec<_> = values.keys().collect();
    tracing::info!(borrowing = %tenant.id, server = %server(&tenant), ?names, "sealed values go to the server");
    Ok(Json(SealedValues { values }))
}

/// The borrowing behind `source`, which goes on to its image. From then on the sealed values stay here.
async fn gathering<I: Identities>(identities: &I, source: Source, what: &str) -> Result<Tenant, Refused> {
    let tenant = admit(identities, source, what, State::may_gather)?;
    if tenant.state.may_unseal() {
        identities.gather(source.0).await?;
    }
    Ok(tenant)
}

/// The server's name at the lender.
fn server(tenant: &Tenant) -> &str {
    tenant.state.server().map_or("unknown", |server| server.as_str())
}

async fn kernel<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Result<Response, Refused> {
    let tenant = gathering(&*identities, source, "kernel").await?;
    match &tenant.order.files {
        ImageFiles::Installer { kernel, .. } => file(&tenant, kernel, request).await,
        ImageFiles::Disk { .. } => Err(Refused(StatusCode::NOT_FOUND)),
    }
}

async fn initrd<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Result<Response, Refused> {
    let tenant = gathering(&*identities, source, "initrd").await?;
    match &tenant.order.files {
        ImageFiles::Installer { initrd, .. } => file(&tenant, initrd, request).await,
        ImageFiles::Disk { .. } => Err(Refused(StatusCode::NOT_FOUND)),
    }
}

async fn disk<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Result<Response, Refused> {
    let tenant = gathering(&*identities, source, "disk image").await?;
    match &tenant.order.files {
        ImageFiles::Disk { disk, .. } => file(&tenant, disk, request).await,
        ImageFiles::Installer { .. } => Err(Refused(StatusCode::NOT_FOUND)),
    }
}

async fn chunks<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Result<Response, Refused> {
    let tenant = gathering(&*identities, source, "disk image's digests").await?;
    match &tenant.order.files {
        ImageFiles::Disk { chunks, .. } => file(&tenant, chunks, request).await,
        ImageFiles::Installer { .. } => Err(Refused(StatusCode::NOT_FOUND)),
    }
}

/// Streams a file from disk, from the asked byte on. Its digest is the server's to check: it was pinned when it was ordered.
async fn file(tenant: &Tenant, path: &Path, request: Request) -> Result<Response, Refused> {
    let response = ServeFile::new(path).try_call(request).await;
    let response = response.map_err(|error| {
        tracing::error!(borrowing = %tenant.id, path = %path.display(), %error, "the boot image cannot be read");
        Refused(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    if response.status() == StatusCode::NOT_FOUND {
        tracing::error!(borrowing = %tenant.id, path = %path.display(), "the boot image is gone; put it back");
        return Err(Refused(StatusCode::INTERNAL_SERVER_ERROR));
    }
    tracing::info!(borrowing = %tenant.id, path = %path.display(), status = %response.status(), "the server fetches its image");
    Ok(response.map(Body::new))
}

async fn log<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    Json(lines): Json<LogLines>,
) -> Result<StatusCode, Refused> {
    admit(&*identities, source, "log", |state| state.session().is_some())?;
    identities.log(source.0, &lines).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn member_key<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    Json(MemberKey { key }): Json<MemberKey>,
) -> Result<Json<MemberSettings>, Refused> {
    let tenant = admit(&*identities, source, "member's key", |state| {
        state.may_register(key)
    })?;
    identities.register(source.0, key).await?;
    tracing::info!(borrowing = %tenant.id, %key, "the member's key is registered");
    Ok(Json(member_settings(&tenant)))
}

/// What the installed system is to be.
fn member_settings(tenant: &Tenant) -> MemberSettings {
    let settings = &tenant.order.settings;
    MemberSettings {
        hostname: settings.hostname.clone(),
        tunnel: tenant.order.membership.network.tunnel(&settings.tunnel),
    }
}

async fn member_hello<I: Identities>(
    Shared(identities): Shared<Arc<I>>,
    Extension(source): Extension<Source>,
    Json(hello): Json<MemberHello>,
) -> Result<StatusCode, Refused> {
    let tenant = admit(&*identities, source, "member's hello", State::may_greet)?;
    identities.greet(source.0).await?;
    let agent: String = hello.agent_version.chars().take(64).collect();
    tracing::info!(borrowing = %tenant.id, ?agent, "the member is there");
    Ok(StatusCode::NO_CONTENT)
}
