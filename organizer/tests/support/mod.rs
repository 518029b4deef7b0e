//! A small enterprise on the loopback interface: a scripted LM behind real TLS, peers that are only remembered, and a folder with one
//! profile. The tunnel's network is 127.0.0.0/24, so a client that binds 127.0.0.10 is the first server, as WireGuard would say.
#![allow(dead_code, unreachable_pub, clippy::result_large_err)]

pub mod bind;
pub mod debian;
pub mod flow;
pub mod killable;
pub mod lender;
pub mod program;

use leaseboot_po::announce::Announcer;
use leaseboot_po::borrowing::BorrowingId;
use leaseboot_po::borrowing::choice::Lenders;
use leaseboot_po::borrowing::driver::Surroundings;
use leaseboot_po::borrowing::machine::Peer;
use leaseboot_po::config::{AnnounceConfig, GatewayConfig, LenderConfig, PoConfig};
use leaseboot_po::gateway::{KeyClaims, Peers, listener, service};
use leaseboot_po::lender::Lender;
use leaseboot_po::organizer::Organizer;
use leaseboot_po::progress::Note;
use leaseboot_po::store::Store;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_tunnel::TunnelError;
use lender::ScriptedLender;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const KICKSTART: &str = "lang C.UTF-8\nrootpw --iscrypted @sealed:root@\n%packages\nnginx\n%end\n";
pub const PO_TOML: &str = "[gateway]\nendpoint = \"198.51.100.2:51820\"\ntunnel = \"127.0.0.1/24\"\n\
    [lender]\nurl = \"https://127.0.0.1\"\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
pub const SECRET: &str = "$6$salt$not-for-the-lender";
pub const GATEWAY_KEY: WireguardPublicKey = WireguardPublicKey([0; 32]);

pub fn is_over(note: &Note) -> bool {
    matches!(note, Note::Over { .. })
}

pub fn key(n: u8) -> WireguardPublicKey {
    WireguardPublicKey([n; 32])
}

/// Peers that are remembered, and shake hands when the test says so.
#[derive(Clone)]
pub struct FakePeers {
    changes: watch::Sender<()>,
    peers: Arc<Mutex<BTreeMap<WireguardPublicKey, Option<IpAddr>>>>,
    shaken: Arc<Mutex<BTreeSet<WireguardPublicKey>>>,
}

impl Default for FakePeers {
    fn default() -> Self {
        Self {
            changes: watch::channel(()).0,
            peers: Arc::default(),
            shaken: Arc::default(),
        }
    }
}

impl FakePeers {
    pub fn all(&self) -> Vec<(WireguardPublicKey, Option<IpAddr>)> {
        self.peers
            .lock()
            .unwrap()
            .iter()
            .map(|(key, address)| (*key, *address))
            .collect()
    }

    /// Waits until the peers are these.
    pub async fn become_these(&self, expected: &[(WireguardPublicKey, Option<IpAddr>)]) {
        let mut changes = self.changes.subscribe();
        let done = changes.wait_for(|()| self.all() == expected);
        let waited = tokio::time::timeout(PATIENCE, done).await;
        assert!(
            waited.is_ok(),
            "the peers are {:?} and not {expected:?}",
            self.all()
        );
    }

    pub fn shake(&self, key: WireguardPublicKey) {
        self.shaken.lock().unwrap().insert(key);
    }
}

impl Peers for FakePeers {
    async fn let_in(&self, peer: Peer, address: IpAddr) -> Result<(), TunnelError> {
        let mut peers = self.peers.lock().unwrap();
        if peer.has_address {
            peers
                .values_mut()
                .filter(|held| **held == Some(address))
                .for_each(|held| *held = None);
        }
        peers.insert(peer.key, peer.has_address.then_some(address));
        drop(peers);
        self.changes.send_replace(());
        Ok(())
    }

    fn drop_out(&self, key: &WireguardPublicKey) {
        self.peers.lock().unwrap().remove(key);
        self.changes.send_replace(());
    }

    fn has_shaken_hands(&self, key: &WireguardPublicKey) -> bool {
        self.peers.lock().unwrap().contains_key(key) && self.shaken.lock().unwrap().contains(key)
    }
}

