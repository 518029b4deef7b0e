//! A PO in a process of its own, to be killed: the test binary once more, with everything of `leaseboot-po serve` but WireGuard. Its
//! peers are a file that a start empties, as a start makes a new device; who shook hands is another file, which the test writes.

use super::{Enterprise, GATEWAY_KEY, PATIENCE, Server, key};
use leaseboot_console::socket;
use leaseboot_po::announce::Announcer;
use leaseboot_po::borrowing::choice::Lenders;
use leaseboot_po::borrowing::driver::Surroundings;
use leaseboot_po::borrowing::machine::Peer;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::config::PoConfig;
use leaseboot_po::control::client::ControlClient;
use leaseboot_po::control::server;
use leaseboot_po::files;
use leaseboot_po::gateway::{KeyClaims, Peers, listener, service};
use leaseboot_po::lender::Lender;
use leaseboot_po::organizer::Organizer;
use leaseboot_po::policy;
use leaseboot_po::store::Store;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_tunnel::TunnelError;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "LEASEBOOT_TEST_PO";
const INSIDE: &str = "LEASEBOOT_TEST_PO_SERVICE";
const READY: &str = "the PO to be killed is ready";
const POLL: Duration = Duration::from_millis(5);

/// The part of the process that is killed. Returns at once in any other.
pub fn serve_if_asked() {
    let (Ok(folder), Ok(inside)) = (std::env::var(FOLDER), std::env::var(INSIDE)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(Path::new(&folder), inside.parse().unwrap()));
}

async fn serve(folder: &Path, inside: SocketAddr) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = PoConfig::load(&folder.join("po.toml")).unwrap();
    let control = socket::bind(config.control_socket()).await.unwrap();
    let lenders = config.lenders.iter();
    let lenders = lenders.map(|lender| (lender.name.clone(), Lender::new(lender).unwrap()));
    let surroundings = Surroundings {
        store: Store::open(&folder.join("po.sqlite")).await.unwrap(),
        lenders: Lenders::new(lenders.collect()),
        peers: FilePeers::new(folder),
        claims: KeyClaims::new(GATEWAY_KEY),
        passage: leaseboot_po::passage::Passage::unguarded(),
        announcer: Announcer::new(folder.join("hosts"), config.announce.clone()),
    };
    let stop = CancellationToken::new();
    let (organizer, stopped) = (folder.to_owned(), stop.clone());
    let gateway = config.gateway.clone();
    let organizer = Organizer::start(organizer, gateway, GATEWAY_KEY, surroundings, stopped)
        .await
        .unwrap();
    let desk = organizer.desk(&config);
    let socket = listener::bind(inside, None).unwrap();
    tokio::spawn(listener::run(
        socket,
        service::router(Arc::clone(&organizer)),
        stop.clone(),
    ));
    tokio::spawn(policy::driver::run(
        Arc::clone(&desk),
        Arc::clone(&organizer),
        stop.clone(),
    ));
    println!("{READY}");
    let further = policy::control::router(desk);
    server::run_with(control, organizer, further, stop).await.unwrap();
}

/// Peers in a file: a line for each, its number and its address.
struct FilePeers {
    file: PathBuf,
    shaken: PathBuf,
    peers: Mutex<BTreeMap<u8, Option<IpAddr>>>,
}

impl FilePeers {
    fn new(folder: &Path) -> Self {
        let peers = Self {
            file: folder.join("peers"),
            shaken: folder.join("shaken"),
            peers: Mutex::default(),
        };
        peers.change(|_| {});
        peers
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u8, Option<IpAddr>>)) {
        let mut peers = self.peers.lock().unwrap();
        change(&mut peers);
        let line = |(key, address): (&u8, &Option<IpAddr>)| match address {
            Some(address) => format!("{key} {address}\n"),
            None => format!("{key}\n"),
        };
        let text: String = peers.iter().map(line).collect();
        files::replace(&self.file, 0o600, text.as_bytes()).unwrap();
    }
}

impl Peers for FilePeers {
    async fn let_in(&self, peer: Peer, address: IpAddr) -> Result<(), TunnelError> {
        self.change(|peers| {
            if peer.has_address {
                let held = peers.values_mut().filter(|held| **held == Some(address));
                held.for_each(|held| *held = None);
            }
            peers.insert(peer.key.0[0], peer.has_address.then_some(address));
        });
        Ok(())
    }

    fn drop_out(&self, key: &WireguardPublicKey) {
        self.change(|peers| {
            peers.remove(&key.0[0]);
        });
    }

    fn has_shaken_hands(&self, key: &WireguardPublicKey) -> bool {
        let shaken = fs::read_to_string(&self.shaken).unwrap_or_default();
        let number = key.0[0];
        self.peers.lock().unwrap().contains_key(&number)
            && shaken.lines().any(|line| line == number.to_string())
    }
}

/// The PO that is killed, seen from outside. Dropping it kills it.
pub struct Killable {
    pub enterprise: Enterprise,
    service: SocketAddr,
    child: Mutex<Child>,
    kills: Mutex<u32>,
}

impl Killable {
    /// Starts it with more lines for `po.toml`.
    pub fn start(enterprise: Enterprise, lines: &str) -> Self {
        let folder = enterprise.folder.path();
        let toml = format!(
            "[gateway]\nendpoint = \"198.51.100.2:51820\"\ntunnel = \"127.0.0.1/24\"\n[lender]\nurl = \"{}\"\n\
             ca = \"lender/lm-ca.pem\"\ncertificate = \"lender/client.pem\"\nkey = \"lender/client.key\"\n{lines}",
            enterprise.lender.url
        );
        fs::write(folder.join("po.toml"), toml).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let service = free.local_addr().unwrap();
        drop(free);
        let child = Mutex::new(spawn(folder, service));
        Self {
            enterprise,
            service,
            child,
            kills: Mutex::new(0),
        }
    }

    /// Kills it with SIGKILL and starts it again from what it left.
    pub fn kill_and_start(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        *self.kills.lock().unwrap() += 1;
        *child = spawn(self.folder(), self.service);
    }

    pub fn kills(&self) -> u32 {
        *self.kills.lock().unwrap()
    }

    pub fn folder(&self) -> &Path {
        self.enterprise.folder.path()
    }

    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).unwrap_or_default()
    }

    pub fn client(&self) -> ControlClient {
        ControlClient::new(self.folder().join("po.sock"), &self.folder().join("po.toml")).unwrap()
    }

    /// The borrowings, when it answers.
    pub async fn list(&self) -> Option<Vec<BorrowingView>> {
        self.client().list().await.ok()
    }

    /// A server of the only borrowing, asking inside the tunnel.
    pub fn server(&self) -> Server {
        Server::at("127.0.0.10", self.service)
    }

    /// The member with key `n` shakes hands, now and after every restart.
    pub fn shake(&self, n: u8) {
        fs::write(self.folder().join("shaken"), format!("{}\n", key(n).0[0])).unwrap();
    }

    /// Waits until something is so, whoever is killed meanwhile.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !so().await {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let stands = self.list().await;
            panic!(
                "{what} did not come after {} kills; peers {:?}, orders {:?}, {stands:#?}\n{}",
                self.kills(),
                self.file("peers"),
                self.enterprise.lender.orders(),
                self.file("log")
            );
        }
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(folder: &Path, service: SocketAddr) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_po_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(INSIDE, service.to_string())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let ready = said
        .lines()
        .map_while(Result::ok)
        .any(|line| line.ends_with(READY));
    assert!(ready, "{}", fs::read_to_string(folder.join("log")).unwrap());
    child
}
