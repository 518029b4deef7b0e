//! An LM that does what the test says: real HTTP over mutual TLS, one lease at a time, events on command.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, LeaseView};
use leaseboot_protocol::leases::{
    BootOrder, EventBatch, LeaseRequest, Offer, Prepared, Refusal, RenewRequest, SearchAnswer,
};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::timestamp::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

type Merge = fn(&str) -> String;

/// What the LM knows and does.
struct Script {
    leases: BTreeMap<String, Vec<LeaseEvent>>,
    /// Lease by request identifier.
    requests: HashMap<String, String>,
    orders: Vec<String>,
    merge: Merge,
    refuse: Option<Refusal>,
    /// Answers with 503 that often.
    ailing: u32,
    /// What a search finds.
    found: SearchAnswer,
    /// Answers with 503 to what begins so.
    stalled: Option<String>,
    /// The disk of a returned server refuses to be erased.
    worn_out: bool,
    clock: u64,
    /// Address inside the tunnel by lease, as the settings say.
    addresses: HashMap<String, String>,
}

struct Shared {
    script: Mutex<Script>,
    changes: watch::Sender<u64>,
}

/// The LM.
pub struct ScriptedLender {
    pub url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for ScriptedLender {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl ScriptedLender {
    /// Starts it and leaves a client's bundle in `bundle`.
    pub async fn start(bundle: &std::path::Path) -> Self {
        let tls = certificates(bundle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Script {
                leases: BTreeMap::new(),
                requests: HashMap::new(),
                orders: Vec::new(),
                merge: |ours| format!("zerombr\n{ours}"),
                refuse: None,
                ailing: 0,
                found: one_server(0, 4),
                stalled: None,
                worn_out: false,
                clock: 1_000_000,
                addresses: HashMap::new(),
            }),
            changes: watch::channel(0).0,
        });
        let server = tokio::spawn(serve(listener, tls, router(Arc::clone(&shared))));
        Self {
            url: format!("https://{address}"),
            shared,
            server,
        }
    }

    /// Merges like this from now on.
    pub fn merge(&self, merge: Merge) {
        self.shared.script.lock().unwrap().merge = merge;
    }

    /// Refuses the next request for a lease.
    pub fn refuse(&self, refusal: Refusal) {
        self.shared.script.lock().unwrap().refuse = Some(refusal);
    }

    /// A search finds this from now on.
    pub fn finds(&self, found: SearchAnswer) {
        self.shared.script.lock().unwrap().found = found;
    }

    /// Fails that often.
    pub fn ail(&self, times: u32) {
        self.shared.script.lock().unwrap().ailing = times;
    }

    /// Answers with 503 to whatever begins so, until it is told otherwise.
    pub fn stall(&self, order: Option<&str>) {
        self.shared.script.lock().unwrap().stalled = order.map(str::to_owned);
    }

    /// How many leases were ever granted.
    pub fn granted(&self) -> usize {
        self.shared.script.lock().unwrap().leases.len()
    }

    /// The disks of returned servers refuse to be erased from now on.
    pub fn wear_out(&self) {
        self.shared.script.lock().unwrap().worn_out = true;
    }

    /// The address inside the tunnel that the lease's server was promised.
    pub fn address_of(&self, lease: &str) -> String {
        self.shared.script.lock().unwrap().addresses[lease].clone()
    }

    /// What was asked so far, without the long polls.
    pub fn orders(&self) -> Vec<String> {
        self.shared.script.lock().unwrap().orders.clone()
    }

    /// Waits until something was asked.
    pub async fn ordered(&self, order: &str) {
        self.ordered_so(|orders| orders.iter().any(|seen| seen == order))
            .await;
    }

