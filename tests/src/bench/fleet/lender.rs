//! The lender: a namespace with a loopback interface on which a whole network is at home, and the Lease Manager in it as it is shipped.

use super::numbered::{self, LM, SWITCHBOARD};
use super::program::Program;
use super::wire::{Desk, tls};
use super::world::World;
use crate::folders::Folders;
use crate::guardian::Guardian;
use crate::namespace::{Namespace, ip_batch};
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::digest::Sha256;
use serde_json::json;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Tenants among whom the fleet is shared out.
const TENANTS: usize = 10;
const API: u16 = 8443;
const BOOT: u16 = 80;

/// The namespace; it goes away with this, and with it whatever process still runs there.
pub(super) struct Site {
    name: String,
    _guardian: Guardian,
}

impl Site {
    /// Makes it.
    pub(super) fn lay() -> Result<Self> {
        static SITES: AtomicU32 = AtomicU32::new(0);
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the fleet stands in a network namespace of its own: run as root"
        );
        let name = format!(
            "lbf{}-{}",
            std::process::id(),
            SITES.fetch_add(1, Ordering::Relaxed)
        );
        let guardian = Guardian::over(std::slice::from_ref(&name))?;
        let namespace = Namespace::named(name.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            ip_batch(&[], &format!("netns add {name}\n")).await?;
            // Of a network on the loopback interface, every address is this host's.
            let lines = format!("link set lo up\naddress add {LM}/16 dev lo\n");
            namespace.ip_batch(&lines).await
        })?;
        Ok(Self {
            name,
            _guardian: guardian,
        })
    }

    /// Does something on a thread that has entered it. The threads and programs that it starts belong there, too.
    pub(super) fn inside<T: Send>(&self, errand: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let enter = || -> Result<()> {
            let entrance = File::open(&path).with_context(|| format!("cannot open {path}"))?;
            nix::sched::setns(&entrance, nix::sched::CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {path}"))
        };
        std::thread::scope(|scope| {
            let visit = scope.spawn(|| {
                enter()?;
                errand()
            });
            // A panic inside is one here.
            visit
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The Lease Manager's folder.
pub(super) struct Lender {
    program: PathBuf,
    folder: PathBuf,
}

impl Lender {
    /// Makes settings, identity and tenants in `folder`; the fleet is still empty. `store` is a database, or else there is a file.
    pub(super) fn prepare(folder: &Path, store: Option<&str>) -> Result<Self> {
        let lender = Self {
            program: Folders::find()?.program("leaseboot-lm")?,
            folder: folder.to_owned(),
        };
        lender.write_boot_files()?;
        let (home, address) = (lender.home(), format!("{LM}/16"));
        lender.run(&[
            "init",
            &home.display().to_string(),
            "--interface",
            "lo",
            "--address",
            &address,
        ])?;
        lender.configure(store)?;
        std::fs::write(home.join("servers.toml"), "").context("cannot empty servers.toml")?;
        for tenant in 0..TENANTS {
            let (name, bundle) = (
                format!("tenant-{tenant}"),
                lender.bundle(tenant).display().to_string(),
            );
            lender.run(&[
                "tenant",
                "add",
                &name,
                "--config",
                &lender.config(),
                "--out",
                &bundle,
            ])?;
        }
        Ok(lender)
    }

    fn configure(&self, store: Option<&str>) -> Result<()> {
        let path = self.home().join("lm.toml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut table: toml::Table = text.parse().context("lm.toml makes no sense")?;
        if let Some(store) = store {
            table.insert("store".to_owned(), store.into());
        }
        std::fs::write(&path, table.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Declares so many servers, whose hardware the lender has written down.
    pub(super) fn declare(&self, servers: usize) -> Result<()> {
        let text: Result<String> = (0..servers).map(declaration).collect();
        let path = self.home().join("servers.toml");
        std::fs::write(&path, text?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Starts it; gives the time until it served.
    pub(super) fn start(&self) -> Result<(Program, Duration)> {
        let begun = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(["serve", "--config", &self.config(), "--boot-files"]);
        command.arg(self.boot_files());
        let program = Program::start(&mut command, &self.folder.join("lm.log"))?;
        Ok((program, begun.elapsed()))
    }

    /// As `cargo xtask image` leaves them, but tiny: nobody fetches them here.
    fn write_boot_files(&self) -> Result<()> {
        let (folder, content) = (self.boot_files(), b"tiny");
        let entry =
            |name: &str| json!({ "name": name, "size": content.len(), "sha256": Sha256::of(content) });
        let names = ["vmlinuz", "stage1.img"];
        let manifest = json!({ "version": 1, "files": names.map(entry) }).to_string();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let files = names.map(|name| (name, content.as_slice()));
        for (name, bytes) in files.into_iter().chain([("manifest.json", manifest.as_bytes())]) {
            let path = folder.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn boot_files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// The world around it.
    pub(super) fn world(&self, servers: usize) -> Result<World> {
        let (api, boot) = (SocketAddr::from((LM, API)), SocketAddr::from((LM, BOOT)));
        let ca = self.home().join("ca.pem");
        let desk = |tenant| {
            let bundle = self.bundle(tenant);
            let (chain, key) = (bundle.join("client.pem"), bundle.join("client.key"));
            Ok(Desk::new(
                numbered::tenant_address(tenant),
                api,
                tls(&ca, Some((&chain, &key)))?,
            ))
        };
        let desks: Result<Vec<_>> = (0..TENANTS).map(desk).collect();
        Ok(World::new(servers, api, boot, tls(&ca, None)?, desks?))
    }

    fn home(&self) -> PathBuf {
        self.folder.join("lm")
    }

    fn bundle(&self, tenant: usize) -> PathBuf {
        self.folder.join(format!("tenant-{tenant}"))
    }

    fn config(&self) -> String {
        self.home().join("lm.toml").display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let ended = Command::new(&self.program)
            .args(arguments)
            .output()
            .context("cannot run leaseboot-lm")?;
        let errors = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.success(),
            "leaseboot-lm {} ended with {}: {errors}",
            arguments.join(" "),
            ended.status
        );
        Ok(())
    }
}

/// Power by a magic packet: of all ways the one that costs the Lease Manager least, so that what is measured is its own work and not that of a
/// thousand programs or HTTP clients. The server that is meant hears it and boots, so no boot happens that was not ordered.
fn declaration(server: usize) -> Result<String> {
    let (card, address) = (
        numbered::card(server).to_string(),
        numbered::address(server).to_string(),
    );
    let mut power = toml::Table::new();
    power.insert("kind".to_owned(), "wake-on-lan".into());
    power.insert("mac".to_owned(), card.clone().into());
    power.insert("to".to_owned(), SWITCHBOARD.to_string().into());
    let mut labels = toml::Table::new();
    labels.insert("rack".to_owned(), format!("r{:03}", server / 40).into());
    let mut entry = toml::Table::new();
    entry.insert("name".to_owned(), numbered::name(server).into());
    entry.insert("mac".to_owned(), card.into());
    entry.insert("address".to_owned(), address.into());
    entry.insert("console".to_owned(), "ttyS0,115200".into());
    entry.insert("labels".to_owned(), labels.into());
    entry.insert("power".to_owned(), power.into());
    let hardware =
        toml::Value::try_from(numbered::hardware(server)).context("a hardware report is no table")?;
    entry.insert("hardware".to_owned(), hardware);
    let mut file = toml::Table::new();
    file.insert("server".to_owned(), vec![toml::Value::from(entry)].into());
    Ok(file.to_string())
}
