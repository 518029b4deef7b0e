//! The service inside the tunnel over loopback: every request in every state, and what is bounded.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_po::borrowing::driver::Denied;
use leaseboot_po::borrowing::machine::State;
use leaseboot_po::borrowing::{BorrowingId, Order};
use leaseboot_po::gateway::service::{Identities, Tenant};
use leaseboot_po::gateway::{listener, service};
use leaseboot_protocol::network::WireguardPublicKey;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::{SECRET, key};
use tokio_util::sync::CancellationToken;

const SERVER: &str = "127.0.0.10";

/// One borrowing, in the state that the test says.
struct OneServer {
    order: Arc<Order>,
    state: Mutex<State>,
    heard: Mutex<Vec<String>>,
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
        self.heard.lock().unwrap().push("unseal".to_owned());
        Ok(())
    }

    async fn gather(&self, _: IpAddr) -> Result<(), Denied> {
        self.heard.lock().unwrap().push("gather".to_owned());
        Ok(())
    }

    async fn register(&self, _: IpAddr, key: WireguardPublicKey) -> Result<(), Denied> {
        self.heard.lock().unwrap().push(format!("key {key}"));
        Ok(())
    }

    async fn greet(&self, _: IpAddr) -> Result<(), Denied> {
        self.heard.lock().unwrap().push("hello".to_owned());
        Err(Denied::Store)
    }
}

struct Service {
    identities: Arc<OneServer>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn order(folder: &Path) -> Order {
    let sha256 = "0".repeat(64);
    let blob = |path: &str| json!({ "path": path, "size": 10, "sha256": sha256 });
    let settings = json!({
        "profile": "web", "hostname": "web-1", "kickstart": "", "kickstart_origin": "", "sealed": ["root"],
        "tunnel": {
            "address": "127.0.0.10/24", "gateway_endpoint": "198.51.100.2:51820", "gateway_public_key": key(0),
            "allowed_ips": [], "gateway_service": "127.0.0.1:80", "mtu": 1420, "keepalive_s": 15
        },
        "image": { "kernel": blob("/v1/image/kernel"), "initrd": blob("/v1/image/initrd"), "command_line": "" },
        "min_memory_mib": 512
    });
    serde_json::from_value(json!({
        "request_id": "r", "requirements": {}, "settings": settings,
        "kernel": folder.join("vmlinuz"), "initrd": folder.join("initrd.img"),
        "sealed": { "root": folder.join("root.sealed") }
    }))
    .unwrap()
}

fn state(name: &str) -> State {
    let boot = json!({ "lease": "l-1", "server": "s-1", "kickstart_sha256": "0".repeat(64) });
    let transferring = |stage: &str, agent: Value| json!({ "state": "transferring", "boot": boot, "stage": stage, "agent": agent });
    let member = |state: &str| {
        json!({ "state": state, "boot": boot, "agent": key(1), "member": key(2),
                "owed": { "installed": false, "in_service": false } })
    };
    let json = match name {
        "searching" => json!({ "state": "searching" }),
        "booting" => transferring("booting", Value::Null),
        "installed" | "joining" | "in-service" => member(name),
        "returning" => json!({ "state": "returning", "lease": "l-1", "outcome": { "outcome": "released" } }),
        stage => transferring(stage, json!(key(1))),
    };
    serde_json::from_value(json).unwrap()
}

async fn serve() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
    };
    write("vmlinuz", "kernel----");
    write("initrd.img", "initrd----");
    write("root.sealed", SECRET);
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("root.sealed"), closed).unwrap();
    let identities = Arc::new(OneServer {
        order: Arc::new(order(folder.path())),
        state: Mutex::new(state("searching")),
        heard: Mutex::default(),
    });
    let socket = listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let router = service::router(Arc::clone(&identities));
    tokio::spawn(listener::run(socket, router, stop.clone()));
    Service {
        identities,
        address,
        folder,
        stop,
    }
}

fn client(address: &str) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = address.parse::<IpAddr>().unwrap();
    let builder = reqwest::Client::builder().local_address(address);
    builder.no_proxy().tls_certs_only([]).build().unwrap()
}

impl Service {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn is(&self, name: &str) {
        *self.identities.state.lock().unwrap() = state(name);
    }

