//! A Lease Manager on the loopback interface, with its real API over TLS, a power controller that writes its orders into a file, and
//! clients that speak as tenants and agents. Servers have addresses of 127.0.0.0/8, so that an agent can come from its own.

// Each test binary uses its part of it.
#![allow(dead_code, unreachable_pub)]

use leaseboot_lm::api::{self, Api};
use leaseboot_lm::boot::{BootDirectory, BootPlan};
use leaseboot_lm::config::Config;
use leaseboot_lm::erasure::Signer;
use leaseboot_lm::lease::Driver;
use leaseboot_lm::pki;
use leaseboot_lm::store::{ServerRecord, Store};
use leaseboot_protocol::agent::{
    BootFacts, Directive, Hello, KeyOffer, Outcome, Report, Reports, Task, Welcome,
};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::erasure::{DiskErasure, DiskOutcome, EraseMethod, ErasureReport};
use leaseboot_protocol::hardware::{Cpu, Disk, HardwareReport, Nic};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::lease::{LeaseState, LeaseView, Step};
use leaseboot_protocol::leases::{BootOrder, EventBatch, LeaseRequest, Prepared, Refusal};
use leaseboot_protocol::network::{MacAddress, TunnelSettings, WireguardPublicKey};
use leaseboot_protocol::settings::{Blob, BootImage, InstallSettings, Requirements};
use leaseboot_protocol::timestamp::Timestamp;
use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const KICKSTART: &str =
    "text\nrootpw --iscrypted @sealed:root_password@\npart / --size=1000 --grow\n%packages\nnginx\n%end\n";

/// The running Lease Manager.
pub struct House {
    folder: tempfile::TempDir,
    pub driver: Arc<Driver>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The number of a server: it makes card and address.
pub fn mac(number: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, number])
}

pub fn address(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 1, number])
}

