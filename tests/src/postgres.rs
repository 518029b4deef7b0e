//! A private PostgreSQL for tests: from Debian's packages, in a folder of its own, reached by a socket in that folder.
//!
//! One cluster serves all tests of a process, each of which gets a database of its own. It runs below a small shell that waits
//! for the end of this process, in whatever way that comes, and then removes everything: a `static` is never dropped. PostgreSQL
//! refuses to run as root, so as root it runs as the user that its package made.

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Uid, User};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("postgres.sh");
/// Where Debian keeps one folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
const USER: &str = "lm";
/// `initdb` forces everything to the disk, which takes long on a busy one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster.
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    /// On the loopback interface, where it listens there at all.
    port: Option<u16>,
    databases: AtomicU32,
    /// Its standard input is the life of the cluster.
    shell: Child,
}

impl Cluster {
    /// The cluster of this process, started at the first call.
    ///
    /// # Panics
    /// When it cannot be started: no test that needs it can go on.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().expect("a PostgreSQL cluster for the tests"))
    }

    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// As [`Cluster::start`], for tests of connections over TCP: it also listens on the loopback interface, at 127.0.0.1.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_on_loopback() -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
        let port = free.local_addr().context("cannot find a free port")?.port();
        drop(free);
        Self::start_with(Some(port))
    }

    fn start_with(port: Option<u16>) -> Result<Self> {
        let programs = programs()?;
        let owner = owner()?;
        let folder = tempfile::Builder::new()
            .prefix("leaseboot-postgres-")
            .tempdir()
            .context("cannot make a folder for PostgreSQL")?
            .keep();
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", SCRIPT, "leaseboot-postgres"])
            .args([&programs, &folder])
            .args(port.iter().flat_map(|port| listening(*port)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C goes to the process group of the terminal; the shell must live on to clean up.
            .process_group(0)
            // The user that it runs as may not look into ours.
            .current_dir("/");
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
                .with_context(|| format!("cannot give {} to {}", folder.display(), owner.name))?;
            shell.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        let shell = shell.spawn().context("cannot start /bin/sh for PostgreSQL")?;
        let mut cluster = Self {
            programs,
            folder,
            port,
            databases: AtomicU32::new(0),
            shell,
        };
        cluster.wait()?;
        Ok(cluster)
    }

    /// A new, empty database; gives its address.
    ///
    /// # Panics
    /// When PostgreSQL refuses: no test that needs it can go on.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))
            .expect("a database for the test");
        self.address(&name)
    }

    /// Runs SQL as an outsider would.
    ///
    /// # Errors
    /// When PostgreSQL refuses; the error has its words.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let output = self
            .client("psql")
            .args([
                "--dbname",
                database,
                "--no-align",
                "--tuples-only",
                "--command",
                sql,
            ])
            .output()
            .context("cannot run psql")?;
        said(&output).with_context(|| format!("psql did not carry out: {sql}"))
    }

    /// The address of a database by name.
    pub fn address(&self, database: &str) -> String {
        format!(
            "postgres:///{database}?host={}&user={USER}",
            self.folder.display()
        )
    }

    /// The address of a database over TCP.
    ///
    /// # Panics
    /// When the cluster does not listen on the loopback interface.
    pub fn tcp_address(&self, database: &str) -> String {
        let port = self.port.expect("it was started on the loopback interface");
        format!("postgres://{USER}@127.0.0.1:{port}/{database}")
    }

    /// Gives it a certificate with its key, in PEM, and lets it speak TLS from now on.
    ///
    /// # Errors
    /// When the files cannot be written, or it does not take them.
    pub fn speak_tls(&self, certificate: &str, key: &str) -> Result<()> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.folder.join("data").join(name);
            let failed = || format!("cannot write {}", path.display());
            std::fs::write(&path, text).with_context(failed)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(failed)?;
            if let Some(owner) = owner()? {
                let (user, group) = (owner.uid.as_raw(), owner.gid.as_raw());
                std::os::unix::fs::chown(&path, Some(user), Some(group)).with_context(failed)?;
            }
        }
        self.set_tls(true)
    }

    /// Lets it speak TLS, or not, with those who come from now on.
    ///
    /// # Errors
    /// When it does not.
    pub fn set_tls(&self, on: bool) -> Result<()> {
        let wanted = if on { "on" } else { "off" };
        self.psql("postgres", &format!("ALTER SYSTEM SET ssl = {wanted}"))?;
        self.psql("postgres", "SELECT pg_reload_conf()")?;
        let begun = Instant::now();
        while self.psql("postgres", "SHOW ssl")?.trim() != wanted {
            ensure!(
                begun.elapsed() < PATIENCE,
                "PostgreSQL did not set ssl to {wanted}; its log: {}",
                log(&self.folder)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("--host").arg(&self.folder).args(["--username", USER]);
        command.args(
            self.port
                .iter()
                .flat_map(|port| ["--port".to_owned(), port.to_string()]),
        );
        command
    }

    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let asked = self
                .client("pg_isready")
                .output()
                .context("cannot run pg_isready")?;
            if asked.status.success() {
                return Ok(());
            }
            if let Some(status) = self
                .shell
                .try_wait()
                .context("cannot look after PostgreSQL's shell")?
            {
                bail!("PostgreSQL's shell ended with {status}; it said why on the standard error");
            }
            let seen = String::from_utf8_lossy(&asked.stdout).into_owned();
            ensure!(
                begun.elapsed() < PATIENCE,
                "PostgreSQL did not answer within {PATIENCE:?}; pg_isready says {seen:?}, its log: {}",
                log(&self.folder)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn listening(port: u16) -> [String; 4] {
    ["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")].map(str::to_owned)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("cannot wait for the end of PostgreSQL: {error}");
        }
    }
}

fn programs() -> Result<PathBuf> {
    let missing = || format!("no PostgreSQL in {VERSIONS}: install the package postgresql");
    std::fs::read_dir(VERSIONS)
        .with_context(missing)?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .max()
        .with_context(missing)
}

/// Whom PostgreSQL runs as, when not as ourselves.
fn owner() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let found = User::from_name("postgres").context("cannot look the user postgres up")?;
    found
        .context("there is no user postgres: install the package postgresql")
        .map(Some)
}

fn said(output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("postgres.log")).unwrap_or_else(|error| error.to_string())
}
