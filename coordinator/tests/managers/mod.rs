//! Three Lease Managers on one PostgreSQL: processes of their own that a test kills with SIGKILL and starts again.
//!
//! ```text
//!  tenants ──┬──► 127.0.0.1 ──┐
//!            ├──► 127.0.0.2 ──┼──► one database, reached by its socket's path
//!  servers ──┴──► 127.0.0.3 ──┘
//! ```
//!
//! `serve` takes the ports 67, 69 and 80, so the test runs itself once more in a network namespace where these are free. PostgreSQL
//! stays outside, with the process that lives longer. What the three share is what `docs/several.md` says that they must: CA, keys,
//! servers and configuration, but for interface and addresses.

// Each test uses its part of it.
#![allow(dead_code, unreachable_pub)]

use crate::house::{self, PATIENCE, address, mac, run, text};
use leaseboot_protocol::agent::BootFacts;
use leaseboot_tests::postgres::Cluster;
use nix::unistd::Uid;
use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

/// How many there are.
pub const COUNT: usize = 3;
/// The tenants.
pub const TENANTS: [&str; 2] = ["acme", "other"];
/// Names the database in the process that has the namespace.
const DATABASE: &str = "LEASEBOOT_TEST_DATABASE";
/// The last line that `serve` prints before it serves.
const READY: &str = "leaseboot-lm ready";
/// What the inner process says at its end: a name that matches no test is a success too.
const LIVED: &str = "the fleet came to its end";
/// After this many seconds the orders of one that was killed are another's.
const TAKEOVER_S: u32 = 3;
/// `serve` binds its DHCP service to one; nothing else comes over them.
const INTERFACES: [&str; COUNT] = ["wire1", "wire2", "wire3"];

/// Power as a program: it writes down whose order it is, waits while a test holds the server, and does nothing for one that was killed.
const POWER: &str = r#"manager=$PPID
echo "begun $1 $2 $manager" >> FOLDER/power.log
while [ -e FOLDER/hold.$2 ]; do
    kill -0 $manager 2>/dev/null || exit 1
    sleep 0.05
done
echo "done $1 $2 $manager" >> FOLDER/power.log
"#;

/// Runs `life` with three Lease Managers that share `servers` servers. `attempts` is how often a server is sent through the boot.
pub fn run_test(test: &str, servers: u8, attempts: u32, life: impl AsyncFnOnce(&Managers)) {
    let Ok(database) = std::env::var(DATABASE) else {
        return in_a_namespace(test);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let managers = Managers::new(database, servers, attempts).await;
        life(&managers).await;
    });
    println!("{LIVED}");
}

fn in_a_namespace(test: &str) {
    let database = Cluster::shared().database();
    // The database's folder belongs to a user of its own; root sees into it, but not the root of a user namespace.
    let user: &[&str] = match Uid::effective().is_root() {
        true => &[],
        false => &["--user", "--map-root-user"],
    };
    let output = Command::new("unshare")
        .args(user)
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(DATABASE, database)
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(LIVED), "{said}");
    println!("{said}");
}

/// The three, and those who speak with them.
pub struct Managers {
    folder: tempfile::TempDir,
    database: String,
    servers: u8,
    tenants: Vec<Client>,
    cards: Vec<Client>,
    processes: RefCell<Vec<Option<Child>>>,
}

/// A power order that was begun or done for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Power {
    pub done: bool,
    pub order: String,
    pub server: u8,
    /// The process that had it carried out.
    pub manager: u32,
}