    async fn statuses(&self, client: &reqwest::Client) -> [u16; 6] {
        let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
        [
            status(client.get(self.url("/v1/session"))).await,
            status(client.get(self.url("/v1/sealed"))).await,
            status(client.get(self.url("/v1/image/kernel"))).await,
            status(client.get(self.url("/v1/image/initrd"))).await,
            status(
                client
                    .put(self.url("/v1/member/key"))
                    .json(&json!({ "key": key(2) })),
            )
            .await,
            status(
                client
                    .post(self.url("/v1/member/hello"))
                    .json(&json!({ "boot_id": "b", "agent_version": "1" })),
            )
            .await,
        ]
    }
}

#[tokio::test]
async fn each_state_opens_what_it_needs_and_nothing_else() {
    let service = serve().await;
    let server = client(SERVER);
    for (state, expected) in [
        ("searching", [403, 403, 403, 403, 403, 403]),
        ("booting", [403, 403, 403, 403, 403, 403]),
        ("stage1", [200, 200, 200, 200, 403, 403]),
        ("tunnel-up", [200, 200, 200, 200, 403, 403]),
        ("chained", [200, 403, 403, 403, 200, 403]),
        ("installing", [200, 403, 403, 403, 200, 403]),
        ("installed", [200, 403, 403, 403, 200, 403]),
        // This store refuses to write the greeting down.
        ("joining", [403, 403, 403, 403, 403, 503]),
        ("in-service", [403, 403, 403, 403, 403, 503]),
        ("returning", [403, 403, 403, 403, 403, 403]),
    ] {
        service.is(state);
        assert_eq!(service.statuses(&server).await, expected, "{state}");
        assert_eq!(
            service.statuses(&client("127.0.0.11")).await,
            [403; 6],
            "a stranger while {state}"
        );
    }
    let heard = service.identities.heard.lock().unwrap().clone();
    let times = |word: &str| heard.iter().filter(|heard| **heard == word).count();
    assert_eq!((times("hello"), times("unseal"), times("gather")), (2, 2, 4));
    assert_eq!(heard.len(), 11);
}

#[tokio::test]
async fn images_come_from_the_asked_byte_on_and_from_nowhere_else() {
    let service = serve().await;
    service.is("tunnel-up");
    let server = client(SERVER);
    let get = async |path: &str, range: &str| {
        let request = server.get(service.url(path)).header("range", range);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(
        get("/v1/image/kernel", "bytes=6-").await,
        (206, "----".to_owned())
    );
    assert_eq!(
        get("/v1/image/initrd", "bytes=0-").await,
        (206, "initrd----".to_owned())
    );
    assert_eq!(get("/v1/image/initrd", "bytes=10-").await.0, 416);
    assert_eq!(get("/v1/image/../../etc/passwd", "bytes=0-").await.0, 404);
    std::fs::write(service.folder.path().join("initrd.img"), "tampered").unwrap();
    assert_eq!(
        get("/v1/image/initrd", "bytes=0-").await.1,
        "tampered",
        "the server checks what it gets"
    );
    std::fs::remove_file(service.folder.path().join("vmlinuz")).unwrap();
    let (status, words) = get("/v1/image/kernel", "bytes=0-").await;
    assert_eq!(status, 500);
    assert!(!words.contains("vmlinuz"), "the server learns no paths: {words}");
}

#[tokio::test]
async fn broken_and_endless_messages_are_refused() {
    let service = serve().await;
    service.is("installing");
    let server = client(SERVER);
    let put = async |body: String| {
        let request = server
            .put(service.url("/v1/member/key"))
            .header("content-type", "application/json");
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("{".to_owned()).await, 400);
    assert_eq!(put(r#"{"key":"AAAA"}"#.to_owned()).await, 422);
    assert_eq!(put(" ".repeat(5000)).await, 413);
    assert!(service.identities.heard.lock().unwrap().is_empty());
    assert_eq!(
        server
            .delete(service.url("/v1/session"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
}

#[tokio::test]
async fn a_sealed_value_that_others_may_read_goes_nowhere() {
    let service = serve().await;
    service.is("stage1");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(service.folder.path().join("root.sealed"), open).unwrap();
    let response = client(SERVER)
        .get(service.url("/v1/sealed"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 500);
    assert!(!response.text().await.unwrap().contains(SECRET));
}
