//! A Lease Manager on the loopback interface, with its real API over TLS, a power controller that writes its orders into a file, and
//! clients that speak as tenants and agents. Servers have addresses of 127.0.0.0/8, so that an agent can come from its own.
//!
//! Here is the house itself; who lives in it has a file each: its servers, its tenants, the agents on its servers.

// Each test binary uses its part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod agent;
mod servers;
mod tenant;

pub use agent::{Agent, erasure, failed, finished, hello, report};
pub use servers::{address, described, hardware, mac};
pub use tenant::{KICKSTART, Tenant, settings, settings_for};

use leaseboot_lm::api::{self, Api};
use leaseboot_lm::boot::{BootDirectory, BootPlan};
use leaseboot_lm::config::Config;
use leaseboot_lm::erasure::Signer;
use leaseboot_lm::lease::Driver;
use leaseboot_lm::pki;
use leaseboot_lm::store::{ServerRecord, Store};
use leaseboot_protocol::agent::{BootFacts, Welcome};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseState;
use reqwest::{Certificate, Client, Identity, Method};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The running Lease Manager.
pub struct House {
    folder: tempfile::TempDir,
    pub driver: Arc<Driver>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}
fn edited(config: &str, lm: &str) -> String {
    let (lines, tables) = lm.split_at(lm.find('[').unwrap_or(lm.len()));
    let mut config = config.to_owned();
    for line in lines.lines() {
        let name = line.split_once('=').unwrap().0;
        let old = config
            .lines()
            .find(|old| old.starts_with(name))
            .unwrap()
            .to_owned();
        config = config.replace(&old, line);
    }
    config + tables
}
impl House {
    /// With `servers` servers whose hardware is on record, and text for `lm.toml`: lines above the first table replace those of the same
    /// name, and tables are added.
    pub async fn with(servers: u8, lm: &str) -> Self {
        Self::with_power(servers, lm, "true").await
    }

    /// As [`House::with`]; `outcome` as in [`House::server`].
    pub async fn with_power(servers: u8, lm: &str, outcome: &str) -> Self {
        let text: String = (1..=servers).map(|number| described(number, outcome)).collect();
        Self::build(&text, lm).await
    }

    pub async fn new() -> Self {
        Self::with(2, "").await
    }

    /// The entry of a server whose power command, after it has written its order down, ends as `outcome` does.
    pub fn server(number: u8, outcome: &str) -> String {
        let (mac, address) = (mac(number), address(number));
        let command = |order: &str| {
            format!("{order} = [\"/bin/sh\", \"-c\", \"echo {order} {number} >> POWER; {outcome}\"]")
        };
        format!(
            "[[server]]\nname = \"s{number}\"\nmac = \"{mac}\"\naddress = \"{address}\"\nconsole = \"ttyS0,115200\"\n[server.power]\nkind = \"command\"\n{}\n{}\n",
            command("on"),
            command("off"),
        )
    }

    pub async fn build(servers: &str, lm: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // What the Lease Manager says stands beside a failure.
        let said = tracing_subscriber::fmt()
            .with_test_writer()
            .with_max_level(tracing::Level::INFO);
        let _ = said.try_init();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lm");
        init(&dir);
        let power = folder.path().join("power.log");
        std::fs::write(&power, "").unwrap();
        std::fs::write(dir.join("servers.toml"), servers.replace("POWER", text(&power))).unwrap();
        let config = std::fs::read_to_string(dir.join("lm.toml")).unwrap();
        // One try, so that a failed order reaches its lease at once.
        let lm = edited(&config, lm) + "\n[power]\nattempts = 1\n";
        std::fs::write(dir.join("lm.toml"), lm).unwrap();
        for tenant in ["acme", "other"] {
            let bundle = folder.path().join(tenant);
            add_tenant(&dir.join("lm.toml"), tenant, &bundle);
        }
        Self::open(folder).await
    }

    /// The one whose folder this is: `lm/`, the bundles of its tenants, `power.log`.
    pub async fn open(folder: tempfile::TempDir) -> Self {
        let (driver, address, stop, tasks) = start(&folder.path().join("lm")).await;
        Self {
            folder,
            driver,
            address,
            stop,
            tasks,
        }
    }

    /// Stops everything and starts it again from what is on the disk.
    pub async fn restart(&mut self) {
        self.stop().await;
        (self.driver, self.address, self.stop, self.tasks) = start(&self.folder.path().join("lm")).await;
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.driver.store().close().await;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("lm/lm.toml")
    }