/// A PO with its LM.
pub struct Enterprise {
    pub folder: tempfile::TempDir,
    pub lender: ScriptedLender,
    /// Another lender; `north` is the first one's name then, and `south` this one's.
    pub second: Option<ScriptedLender>,
    pub peers: FakePeers,
    pub announce: AnnounceConfig,
}

/// A PO that runs.
pub struct Running {
    pub organizer: Arc<Organizer<FakePeers>>,
    pub service: SocketAddr,
    inside: JoinHandle<()>,
    stop: CancellationToken,
}

impl Enterprise {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let lender = ScriptedLender::start(&folder.path().join("lender")).await;
        write_profile(folder.path());
        Self {
            folder,
            lender,
            second: None,
            peers: FakePeers::default(),
            announce: AnnounceConfig::default(),
        }
    }

    /// One with two lenders.
    pub async fn with_two_lenders() -> Self {
        let mut enterprise = Self::new().await;
        enterprise.second = Some(ScriptedLender::start(&enterprise.folder.path().join("second")).await);
        enterprise
    }

    /// The second lender.
    pub fn second(&self) -> &ScriptedLender {
        self.second.as_ref().unwrap()
    }

    /// Adds lines to the profile.
    pub fn edit_profile(&self, lines: &str) {
        let path = self.folder.path().join("profiles/web/profile.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, lines.to_owned() + &text).unwrap();
    }

    pub async fn serve(&self) -> Running {
        self.serve_with(self.peers.clone()).await
    }

    pub async fn serve_with(&self, peers: FakePeers) -> Running {
        let folder = self.folder.path();
        let stop = CancellationToken::new();
        let surroundings = Surroundings {
            store: Store::open(&folder.join("po.sqlite")).await.unwrap(),
            lenders: Lenders::new(self.lenders()),
            peers,
            claims: KeyClaims::new(GATEWAY_KEY),
            passage: leaseboot_po::passage::Passage::unguarded(),
            announcer: Announcer::new(folder.join("hosts"), self.announce.clone()),
        };
        let organizer = Organizer::start(
            folder.to_owned(),
            self.gateway(),
            GATEWAY_KEY,
            surroundings,
            stop.clone(),
        )
        .await
        .unwrap();
        let socket = listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let service = socket.local_addr().unwrap();
        let inside = tokio::spawn(listener::run(
            socket,
            service::router(Arc::clone(&organizer)),
            stop.clone(),
        ));
        Running {
            organizer,
            service,
            inside,
            stop,
        }
    }

    fn gateway(&self) -> GatewayConfig {
        PoConfig::check(Path::new("po.toml"), PO_TOML).unwrap().gateway
    }

    /// Those of the second lender, too, once there is one.
    fn lenders(&self) -> Vec<(String, Lender)> {
        let first = [("north", &self.lender)];
        let all = first
            .into_iter()
            .chain(self.second.iter().map(|second| ("south", second)));
        let client = |(name, lender): (&str, &ScriptedLender)| {
            let folder = if name == "north" { "lender" } else { "second" };
            let config = self.lender_config(name, folder, lender);
            (name.to_owned(), Lender::new(&config).unwrap())
        };
        all.map(client).collect()
    }

    fn lender_config(&self, name: &str, folder: &str, lender: &ScriptedLender) -> LenderConfig {
        let bundle = self.folder.path().join(folder);
        LenderConfig {
            name: name.to_owned(),
            url: lender.url.clone(),
            ca: bundle.join("lm-ca.pem"),
            certificate: bundle.join("client.pem"),
            key: bundle.join("client.key"),
            erasure_key: bundle.join("erasure.pub"),
        }
    }

    /// Waits until the hosts fragment has a line, or has not.
    pub async fn hosts(&self, line: &str, there: bool) {
        let path = self.folder.path().join("hosts");
        until_file(&path, |text| text.lines().any(|written| written == line) == there).await;
    }
}

impl Running {
    /// A client inside the tunnel with the server's address.
    pub fn server(&self, address: &str) -> Server {
        Server::at(address, self.service)
    }