impl Managers {
    async fn new(database: String, servers: u8, attempts: u32) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        links();
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), &database, servers, attempts);
        for tenant in TENANTS {
            let (config, bundle) = (config(folder.path(), 0), folder.path().join(tenant));
            house::add_tenant(&config, tenant, &bundle);
        }
        house::boot_files(&folder.path().join("boot"), &[]);
        let managers = Self {
            tenants: TENANTS.map(|tenant| tenant_client(folder.path(), tenant)).into(),
            cards: (1..=servers)
                .map(|number| card_client(folder.path(), number))
                .collect(),
            folder,
            database,
            servers,
            processes: RefCell::new((0..COUNT).map(|_| None).collect()),
        };
        // All at once: one of them brings the tables to this version.
        futures_util::future::join_all((0..COUNT).map(|manager| managers.start(manager))).await;
        managers
    }

    /// Where the store is.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How many servers there are; they are numbered from 1.
    pub fn servers(&self) -> u8 {
        self.servers
    }

    pub fn config(&self, manager: usize) -> PathBuf {
        config(self.folder.path(), manager)
    }

    pub fn tenant(&self, number: usize) -> &Client {
        &self.tenants[number]
    }

    /// Somebody at the address of a server.
    pub fn card(&self, server: u8) -> &Client {
        &self.cards[usize::from(server) - 1]
    }

    /// Kills it, as `kill -9` does.
    pub async fn kill(&self, manager: usize) {
        let process = self.processes.borrow_mut()[manager].take();
        process.expect("it runs").kill().await.unwrap();
    }

    /// Starts it, and waits until it serves.
    pub async fn start(&self, manager: usize) {
        let process = serve(self.folder.path(), manager).await;
        self.processes.borrow_mut()[manager] = Some(process);
    }

    /// Which of them has this number as a process.
    pub fn of_process(&self, id: u32) -> Option<usize> {
        let processes = self.processes.borrow();
        processes
            .iter()
            .position(|process| process.as_ref().and_then(Child::id) == Some(id))
    }

    /// What one of them answers; nothing when it is not there, or is killed over the question. A fault of its own fails the test.
    pub async fn ask(&self, manager: usize, client: &Client, asked: &Asked<'_>) -> Option<Answer> {
        let url = format!("https://{}:8443{}", host(manager), asked.path);
        let mut request = client.request(asked.method.clone(), url);
        if let Some(token) = asked.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &asked.body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let (status, text) = (answer.status(), answer.text().await.ok()?);
        let path = asked.path;
        assert!(
            !status.is_server_error(),
            "the manager {manager} on {path}: {status}: {text}"
        );
        Some(Answer { status, text })
    }

    /// What any of them answers, `first` asked first.
    pub async fn insist(&self, first: usize, client: &Client, asked: &Asked<'_>) -> Answer {
        let asking = async {
            loop {
                for manager in (first..).take(COUNT).map(|manager| manager % COUNT) {
                    if let Some(answer) = self.ask(manager, client, asked).await {
                        return answer;
                    }
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        answered.unwrap_or_else(|_| panic!("nobody answered {}", asked.path))
    }

    /// What the firmware does first: it asks for its script. Gives the site archive that the script names; nothing when the server is sent
    /// to its disk, or nobody answers.
    pub async fn script(&self, manager: usize, server: u8) -> Option<String> {
        let path = format!("/boot/ipxe/{}.ipxe", mac(server));
        let script = self.fetch(manager, server, &path).await?;
        let script = String::from_utf8(script).unwrap();
        let (_, site) = script.split_once("/boot/site/")?;
        site.split_whitespace().next().map(str::to_owned)
    }

    /// What the firmware does next: it fetches the archive; nothing when this manager has not promised it.
    pub async fn archive(&self, manager: usize, server: u8, site: &str) -> Option<BootFacts> {
        let archive = self.fetch(manager, server, &format!("/boot/site/{site}")).await?;
        let begin = archive.windows(10).position(|window| window == b"{\"lm_url\":")?;
        let mut facts = serde_json::Deserializer::from_slice(&archive[begin..]).into_iter();
        facts.next()?.ok()
    }

    async fn fetch(&self, manager: usize, server: u8, path: &str) -> Option<Vec<u8>> {
        let url = format!("http://{}{path}", host(manager));
        let answer = self.card(server).get(url).send().await.ok()?;
        let found = answer.status().is_success();
        let bytes = answer.bytes().await.ok()?;
        found.then(|| bytes.to_vec())
    }

    /// Orders for the server wait from now on.
    pub fn hold(&self, server: u8) {
        std::fs::write(self.held(server), "").unwrap();
    }

    pub fn let_go(&self, server: u8) {
        std::fs::remove_file(self.held(server)).unwrap();
    }

    fn held(&self, server: u8) -> PathBuf {
        self.folder.path().join(format!("hold.{server}"))
    }

    /// The power orders so far.
    pub fn power(&self) -> Vec<Power> {
        let log = std::fs::read_to_string(self.folder.path().join("power.log")).unwrap_or_default();
        log.lines().map(power_line).collect()
    }

    /// Waits for a power order, and gives it.
    pub async fn until_power(&self, wanted: impl Fn(&Power) -> bool) -> Power {
        let waiting = async {
            loop {
                if let Some(found) = self.power().into_iter().find(&wanted) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("a power order did not come; there are {:#?}", self.power()))
    }

    /// Runs a command of the program while the managers run; `Err` is what it complains of.
    pub async fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
            .args(arguments)
            .args(["--config", text(&self.config(0))])
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }
}

impl Drop for Managers {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // The folder goes away; what the managers complained of is wanted.
        for manager in 0..COUNT {
            let log = std::fs::read_to_string(log(self.folder.path(), manager)).unwrap_or_default();
            let complaints = log
                .lines()
                .filter(|line| line.contains("ERROR") || line.contains("WARN"));
            for line in complaints.take(20) {
                eprintln!("manager {manager}: {line}");
            }
        }
    }
}

/// A question to the API.
pub struct Asked<'a> {
    pub method: Method,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub body: Option<Value>,
}

impl<'a> Asked<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            token: None,
            body: None,
        }
    }

    pub fn token(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self
    }

    pub fn body(mut self, body: &impl serde::Serialize) -> Self {
        self.body = Some(serde_json::to_value(body).unwrap());
        self
    }
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    pub text: String,
}

impl Answer {
    /// What stands in it when it is good; nothing when it was refused.
    pub fn granted<T: DeserializeOwned>(&self) -> Option<T> {
        let read = || serde_json::from_str(&self.text);
        let granted = self.status.is_success().then(read)?;
        Some(granted.unwrap_or_else(|error| panic!("{error}: {}", self.text)))
    }

