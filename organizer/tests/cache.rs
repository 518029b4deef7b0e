//! The cache of packages in front of an upstream that counts, stalls and breaks off as the test says.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

#[path = "cache/apt.rs"]
mod apt;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leaseboot_po::borrowing::driver::Denied;
use leaseboot_po::borrowing::machine::State;
use leaseboot_po::borrowing::{BorrowingId, Order};
use leaseboot_po::cache::{self, Cache, Upstream};
use leaseboot_po::gateway::listener;
use leaseboot_po::gateway::service::{Identities, Tenant};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::network::WireguardPublicKey;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::{PATIENCE, key};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The package server: bodies by path, what it was asked, and a gate in the middle of each body while it is closed.
#[derive(Default)]
struct Packages {
    bodies: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    gate: Mutex<Option<Arc<Notify>>>,
    breaks_off: Mutex<bool>,
}

async fn upstream(Shared(packages): Shared<Arc<Packages>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let Some(body) = packages.bodies.lock().unwrap().get(&path).cloned() else {
        packages.asked.lock().unwrap().push(format!("404 {path}"));
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{}\"", Sha256::of(&body));
    let fits = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|asked| asked == etag.as_str());
    packages
        .asked
        .lock()
        .unwrap()
        .push(format!("{} {path}", if fits { 304 } else { 200 }));
    if fits {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let gate = packages.gate.lock().unwrap().clone();
    let breaks_off = *packages.breaks_off.lock().unwrap();
    let (first, second) = body.split_at(body.len() / 2);
    let (first, second, length) = (first.to_vec(), second.to_vec(), body.len());
    let pieces = futures_util::stream::unfold(0, move |step| {
        let (first, second, gate) = (first.clone(), second.clone(), gate.clone());
        async move {
            match step {
                0 => Some((Ok(first), 1)),
                1 => {
                    if let Some(gate) = gate {
                        gate.notified().await;
                    }
                    let piece = if breaks_off {
                        Err(std::io::Error::other("the upstream breaks off"))
                    } else {
                        Ok(second)
                    };
                    Some((piece, 2))
                }
                _ => None,
            }
        }
    });
    (
        [(header::ETAG, etag), (header::CONTENT_LENGTH, length.to_string())],
        Body::from_stream(pieces),
    )
        .into_response()
}

struct OneServer {
    order: Arc<Order>,
    state: Mutex<State>,
}

impl Identities for OneServer {
    fn tenant(&self, address: IpAddr) -> Option<Tenant> {
        (address == self.order.address()).then(|| Tenant {
            id: BorrowingId::from_text("b-1"),
            order: Arc::clone(&self.order),
            state: self.state.lock().unwrap().clone(),
        })
    }

    async fn unseal(&self, _: IpAddr) -> Result<(), Denied> {
        Err(Denied::NotNow)
    }

    async fn gather(&self, _: IpAddr) -> Result<(), Denied> {
        Err(Denied::NotNow)
    }

    async fn register(&self, _: IpAddr, _: WireguardPublicKey) -> Result<(), Denied> {
        Err(Denied::NotNow)
    }

    async fn greet(&self, _: IpAddr) -> Result<(), Denied> {
        Err(Denied::NotNow)
    }
}

fn order() -> Order {
    let blob = json!({ "path": "/x", "size": 1, "sha256": "0".repeat(64) });
    serde_json::from_value(json!({
        "request_id": "r", "requirements": {}, "kernel": "vmlinuz", "initrd": "initrd.img", "sealed": {},
        "settings": {
            "profile": "web", "hostname": "web-1", "kickstart": "", "kickstart_origin": "", "sealed": [],
            "tunnel": {
                "address": "127.0.0.10/24", "gateway_endpoint": "198.51.100.2:51820", "gateway_public_key": key(0),
                "allowed_ips": [], "gateway_service": "127.0.0.1:80", "mtu": 1420, "keepalive_s": 15
            },
            "image": { "kernel": blob, "initrd": blob, "command_line": "" }, "min_memory_mib": 512
        }
    }))
    .unwrap()
}

fn transferring(stage: &str) -> State {
    let boot = json!({ "lease": "l-1", "server": "s-1", "kickstart_sha256": "0".repeat(64) });
    serde_json::from_value(json!({ "state": "transferring", "boot": boot, "stage": stage, "agent": key(1) }))
        .unwrap()
}

struct Site {
    packages: Arc<Packages>,
    identities: Arc<OneServer>,
    upstream: SocketAddr,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    async fn new(bodies: &[(&str, &[u8])]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let packages = Arc::new(Packages::default());
        for (path, body) in bodies {
            packages
                .bodies
                .lock()
                .unwrap()
                .insert(format!("/debian/{path}"), body.to_vec());
        }
        let socket = listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let upstream_at = socket.local_addr().unwrap();
        let router = Router::new().fallback(upstream).with_state(Arc::clone(&packages));
        let stop = CancellationToken::new();
        tokio::spawn(listener::run(socket, router, stop.clone()));
        let identities = Arc::new(OneServer {
            order: Arc::new(order()),
            state: Mutex::new(transferring("installing")),
        });
        Self {
            packages,
            identities,
            upstream: upstream_at,
            folder: tempfile::tempdir().unwrap(),
            stop,
        }
    }