pub fn hardware(number: u8) -> HardwareReport {
    HardwareReport {
        architecture: "x86_64".to_owned(),
        cpu: Cpu {
            cores: 2,
            ..Cpu::default()
        },
        memory_bytes: 2 << 30,
        disks: vec![Disk {
            name: "vda".to_owned(),
            by_id: format!("virtio-DISK{number}"),
            size_bytes: 8 << 30,
            ..Disk::default()
        }],
        nics: vec![Nic {
            name: "eth0".to_owned(),
            mac: mac(number),
            driver: String::new(),
            speed_mbps: None,
            max_speed_mbps: None,
            carrier: true,
        }],
        ..HardwareReport::default()
    }
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

/// The entry of a server, with its hardware; `outcome` as in [`House::server`].
pub fn described(number: u8, outcome: &str) -> String {
    let report = toml::to_string(&hardware(number)).unwrap();
    // Tables of the report become tables below server.hardware.
    let below = report
        .replace("[[", "[[server.hardware.")
        .replace("\n[cpu", "\n[server.hardware.cpu")
        .replace("\n[dmi", "\n[server.hardware.dmi");
    format!("{}[server.hardware]\n{below}", House::server(number, outcome))
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
        run(&[
            "init",
            text(&dir),
            "--interface",
            "lo",
            "--address",
            "127.0.0.1/8",
        ]);
        let power = folder.path().join("power.log");
        std::fs::write(&power, "").unwrap();
        std::fs::write(dir.join("servers.toml"), servers.replace("POWER", text(&power))).unwrap();
        let config = std::fs::read_to_string(dir.join("lm.toml")).unwrap();
        // One try, so that a failed order reaches its lease at once.
        let lm = edited(&config, lm) + "\n[power]\nattempts = 1\n";
        std::fs::write(dir.join("lm.toml"), lm).unwrap();
        for tenant in ["acme", "other"] {
            let bundle = folder.path().join(tenant);
            run(&[
                "tenant",
                "add",
                tenant,
                "--config",
                text(&dir.join("lm.toml")),
                "--out",
                text(&bundle),
            ]);
        }
        let (driver, address, stop, tasks) = start(&dir).await;
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
            BootPlan::LocalDisk => None,
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

/// What an agent reports that erased the one disk of its server, or could not.
pub fn erasure(clean: bool) -> ErasureReport {
    let outcome = match clean {
        true => DiskOutcome::Erased {
            method: EraseMethod::Discard,
            checked_bytes: 1,
            took_ms: 1,
        },
        false => DiskOutcome::Failed {
            errors: vec!["it refused".to_owned()],
        },
    };
    ErasureReport {
        disks: vec![DiskErasure {
            name: "vda".to_owned(),
            serial: String::new(),
            model: String::new(),
            size_bytes: 8 << 30,
            outcome,
        }],
        boot_entries_removed: Vec::new(),
        boot_entries_error: None,
    }
}

pub fn hello(number: u8) -> Hello {
    Hello {
        agent_version: "test".to_owned(),
        mac: mac(number),
        hardware: hardware(number),
        earlier: vec![finished(Step::Drivers)],
    }
}

pub fn report(step: Step, outcome: Outcome) -> Report {
    Report {
        step,
        at: Timestamp(0),
        outcome,
    }
}

pub fn finished(step: Step) -> Report {
    report(
        step,
        Outcome::Finished {
            took_ms: 1,
            bytes: 10,
        },
    )
}

pub fn failed(step: Step, error: &str) -> Report {
    report(
        step,
        Outcome::Failed {
            error: vec![error.to_owned()],
            kernel_log: vec!["log".to_owned()],
            retrying: false,
        },
    )
}

pub fn settings() -> InstallSettings {
    let blob = || Blob {
        path: "/v1/image/kernel".to_owned(),
        size: 1,
        sha256: Sha256::of(b"x"),
    };
    InstallSettings {
        profile: "web".to_owned(),
        hostname: "web-1".parse().unwrap(),
        installer: Installer::default(),
        kickstart: KICKSTART.to_owned(),
        kickstart_origin: "web.ks".to_owned(),
        sealed: vec!["root_password".to_owned()],
        tunnel: TunnelSettings {
            address: "10.99.0.10/24".parse().unwrap(),
            gateway_endpoint: "198.51.100.2:51820".parse().unwrap(),
            gateway_public_key: WireguardPublicKey([7; 32]),
            allowed_ips: vec!["10.99.0.0/24".parse().unwrap()],
            gateway_service: "10.99.0.1:80".parse().unwrap(),
            mtu: 1420,
            keepalive_s: 25,
        },
        image: BootImage {
            kernel: blob(),
            initrd: blob(),
            command_line: String::new(),
        },
        min_memory_mib: 1024,
        architecture: None,
    }
}

/// The same with an address of the lease's own: its name ends in eight hexadecimal digits.
pub fn settings_for(lease: &LeaseId) -> InstallSettings {
    let name = lease.as_str();
    let digits = u32::from_str_radix(&name[name.len() - 6..], 16).unwrap();
    let mut settings = settings();
    let [_, a, b, c] = digits.to_be_bytes();
    settings.tunnel.address = format!("10.{a}.{b}.{c}/8").parse().unwrap();
    settings
}

/// Somebody who speaks to the API: a tenant, or a server without certificate.
pub struct Tenant {
    pub client: Client,
    pub base: String,
}

impl Tenant {
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> (StatusCode, String) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    pub async fn good<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> T {
        let (status, text) = self.ask(method, path, token, body).await;
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    pub async fn refused(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> (StatusCode, Refusal) {
        let (status, text) = self.ask(method, path, token, body).await;
        assert!(!status.is_success(), "{path}: {status}: {text}");
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")),
        )
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.good(Method::GET, path, None, None::<&()>).await
    }

    pub async fn borrow(&self, request_id: &str) -> LeaseView {
        let request = LeaseRequest {
            request_id: request_id.to_owned(),
            requirements: Requirements::default(),
            term_s: None,
            group: None,
        };
        self.good(Method::POST, "/v1/leases", None, Some(&request)).await
    }

    pub async fn prepare(&self, lease: &LeaseId) -> Prepared {
        self.good(
            Method::PUT,
            &format!("/v1/leases/{lease}/settings"),
            None,
            Some(&settings_for(lease)),
        )
        .await
    }

    pub async fn order_boot(&self, lease: &LeaseId, kickstart_sha256: Sha256) -> LeaseView {
        let order = BootOrder { kickstart_sha256 };
        self.good(
            Method::POST,
            &format!("/v1/leases/{lease}/boot"),
            None,
            Some(&order),
        )
        .await
    }

    pub async fn tell(&self, lease: &LeaseId, word: &str) -> LeaseView {
        self.good(
            Method::POST,
            &format!("/v1/leases/{lease}/{word}"),
            None,
            None::<&()>,
        )
        .await
    }

    pub async fn release(&self, lease: &LeaseId) -> LeaseView {
        self.good(Method::DELETE, &format!("/v1/leases/{lease}"), None, None::<&()>)
            .await
    }

    pub async fn view(&self, lease: &LeaseId) -> LeaseView {
        self.get(&format!("/v1/leases/{lease}")).await
    }

    pub async fn events(&self, lease: &LeaseId, after: u64, wait_s: u64) -> EventBatch {
        self.get(&format!(
            "/v1/leases/{lease}/events?after={after}&wait_s={wait_s}"
        ))
        .await
    }

    /// A lease whose server is being sent through the boot.
    pub async fn boot(&self, request_id: &str) -> LeaseId {
        let lease = self.borrow(request_id).await.id;
        let prepared = self.prepare(&lease).await;
        self.order_boot(&lease, prepared.kickstart_sha256).await;
        lease
    }
}

/// An agent after its hello.
pub struct Agent {
    pub number: u8,
    pub token: String,
    pub task: Task,
    pub name: String,
}

impl Agent {
    pub async fn key(&self, house: &House) {
        let offer = KeyOffer {
            key: WireguardPublicKey([self.number; 32]),
        };
        let asked = house
            .client_at(self.number)
            .ask(Method::PUT, "/v1/agent/key", Some(&self.token), Some(&offer))
            .await;
        assert_eq!(asked.0, StatusCode::NO_CONTENT, "{}", asked.1);
    }

    pub async fn kickstart(&self, house: &House) -> String {
        let path = "/v1/agent/kickstart";
        let (status, text) = house
            .client_at(self.number)
            .ask(Method::GET, path, Some(&self.token), None::<&()>)
            .await;
        assert!(status.is_success(), "{status}: {text}");
        text
    }

    pub async fn erasure(&self, house: &House, report: &ErasureReport) -> Directive {
        let client = house.client_at(self.number);
        client
            .good(Method::PUT, "/v1/agent/erasure", Some(&self.token), Some(report))
            .await
    }

    pub async fn reports(&self, house: &House, reports: Vec<Report>) -> Directive {
        let client = house.client_at(self.number);
        client
            .good(
                Method::POST,
                "/v1/agent/reports",
                Some(&self.token),
                Some(&Reports { reports }),
            )
            .await
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

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