    /// Waits until what was asked is as it should be.
    pub async fn ordered_so(&self, as_it_should: impl Fn(&[String]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let asked = changes.wait_for(|_| as_it_should(&self.orders()));
        let waited = tokio::time::timeout(Duration::from_secs(20), asked).await;
        assert!(waited.is_ok(), "what was awaited is not in {:?}", self.orders());
    }

    /// The lease goes into a state.
    pub fn moves(&self, lease: &str, state: LeaseState) {
        self.happens(lease, state, because());
    }

    /// The agent tells its key.
    pub fn agent_key(&self, lease: &str, key: WireguardPublicKey) {
        self.happens(lease, LeaseState::Stage1, EventKind::AgentKey { key });
    }

    /// Something happens.
    pub fn happens(&self, lease: &str, state: LeaseState, what: EventKind) {
        self.shared.happens(lease, state, what);
    }
}

/// What a search finds where there is one server.
pub fn one_server(weight: i64, cores: u32) -> SearchAnswer {
    let offer = Offer {
        servers: 1,
        weight,
        cores,
        ..Offer::default()
    };
    SearchAnswer {
        servers: 1,
        offers: vec![offer],
        ..SearchAnswer::default()
    }
}

fn because() -> EventKind {
    let reason = "because the script says so".to_owned();
    EventKind::Transition { reason }
}

impl Shared {
    fn happens(&self, lease: &str, state: LeaseState, what: EventKind) {
        {
            let mut script = self.script.lock().unwrap();
            script.clock += 1000;
            let at = Timestamp(script.clock);
            let events = script.leases.get_mut(lease).expect("the lease is known");
            let sequence = events.len() as u64 + 1;
            events.push(LeaseEvent {
                sequence,
                at,
                state,
                what,
            });
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, router) = (tls.clone(), router.clone());
        connections.spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let service = TowerToHyperService::new(router);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/leases", post(request).get(leases))
        .route("/v1/openapi.json", get(description))
        .route("/v1/search", post(search))
        .route("/v1/leases/{id}", delete(give_back))
        .route("/v1/leases/{id}/settings", put(settings))
        .route("/v1/leases/{id}/boot", post(boot))
        .route("/v1/leases/{id}/events", get(events))
        .route("/v1/leases/{id}/erasure", get(erasure))
        .route("/v1/leases/{id}/renew", post(renew))
        .route("/v1/leases/{id}/{word}", post(word))
        .with_state(shared)
}

fn refused(status: StatusCode, refusal: &Refusal) -> Response {
    (status, Json(refusal)).into_response()
}

impl Shared {
    /// Writes an order down; an answer instead when the LM ails.
    fn heard(&self, order: String) -> Result<(), Response> {
        let ails = {
            let mut script = self.script.lock().unwrap();
            let stalls = script
                .stalled
                .as_deref()
                .is_some_and(|stalled| order.starts_with(stalled));
            let ails = stalls || script.ailing > 0;
            script.ailing = script.ailing.saturating_sub(1);
            if !ails {
                script.orders.push(order);
            }
            ails
        };
        self.changes.send_modify(|count| *count += 1);
        let incident = "7".to_owned();
        match ails {
            true => Err(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                &Refusal::Internal { incident },
            )),
            false => Ok(()),
        }
    }
}

fn view(id: &str) -> LeaseView {
    serde_json::from_value(serde_json::json!({
        "id": id, "tenant": "acme", "server": "rack-1", "state": "leased", "since": 0, "reason": "", "attempt": 1,
        "agent_key": null, "hardware": { "cpu": { "cores": 4 }, "memory_bytes": 2_147_483_648u64 }
    }))
    .unwrap()
}

type Answer = Result<Response, Response>;

/// A lender that ails still finds: what is lost is the answer to a request that matters.
async fn search(State(shared): State<Arc<Shared>>) -> Json<SearchAnswer> {
    let mut script = shared.script.lock().unwrap();
    script.orders.push("search".to_owned());
    Json(script.found.clone())
}

async fn request(State(shared): State<Arc<Shared>>, Json(request): Json<LeaseRequest>) -> Answer {
    shared.heard("request".to_owned())?;
    let mut script = shared.script.lock().unwrap();
    if let Some(refusal) = script.refuse.take() {
        return Err(refused(StatusCode::CONFLICT, &refusal));
    }
    let fresh = format!("l-{}", script.requests.len() + 1);
    let id = script.requests.entry(request.request_id).or_insert(fresh).clone();
    script.leases.entry(id.clone()).or_default();
    Ok((StatusCode::CREATED, Json(view(&id))).into_response())
}

async fn leases() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "leases": [] }))
}

async fn description() -> Json<serde_json::Value> {
    Json(
        serde_json::json!({ "openapi": "3.1.0", "info": { "title": "script", "version": env!("CARGO_PKG_VERSION") } }),
    )
}