    /// The power orders so far, such as `on 1`.
    pub fn power(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("power.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    fn ca(&self) -> Certificate {
        Certificate::from_pem(&std::fs::read(self.folder.path().join("lm/ca.pem")).unwrap()).unwrap()
    }

    pub fn tenant(&self, name: &str) -> Tenant {
        let bundle = self.folder.path().join(name);
        let pem = [
            std::fs::read(bundle.join("client.pem")).unwrap(),
            std::fs::read(bundle.join("client.key")).unwrap(),
        ];
        let client = Client::builder()
            .tls_certs_only([self.ca()])
            .identity(Identity::from_pem(&pem.concat()).unwrap())
            .build()
            .unwrap();
        Tenant {
            client,
            base: format!("https://{}", self.address),
        }
    }

    /// A client without certificate, from a server's address.
    pub fn client_at(&self, number: u8) -> Tenant {
        let client = Client::builder()
            .tls_certs_only([self.ca()])
            .local_address(address(number))
            .build()
            .unwrap();
        Tenant {
            client,
            base: format!("https://{}", self.address),
        }
    }

    /// What a server is told when its firmware asks, and the facts when it is told to run the agent.
    pub async fn boot(&self, number: u8) -> Option<BootFacts> {
        match self.driver.plan(mac(number), address(number)).await.unwrap() {
            BootPlan::LocalDisk | BootPlan::Staged(_) => None,
            BootPlan::Agent(boot) => self.driver.site_facts(&boot.site, address(number)).await.unwrap(),
        }
    }

    /// An agent after its hello.
    pub async fn agent(&self, number: u8) -> Agent {
        let facts = self.boot(number).await.expect("the server is sent to its disk");
        let client = self.client_at(number);
        let hello = hello(number);
        let welcome: Welcome = client
            .good(
                Method::POST,
                "/v1/agent/hello",
                Some(facts.boot_token.expose()),
                Some(&hello),
            )
            .await;
        Agent {
            number,
            token: welcome.session_token.expose().to_owned(),
            task: welcome.task,
            name: welcome.server.to_string(),
        }
    }

    pub async fn record(&self, server: &str) -> ServerRecord {
        self.driver
            .store()
            .server(&server.parse().unwrap())
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until `found` says so of anything that may change; tells what it was waiting for when it gives up.
    pub async fn wait_until(&self, what: &str, found: impl AsyncFn() -> bool) {
        let waiting = async {
            while !found().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!(
                "{what} did not come; power: {:?}; leases: {:#?}",
                self.power(),
                self.driver.store().leases().await
            );
        }
    }

    pub async fn wait_for_state(&self, lease: &LeaseId, state: LeaseState) {
        let store = self.driver.store();
        let found = async || store.lease(lease).await.unwrap().unwrap().lease.phase.state() == state;
        self.wait_until(&format!("the state {state}"), found).await;
    }
}
async fn start(dir: &Path) -> (Arc<Driver>, SocketAddr, CancellationToken, JoinSet<()>) {
    let config = Config::load(&dir.join("lm.toml")).unwrap();
    let store = Store::open(&config.store).await.unwrap();
    let identity = config.identity.clone();
    let ca = pki::read_ca(&identity.ca).unwrap();
    let signer = Signer::load(&identity.erasure_key).unwrap();
    let driver = Driver::new(config, store, ca, signer).await.unwrap();
    let tls = pki::server_config(&identity.ca, &identity.certificate, &identity.key).unwrap();
    let api = Api::bind(SocketAddr::from(([127, 0, 0, 1], 0)), tls)
        .await
        .unwrap();
    let (address, stop, mut tasks) = (api.local_addr(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(api.run(api::router(driver.clone()), stop.clone()));
    tasks.spawn(driver.clone().run(stop.clone()));
    (driver, address, stop, tasks)
}

/// A boot folder with what `serve` demands, in small, and these files besides.
pub fn boot_files(folder: &Path, files: &[(&str, &[u8])]) {
    let needed: [(&str, &[u8]); 2] = [("vmlinuz", b"1234"), ("stage1.img", b"1234")];
    let entries = needed.iter().chain(files).map(|(name, content)| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        serde_json::json!({ "name": name, "sha256": Sha256::of(content), "size": content.len() })
    });
    let manifest = serde_json::json!({ "files": entries.collect::<Vec<_>>() });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

/// The folder that `init` makes for a Lease Manager on the loopback interface.
pub fn init(folder: &Path) {
    let wire = ["--interface", "lo", "--address", "127.0.0.1/8"];
    run(&[["init", text(folder)].as_slice(), &wire].concat());
}

/// A tenant, whose certificate is then in `bundle`.
pub fn add_tenant(config: &Path, tenant: &str, bundle: &Path) {
    let paths = ["--config", text(config), "--out", text(bundle)];
    run(&[["tenant", "add", tenant].as_slice(), &paths].concat());
}

/// Runs `leaseboot-lm` itself.
pub fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Runs `leaseboot-lm` itself, which must fail with exit code 1; gives what it says of that.
pub fn fails(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