    pub fn good<T: DeserializeOwned>(&self) -> T {
        self.granted()
            .unwrap_or_else(|| panic!("{}: {}", self.status, self.text))
    }
}

fn host(manager: usize) -> String {
    format!("127.0.0.{}", manager + 1)
}

/// What all of them name as theirs.
fn apis() -> Vec<String> {
    (0..COUNT)
        .map(|manager| format!("{}:8443", host(manager)))
        .collect()
}

fn log(folder: &Path, manager: usize) -> PathBuf {
    folder.join(format!("lm{manager}.log"))
}

fn config(folder: &Path, manager: usize) -> PathBuf {
    folder.join(format!("lm{manager}/lm.toml"))
}

/// Loopback, and an interface for each.
fn links() {
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).status();
        assert!(done.unwrap().success(), "ip {arguments:?}");
    };
    ip(&["link", "set", "lo", "up"]);
    for (number, interface) in INTERFACES.into_iter().enumerate() {
        let other = format!("far{number}");
        ip(&["link", "add", interface, "type", "veth", "peer", "name", &other]);
        ip(&["link", "set", interface, "up"]);
    }
}

/// The folder of the first as `init` makes it, and the others' as copies in which only interface and addresses differ.
fn configure(folder: &Path, database: &str, servers: u8, attempts: u32) {
    let first = folder.join("lm0");
    let mut init = vec![
        "init",
        text(&first),
        "--interface",
        INTERFACES[0],
        "--address",
        "127.0.0.1/8",
    ];
    let names: Vec<_> = (1..COUNT).map(host).collect();
    for name in &names {
        init.extend(["--api-name", name]);
    }
    run(&init);
    let script = folder.join("power.sh");
    std::fs::write(&script, POWER.replace("FOLDER", text(folder))).unwrap();
    let entries: String = (1..=servers)
        .map(|number| house::described(number, "true"))
        .collect();
    // The order and the server become the script's parameters.
    let entries = entries
        .replace("echo ", "set -- ")
        .replace(" >> POWER; true", &format!("; . {}", script.display()));
    std::fs::write(first.join("servers.toml"), entries).unwrap();
    let shared = std::fs::read_to_string(first.join("lm.toml"))
        .unwrap()
        .replace("store = \"lm.sqlite\"", &format!("store = \"{database}\""))
        .replace("attempts = 3", &format!("attempts = {attempts}"))
        .replace(
            "listen = \"0.0.0.0:8443\"",
            &format!("listen = \"127.0.0.1:8443\"\nothers = {:?}", apis()),
        )
        + &format!("\n[metrics]\nlisten = \"127.0.0.1:9469\"\n[power]\ntakeover_s = {TAKEOVER_S}\n");
    std::fs::write(first.join("lm.toml"), &shared).unwrap();
    for (manager, interface) in INTERFACES.into_iter().enumerate().skip(1) {
        let other = folder.join(format!("lm{manager}"));
        std::fs::create_dir(&other).unwrap();
        for file in std::fs::read_dir(&first).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), other.join(file.file_name())).unwrap();
        }
        let own = shared
            .replace("\"127.0.0.1/8\"", &format!("\"{}/8\"", host(manager)))
            .replace("listen = \"127.0.0.1:", &format!("listen = \"{}:", host(manager)))
            .replace(INTERFACES[0], interface);
        std::fs::write(other.join("lm.toml"), own).unwrap();
    }
}

async fn serve(folder: &Path, manager: usize) -> Child {
    let log = log(folder, manager);
    let errors = std::fs::OpenOptions::new().create(true).append(true).open(&log);
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(["serve", "--config", text(&config(folder, manager))])
        .args(["--boot-files", text(&folder.join("boot"))])
        .stdout(Stdio::piped())
        .stderr(errors.unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    loop {
        match said.next_line().await.unwrap() {
            Some(line) if line == READY => return process,
            Some(_) => {}
            None => panic!(
                "the manager {manager} does not serve: {}",
                std::fs::read_to_string(&log).unwrap()
            ),
        }
    }
}

fn tenant_client(folder: &Path, tenant: &str) -> Client {
    let pem = ["client.pem", "client.key"].map(|file| std::fs::read(folder.join(tenant).join(file)).unwrap());
    Client::builder()
        .tls_certs_only([ca(folder)])
        .identity(Identity::from_pem(&pem.concat()).unwrap())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn card_client(folder: &Path, server: u8) -> Client {
    Client::builder()
        .tls_certs_only([ca(folder)])
        .local_address(address(server))
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn ca(folder: &Path) -> Certificate {
    Certificate::from_pem(&std::fs::read(folder.join("lm0/ca.pem")).unwrap()).unwrap()
}

fn power_line(line: &str) -> Power {
    let words: Vec<_> = line.split(' ').collect();
    let [what, order, server, manager] = words[..] else {
        panic!("a line of the power log: {line:?}");
    };
    Power {
        done: what == "done",
        order: order.to_owned(),
        server: server.parse().unwrap(),
        manager: manager.parse().unwrap(),
    }
}