    /// The cache, as a daemon that starts now has it, and a server's client.
    fn open(&self, max_bytes: u64) -> Client {
        let upstream = Upstream {
            name: "debian".to_owned(),
            url: format!("http://{}/debian", self.upstream),
            max_bytes,
            ca: None,
        };
        self.open_as(upstream)
    }

    fn open_as(&self, upstream: Upstream) -> Client {
        let cache = Arc::new(Cache::open(self.folder.path(), &[upstream]).unwrap());
        let socket = listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let url = format!("http://{}/cache", socket.local_addr().unwrap());
        tokio::spawn(listener::run(
            socket,
            cache::router(Arc::clone(&self.identities), cache),
            self.stop.clone(),
        ));
        let builder = reqwest::Client::builder().local_address("127.0.0.10".parse::<IpAddr>().unwrap());
        Client {
            client: builder.no_proxy().tls_certs_only([]).build().unwrap(),
            url,
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.packages.asked.lock().unwrap())
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.packages
            .bodies
            .lock()
            .unwrap()
            .insert(format!("/debian/{path}"), body.to_vec());
    }

    /// Waits until the cache's folder has that many files.
    async fn files(&self, number: usize) {
        let count = || {
            std::fs::read_dir(self.folder.path().join("debian"))
                .unwrap()
                .count()
        };
        let done = async {
            while count() != number {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, done).await;
        assert!(waited.is_ok(), "there are {} files", count());
    }
}

#[derive(Clone)]
struct Client {
    client: reqwest::Client,
    url: String,
}

impl Client {
    async fn open(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}/{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Option<Vec<u8>>) {
        let response = self.open(path).await;
        (
            response.status().as_u16(),
            response.bytes().await.ok().map(|bytes| bytes.to_vec()),
        )
    }
}

const DEB: &str = "pool/main/n/nginx/nginx_1%3a1.22.1-9+deb12u1_amd64.deb";
const RELEASE: &str = "dists/bookworm/InRelease";
const ROOM: u64 = 1 << 20;

fn package(path: &str) -> String {
    format!("debian/{path}")
}

#[tokio::test]
async fn a_package_is_asked_for_once_also_by_the_next_process() {
    let site = Site::new(&[(DEB, b"0123456789")]).await;
    let client = site.open(ROOM);
    assert_eq!(
        client.get(&package(DEB)).await,
        (200, Some(b"0123456789".to_vec()))
    );
    assert_eq!(
        client.get(&package(DEB)).await,
        (200, Some(b"0123456789".to_vec()))
    );
    assert_eq!(site.asked(), [format!("200 /debian/{DEB}")]);
    let client = site.open(ROOM);
    let ranged = client
        .client
        .get(format!("{}/{}", client.url, package(DEB)))
        .header("range", "bytes=7-");
    let ranged = ranged.send().await.unwrap();
    assert_eq!(
        (ranged.status().as_u16(), ranged.text().await.unwrap().as_str()),
        (206, "789")
    );
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn what_may_change_is_asked_about_each_time() {
    let site = Site::new(&[(RELEASE, b"old")]).await;
    let client = site.open(ROOM);
    for body in [&b"old"[..], b"old", b"another", b"another"] {
        site.put(RELEASE, body);
        assert_eq!(client.get(&package(RELEASE)).await, (200, Some(body.to_vec())));
    }
    let statuses: Vec<_> = site.asked().iter().map(|line| line[..3].to_owned()).collect();
    assert_eq!(statuses, ["200", "304", "200", "304"]);
    site.files(2).await;
    assert_eq!(client.get("debian/dists/none").await.0, 404);
    assert_eq!(client.get("other/dists/none").await.0, 404);
}

#[tokio::test]
async fn readers_at_once_share_a_fetch_and_read_before_its_end() {
    let site = Site::new(&[(DEB, &[7; 100_000])]).await;
    let gate = Arc::new(Notify::new());
    *site.packages.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let client = site.open(ROOM);
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(client.open(&package(DEB)).await);
    }
    for reader in &mut readers {
        // The upstream stands still in the middle; what came is there.
        assert_eq!(reader.content_length(), Some(100_000));
        assert!(!reader.chunk().await.unwrap().unwrap().is_empty());
    }
    drop(readers.pop());
    gate.notify_one();
    for mut reader in readers {
        let mut length = 0;
        while let Some(piece) = reader.chunk().await.unwrap() {
            length += piece.len();
        }
        assert!(length >= 50_000, "the rest: {length}");
    }
    assert_eq!(site.asked().len(), 1);
    assert_eq!(client.get(&package(DEB)).await.1.unwrap().len(), 100_000);
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn nobody_gets_half_a_file_for_a_whole_one() {
    let digest = Sha256::of(b"something else");
    let by_hash = format!("dists/x/by-hash/SHA256/{digest}");
    let site = Site::new(&[(DEB, &[7; 100_000]), (&by_hash, b"not that")]).await;
    let client = site.open(ROOM);
    let gate = Arc::new(Notify::new());
    *site.packages.gate.lock().unwrap() = Some(Arc::clone(&gate));
    *site.packages.breaks_off.lock().unwrap() = true;
    let answer = client.open(&package(DEB)).await;
    assert_eq!(answer.status(), 200);
    gate.notify_one();
    assert!(answer.bytes().await.is_err(), "an answer that was cut");
    site.files(0).await;
    *site.packages.breaks_off.lock().unwrap() = false;
    gate.notify_one();
    assert_eq!(client.get(&package(DEB)).await.1.unwrap().len(), 100_000);
    let answer = client.open(&package(&by_hash)).await;
    gate.notify_one();
    assert!(answer.bytes().await.is_err(), "another digest than its name says");
    site.files(2).await;
}

#[tokio::test]
async fn the_bound_holds_and_the_longest_unused_goes() {
    let [a, b, c, big] = ["pool/a.deb", "pool/b.deb", "pool/c.deb", "pool/big.deb"];
    let site = Site::new(&[(a, &[1; 400]), (b, &[2; 400]), (c, &[3; 400]), (big, &[4; 2000])]).await;
    let client = site.open(1000);
    for path in [a, b, a, c, big] {
        assert_eq!(client.get(&package(path)).await.0, 200, "{path}");
    }
    site.files(4).await;
    site.asked();
    // What is not kept is asked for twice: to learn its length, and then for each reader.
    for (path, asks) in [(a, 0), (c, 0), (big, 2), (b, 1)] {
        assert_eq!(client.get(&package(path)).await.0, 200);
        assert_eq!(site.asked().len(), asks, "{path}");
    }
    site.files(4).await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_taken_away() {
    let site = Site::new(&[(DEB, b"0123456789"), ("pool/b.deb", b"b")]).await;
    let client = site.open(ROOM);
    client.get(&package(DEB)).await;
    client.get("debian/pool/b.deb").await;
    site.files(4).await;
    let folder = site.folder.path().join("debian");
    let ending = |path: &Path, ending: &str| path.extension().is_some_and(|found| found == ending);
    let paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    std::fs::write(folder.join("half.body"), "x").unwrap();
    // One body is shorter than its description says.
    let body = paths
        .iter()
        .find(|path| ending(path, "body") && std::fs::metadata(path).unwrap().len() == 10)
        .unwrap();
    std::fs::write(body, "012").unwrap();
    site.asked();
    let client = site.open(ROOM);
    site.files(2).await;
    assert_eq!(
        client.get(&package(DEB)).await,
        (200, Some(b"0123456789".to_vec()))
    );
    assert_eq!(site.asked().len(), 1);
}

#[tokio::test]
async fn only_what_runs_our_software_gets_packages() {
    let site = Site::new(&[(DEB, b"0123456789")]).await;
    let client = site.open(ROOM);
    for (stage, status) in [
        ("booting", 403),
        ("stage1", 403),
        ("tunnel-up", 403),
        ("chained", 200),
        ("installing", 200),
    ] {
        *site.identities.state.lock().unwrap() = transferring(stage);
        assert_eq!(client.get(&package(DEB)).await.0, status, "{stage}");
    }
    let stranger = reqwest::Client::builder().local_address("127.0.0.11".parse::<IpAddr>().unwrap());
    let stranger = stranger.no_proxy().tls_certs_only([]).build().unwrap();
    let answer = stranger
        .get(format!("{}/{}", client.url, package(DEB)))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
}

/// Takes TLS off connections in front of an upstream that speaks none; gives its port and its CA.
async fn behind_tls(upstream: SocketAddr) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
        )
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                // Who does not trust us goes away.
                let Ok(mut client) = tls.accept(stream).await else {
                    return;
                };
                let mut behind = TcpStream::connect(upstream).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn an_upstream_by_tls_is_who_its_ca_says() {
    let site = Site::new(&[(DEB, b"package")]).await;
    let (port, pem) = behind_tls(site.upstream).await;
    let (_, strangers) = behind_tls(site.upstream).await;
    let client = |name: &str, pem: &str| {
        let ca = site.folder.path().join(format!("{name}.pem"));
        std::fs::write(&ca, pem).unwrap();
        site.open_as(Upstream {
            name: name.to_owned(),
            url: format!("https://localhost:{port}/debian"),
            max_bytes: ROOM,
            ca: Some(ca),
        })
    };
    let path = |name: &str| format!("{name}/{DEB}");
    assert_eq!(client("strange", &strangers).get(&path("strange")).await.0, 502);
    assert_eq!(site.asked(), [""; 0], "nothing is asked of who is somebody else");
    let (status, body) = client("known", &pem).get(&path("known")).await;
    assert_eq!((status, body.as_deref()), (200, Some(&b"package"[..])));
}
