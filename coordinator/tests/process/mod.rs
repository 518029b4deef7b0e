//! `leaseboot-lm serve` as a process of its own, with all its services on the loopback interface.
//!
//! `serve` takes the ports 67, 69 and 80, so a test that wants it runs itself once more inside a network namespace where these are free.

// Each test binary uses its part of it.
#![allow(dead_code, unreachable_pub)]

use crate::house::{self, Tenant, address, text};
use reqwest::{Certificate, Client, Identity};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Set in the process that has the namespace.
const INSIDE: &str = "LEASEBOOT_TEST_NAMESPACE";
/// The last line that `serve` prints before it serves.
const READY: &str = "leaseboot-lm ready";
/// What the inner process says at its end: a name that matches no test is a success too.
const DONE: &str = "the test inside the namespace came to its end";

/// Runs `inside` in a network namespace of its own, in a process of its own; `name` is the name of the calling test.
pub fn in_a_namespace(name: &str, inside: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.unwrap().block_on(inside());
        println!("{DONE}");
        return;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(DONE), "{said}");
    println!("{said}");
}

/// The running Lease Manager with its folder. Dropping it kills it.
pub struct Process {
    folder: tempfile::TempDir,
    child: Child,
}

/// What it is started with.
pub struct Start<'a> {
    /// Servers on record.
    pub servers: u8,
    /// How their power commands end, as in [`house::described`].
    pub outcome: &'a str,
    /// Makes the `lm.toml` of the one that `init` wrote.
    pub config: &'a dyn Fn(String) -> String,
    /// Boot files besides kernel and stage 1.
    pub files: &'a [(&'a str, &'a [u8])],
}

impl Process {
    /// With the tenant `acme`.
    pub fn start(start: &Start<'_>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lm");
        house::init(&dir);
        let config = dir.join("lm.toml");
        let servers: String = (1..=start.servers)
            .map(|number| house::described(number, start.outcome))
            .collect();
        let power = folder.path().join("power.log");
        std::fs::write(dir.join("servers.toml"), servers.replace("POWER", text(&power))).unwrap();
        let written = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, (start.config)(written)).unwrap();
        let bundle = folder.path().join("acme");
        house::add_tenant(&config, "acme", &bundle);
        house::boot_files(&folder.path().join("boot"), start.files);
        let child = serve(folder.path());
        Self { folder, child }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Process::kill`], from what it left.
    pub fn start_again(&mut self) {
        self.child = serve(self.folder.path());
    }

    /// Its `lm.toml`.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("lm/lm.toml")
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("lm.log")).unwrap()
    }

    /// The CA's certificate, PEM.
    pub fn ca(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("lm/ca.pem")).unwrap()
    }

    /// A new client of the tenant.
    pub fn tenant(&self) -> Tenant {
        let bundle = self.folder.path().join("acme");
        let pem = ["client.pem", "client.key"].map(|file| std::fs::read(bundle.join(file)).unwrap());
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&self.ca()).unwrap()])
            .identity(Identity::from_pem(&pem.concat()).unwrap());
        Tenant {
            client: client.build().unwrap(),
            base: "https://127.0.0.1:8443".to_owned(),
        }
    }

    /// A new client without certificate, at the address of a server.
    pub fn server(&self, number: u8) -> Tenant {
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&self.ca()).unwrap()])
            .local_address(address(number));
        Tenant {
            client: client.build().unwrap(),
            base: "https://127.0.0.1:8443".to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(folder: &Path) -> Child {
    let mut log = File::options();
    let log = log.create(true).append(true).open(folder.join("lm.log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(["serve", "--config", text(&folder.join("lm/lm.toml"))])
        .args(["--boot-files", text(&folder.join("boot"))])
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let ready = said.lines().map_while(Result::ok).any(|line| line == READY);
    let log = || std::fs::read_to_string(folder.join("lm.log")).unwrap();
    assert!(ready, "it does not serve: {}", log());
    child
}