async fn settings(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(settings): Json<InstallSettings>,
) -> Answer {
    shared.heard(format!("settings {id} {}", settings.hostname))?;
    assert!(
        !serde_json::to_string(&settings).unwrap().contains(super::SECRET),
        "the lender sees no secret"
    );
    let merge = {
        let mut script = shared.script.lock().unwrap();
        let address = settings.tunnel.address.addr().to_string();
        script.addresses.insert(id.clone(), address);
        script.merge
    };
    let kickstart = merge(&settings.kickstart);
    let kickstart_sha256 = Sha256::of(kickstart.as_bytes());
    Ok(Json(Prepared {
        kickstart,
        kickstart_sha256,
    })
    .into_response())
}

async fn boot(State(shared): State<Arc<Shared>>, Path(id): Path<String>, Json(_): Json<BootOrder>) -> Answer {
    shared.heard(format!("boot {id}"))?;
    Ok((StatusCode::ACCEPTED, Json(view(&id))).into_response())
}

async fn word(State(shared): State<Arc<Shared>>, Path((id, word)): Path<(String, String)>) -> Answer {
    shared.heard(format!("{word} {id}"))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn give_back(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    shared.heard(format!("delete {id}"))?;
    shared.happens(&id, LeaseState::Ended, because());
    Ok((StatusCode::ACCEPTED, Json(view(&id))).into_response())
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(request): Json<RenewRequest>,
) -> Answer {
    shared.heard(format!("renew {id} {:?}", request.term_s))?;
    let expires =
        Timestamp(Timestamp::from(std::time::SystemTime::now()).0 + request.term_s.unwrap_or(1) * 1000);
    shared.happens(&id, LeaseState::InService, EventKind::Renewed { expires });
    let view = LeaseView {
        expires: Some(expires),
        ..view(&id)
    };
    Ok(Json(view).into_response())
}

/// A record of one disk, signed with the key whose public half is in the bundle.
async fn erasure(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    shared.heard(format!("erasure {id}"))?;
    let mut disk = match shared.script.lock().unwrap().worn_out {
        false => {
            serde_json::json!({ "outcome": "erased", "method": "discard", "checked_bytes": 1, "took_ms": 1 })
        }
        true => serde_json::json!({ "outcome": "failed", "errors": ["it refused"] }),
    };
    disk["name"] = "sda".into();
    disk["serial"] = "S1".into();
    disk["model"] = "M".into();
    disk["size_bytes"] = 1.into();
    let record = serde_json::json!({
        "lease": id, "tenant": "acme", "server": "rack-1", "at": 5,
        "report": { "boot_entries_removed": [], "boot_entries_error": null, "disks": [disk] }
    });
    let record = record.to_string();
    let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    Ok(Json(SignedErasure {
        signature: STANDARD.encode(signer.sign(record.as_bytes())),
        public_key: STANDARD.encode(signer.public_key()),
        record,
    })
    .into_response())
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, u64>>,
) -> Answer {
    let after = query["after"];
    let next = || {
        let script = shared.script.lock().unwrap();
        let events = script.leases.get(&id)?;
        Some(
            events
                .iter()
                .filter(|event| event.sequence > after)
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    let mut changes = shared.changes.subscribe();
    let changed = changes.wait_for(|_| next().is_none_or(|events| !events.is_empty()));
    let _ = tokio::time::timeout(Duration::from_secs(query["wait_s"]), changed).await;
    match next() {
        None => {
            let message = format!("there is no lease {id}");
            Err(refused(StatusCode::NOT_FOUND, &Refusal::NotFound { message }))
        }
        Some(events) => {
            let lease = view(&id);
            Ok(Json(EventBatch { lease, events }).into_response())
        }
    }
}

/// A CA, the LM's certificate and the tenant's bundle.
fn certificates(bundle: &std::path::Path) -> TlsAcceptor {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = |names: Vec<String>, name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &ca).unwrap(), key)
    };
    let (server, server_key) = leaf(
        vec!["127.0.0.1".to_owned()],
        "lm",
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    let (client, client_key) = leaf(Vec::new(), "acme", ExtendedKeyUsagePurpose::ClientAuth);
    fs::create_dir_all(bundle).unwrap();
    let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    fs::write(
        bundle.join("erasure.pub"),
        STANDARD.encode(signer.public_key()) + "\n",
    )
    .unwrap();
    fs::write(bundle.join("lm-ca.pem"), ca.pem()).unwrap();
    fs::write(bundle.join("client.pem"), client.pem()).unwrap();
    fs::write(bundle.join("client.key"), client_key.serialize_pem()).unwrap();
    fs::set_permissions(bundle.join("client.key"), Permissions::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = server_key.serialize_der().try_into().unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The address of an LM that is not there.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