    /// Waits until a note of the borrowing fits; gives all notes up to it.
    pub async fn until(&self, id: &BorrowingId, fits: impl Fn(&Note) -> bool) -> Vec<Note> {
        let mut seen: Vec<Note> = Vec::new();
        let mut after = 0;
        let found = async {
            loop {
                for progress in self.organizer.next_progress(id, after).await.unwrap() {
                    after = progress.sequence;
                    seen.push(progress.note.clone());
                    if fits(&progress.note) {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(PATIENCE, found).await.is_err() {
            panic!(
                "no such note after {PATIENCE:?}; the last ones are {:#?}",
                &seen[seen.len().saturating_sub(4)..]
            );
        }
        seen
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.inside.await.unwrap();
        self.organizer.wait().await;
    }
}

/// What a server says inside the tunnel.
pub struct Server {
    client: reqwest::Client,
    url: String,
}

impl Server {
    /// With this address, asking the service there.
    pub fn at(address: &str, service: SocketAddr) -> Self {
        let client = reqwest::Client::builder()
            .local_address(address.parse::<IpAddr>().unwrap())
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        Server {
            client,
            url: format!("http://{service}"),
        }
    }

    async fn status(request: reqwest::RequestBuilder) -> Option<u16> {
        request.send().await.ok().map(|answer| answer.status().as_u16())
    }

    /// What it is answered, when somebody answers.
    pub async fn asks(&self, path: &str) -> Option<u16> {
        Self::status(self.client.get(format!("{}{path}", self.url))).await
    }

    pub async fn registers(&self, key: WireguardPublicKey) -> Option<u16> {
        let request = self.client.put(format!("{}/v1/member/key", self.url));
        Self::status(request.json(&serde_json::json!({ "key": key }))).await
    }

    pub async fn greets(&self) -> Option<u16> {
        let request = self.client.post(format!("{}/v1/member/hello", self.url));
        Self::status(request.json(&serde_json::json!({ "boot_id": "b", "agent_version": "1" }))).await
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub async fn get_from(&self, path: &str, offset: u64) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request
            .header("range", format!("bytes={offset}-"))
            .send()
            .await
            .unwrap()
    }

    pub async fn register(&self, key: WireguardPublicKey) -> reqwest::Response {
        let body = serde_json::json!({ "key": key });
        let request = self.client.put(format!("{}/v1/member/key", self.url));
        request.json(&body).send().await.unwrap()
    }

    /// Greets until the gateway listens: the address moves a moment after the handshake.
    pub async fn joins(&self) {
        let greeted = async { while self.hello().await.status() != 204 {} };
        let waited = tokio::time::timeout(PATIENCE, greeted).await;
        assert!(waited.is_ok(), "the gateway does not listen to the member");
    }

    pub async fn hello(&self) -> reqwest::Response {
        let body = serde_json::json!({ "boot_id": "b", "agent_version": "1" });
        let request = self.client.post(format!("{}/v1/member/hello", self.url));
        request.json(&body).send().await.unwrap()
    }
}

/// Waits until a file is as it should be.
pub async fn until_file(path: &Path, as_it_should: impl Fn(&str) -> bool) {
    let text = || fs::read_to_string(path).unwrap_or_default();
    let waiting = async {
        while !as_it_should(&text()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(
        waited.is_ok(),
        "{} is not as it should be:\n{}",
        path.display(),
        text()
    );
}

fn write_profile(folder: &Path) {
    let (profile, image) = (folder.join("profiles/web"), folder.join("images/debian"));
    fs::create_dir_all(&profile).unwrap();
    fs::create_dir_all(&image).unwrap();
    fs::write(
        profile.join("profile.toml"),
        "image = \"debian\"\nkickstart = \"web.ks\"\nhostname = \"web-{n}\"\n[sealed]\nroot = \"root.sealed\"\n",
    )
    .unwrap();
    fs::write(profile.join("web.ks"), KICKSTART).unwrap();
    fs::write(profile.join("root.sealed"), SECRET).unwrap();
    fs::set_permissions(profile.join("root.sealed"), Permissions::from_mode(0o600)).unwrap();
    fs::write(
        image.join("image.toml"),
        "command_line = \"quiet\"\nmin_memory_mib = 512\n",
    )
    .unwrap();
    fs::write(image.join("vmlinuz"), b"kernel bytes").unwrap();
    fs::write(image.join("initrd.img"), b"initrd bytes").unwrap();
}
