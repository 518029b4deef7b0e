//! The two programs under test, run as their operators would run them.

use crate::daemon::Daemon;
use crate::folders::Folders;
use crate::namespace::Namespace;
use crate::network::{GATEWAY_ADDRESS, GATEWAY_PORT, LM_ADDRESS, Network, RIVAL_ADDRESS, STANDBY_ADDRESS};
use anyhow::{Context as _, Result, bail};
use leaseboot_protocol::ids::LeaseId;
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// The lender's side: `leaseboot-lm` in its folder.
pub struct LeaseManager {
    namespace: Namespace,
    program: PathBuf,
    image: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    runs: u32,
    daemon: Option<Daemon>,
}

impl LeaseManager {
    /// Makes certificates and configuration in `folder/lm`, and a client certificate for one tenant in [`LeaseManager::bundle`].
    pub async fn prepare(network: &Network, folders: &Folders, folder: &Path) -> Result<Self> {
        let manager = Self {
            namespace: network.lender.clone(),
            program: folders.program("leaseboot-lm")?,
            image: folders.image().to_owned(),
            folder: folder.join("lm"),
            logs: folder.to_owned(),
            runs: 0,
            daemon: None,
        };
        let directory = manager.folder.display().to_string();
        let address = format!("{LM_ADDRESS}/24");
        manager
            .run(&[
                "init",
                &directory,
                "--interface",
                "br0",
                "--address",
                &address,
                "--router",
                "10.10.0.1",
                "--api-name",
                &STANDBY_ADDRESS.to_string(),
            ])
            .await?;
        manager.add_tenant("enterprise", &manager.bundle()).await?;
        Ok(manager)
    }

    /// `leaseboot-lm tenant add`: leaves the tenant's certificate, key and the LM's CA in the folder `bundle`.
    pub async fn add_tenant(&self, name: &str, bundle: &Path) -> Result<()> {
        let (config, bundle) = (self.config_path(), bundle.display().to_string());
        let arguments = ["tenant", "add", name, "--config", &config, "--out", &bundle];
        self.run(&arguments).await.map(drop)
    }

    /// `leaseboot-lm tenant invite`: the code with which a tenant enrols once.
    pub async fn invite(&self, name: &str) -> Result<String> {
        let arguments = ["tenant", "invite", name, "--config", &self.config_path()];
        Ok(self.run(&arguments).await?.trim().to_owned())
    }

    /// The tenant's certificate, key and the LM's CA.
    pub fn bundle(&self) -> PathBuf {
        self.logs.join("bundle")
    }

    /// The LM's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the list of servers.
    pub fn write_servers(&self, text: &str) -> Result<()> {
        let path = self.folder.join("servers.toml");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Changes `lm.toml` as an operator would with an editor.
    pub fn configure(&self, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
        edit_toml(&self.folder.join("lm.toml"), change)
    }

    /// Other boot files from the next start on.
    pub fn serve_boot_files(&mut self, folder: PathBuf) {
        self.image = folder;
    }

    /// Starts the daemon and waits until it serves.
    pub async fn start(&mut self) -> Result<()> {
        self.runs += 1;
        let mut command = self.namespace.command(&self.program);
        command.args(["serve", "--config", &self.config_path(), "--boot-files"]);
        command.arg(&self.image).env("RUST_LOG", log_filter());
        let log = self.logs.join(format!("lm{}.log", suffix(self.runs)));
        let mut daemon = Daemon::start("leaseboot-lm", command, &log)?;
        daemon.ready("leaseboot-lm ready", READY).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon without a word.
    pub async fn crash(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some(mut daemon) => daemon.kill().await,
            None => Ok(()),
        }
    }

    /// Kills the daemon without a word and starts it again.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.crash().await?;
        self.start().await
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) -> Result<()> {
        stop(self.daemon.take()).await
    }

    /// `leaseboot-lm backup` or `restore` with a file.
    pub async fn archive(&self, command: &str, file: &Path) -> Result<()> {
        let (config, file) = (self.config_path(), file.display().to_string());
        self.run(&[command, &file, "--config", &config]).await.map(drop)
    }

    /// A second one that shares this one's configuration, for an interface and address of its own, in `folder/NAME`. It does not run yet.
    pub fn twin(&self, name: &str, namespace: &Namespace, interface: &str, address: &str) -> Result<Self> {
        let folder = self.logs.join(name);
        copy_files(&self.folder, &folder)?;
        let twin = Self {
            namespace: namespace.clone(),
            program: self.program.clone(),
            image: self.image.clone(),
            folder,
            logs: self.logs.join(format!("{name}-logs")),
            runs: 0,
            daemon: None,
        };
        std::fs::create_dir_all(&twin.logs)
            .with_context(|| format!("cannot make {}", twin.logs.display()))?;
        twin.configure(|config| {
            config.insert("interface".to_owned(), interface.into());
            config.insert("address".to_owned(), address.into());
        })?;
        Ok(twin)
    }

    /// `leaseboot-lm status`, with more arguments.
    pub async fn status(&self, arguments: &[&str]) -> Result<String> {
        let config = self.config_path();
        let mut all = vec!["status", "--config", &config];
        all.extend(arguments);
        self.run(&all).await
    }

    /// In whose hands a server is, such as `free`, and why, as `leaseboot-lm status --json` tells it.
    pub async fn custody(&self, server: &str) -> Result<(String, String)> {
        let text = self.status(&["--json"]).await?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let servers = status["servers"].as_array().into_iter().flatten();
        let found = servers.into_iter().find(|entry| entry["name"] == server);
        let entry = found.with_context(|| format!("the status does not tell of {server}:\n{text}"))?;
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        Ok((field("custody"), field("reason")))
    }

    /// `leaseboot-lm leases log`: what the boots of a lease said on their consoles.
    pub async fn boot_log(&self, lease: &LeaseId) -> Result<String> {
        let arguments = ["leases", "log", lease.as_str(), "--config", &self.config_path()];
        self.run(&arguments).await
    }

    /// `leaseboot-lm verify-erasure` on a signed record, with the lender's published key; an error when it proves nothing or tells of a
    /// disk that is not erased.
    pub async fn verify_erasure(&self, record: &Path) -> Result<String> {
        let (record, key) = (record.display().to_string(), self.bundle().join("erasure.pub"));
        self.run(&["verify-erasure", &record, "--key", &key.display().to_string()])
            .await
    }

    /// What the running daemon said.
    pub fn said(&self) -> Result<&crate::transcript::Transcript> {
        let daemon = self.daemon.as_ref().context("leaseboot-lm does not run")?;
        Ok(daemon.said())
    }

    fn config_path(&self) -> String {
        self.folder.join("lm.toml").display().to_string()
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.namespace
            .run(&self.program.display().to_string(), arguments)
            .await
    }
}

/// What the enterprise wants installed: one profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The name of the boot image.
    pub image: String,
    /// The kickstart template.
    pub kickstart: String,
    /// The pattern of host names.
    pub hostname: String,
    /// Labels that the server must have.
    pub labels: Vec<(String, String)>,
    /// Values that the lender must not see, by name.
    pub sealed: Vec<(String, String)>,
}

/// The enterprise's side: `leaseboot-po` in its folder.
pub struct Organizer {
    name: String,
    namespace: Namespace,
    program: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    runs: u32,
    borrowings: u32,
    daemon: Option<Daemon>,
}

impl Organizer {
    /// Makes key and configuration in `folder/po`.
    pub async fn prepare(network: &Network, folders: &Folders, folder: &Path, bundle: &Path) -> Result<Self> {
        Self::prepare_at(
            &network.enterprise,
            GATEWAY_ADDRESS,
            "po",
            folders,
            folder,
            bundle,
        )
        .await
    }

    /// The same for the other enterprise, in `folder/rival`; its inner addresses are those of the first, which is none of the lender's business.
    pub async fn prepare_rival(
        network: &Network,
        folders: &Folders,
        folder: &Path,
        bundle: &Path,
    ) -> Result<Self> {
        Self::prepare_at(&network.rival, RIVAL_ADDRESS, "rival", folders, folder, bundle).await
    }

    async fn prepare_at(
        site: &Namespace,
        gateway: Ipv4Addr,
        name: &str,
        folders: &Folders,
        folder: &Path,
        bundle: &Path,
    ) -> Result<Self> {
        let organizer = Self {
            namespace: site.clone(),
            program: folders.program("leaseboot-po")?,
            folder: folder.join(name),
            name: name.to_owned(),
            logs: folder.to_owned(),
            runs: 0,
            borrowings: 0,
            daemon: None,
        };
        let directory = organizer.folder.display().to_string();
        let endpoint = format!("{gateway}:{GATEWAY_PORT}");
        let lm = format!("https://{LM_ADDRESS}:8443");
        let bundle = bundle.display().to_string();
        let arguments = [
            "init",
            &directory,
            "--endpoint",
            &endpoint,
            "--tunnel",
            "10.99.0.1/24",
            "--lm",
            &lm,
            "--lm-bundle",
            &bundle,
            "--allowed",
            "172.20.0.0/24",
        ];
        organizer.run(&arguments).await?;
        Ok(organizer)
    }

    /// `leaseboot-po enrol` from an enterprise's site: what an invitation's code brings, in the folder `bundle`.
    pub async fn enrol(site: &Namespace, folders: &Folders, code: &str, bundle: &Path) -> Result<String> {
        let program = folders.program("leaseboot-po")?.display().to_string();
        let (lm, bundle) = (format!("https://{LM_ADDRESS}:8443"), bundle.display().to_string());
        let arguments = ["enrol", "--lm", &lm, "--code", code, "--out", &bundle];
        site.run(&program, &arguments).await
    }

    /// Puts a boot image in place: hard links where the file system can, so that it costs no time.
    pub fn add_image(&self, name: &str, kernel: &Path, initrd: &Path, command_line: &str) -> Result<()> {
        let folder = self.image(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (from, to) in [(kernel, "vmlinuz"), (initrd, "initrd.img")] {
            std::fs::copy(from, folder.join(to))
                .with_context(|| format!("cannot copy {} to {}", from.display(), folder.display()))?;
        }
        let mut description = toml::Table::new();
        description.insert("command_line".to_owned(), command_line.into());
        description.insert("min_memory_mib".to_owned(), 1024.into());
        std::fs::write(folder.join("image.toml"), toml::to_string(&description)?)
            .with_context(|| format!("cannot write image.toml in {}", folder.display()))
    }

    /// `leaseboot-po image add` of a disk image; gives what it said.
    pub async fn add_disk_image(&self, name: &str, raw: &Path) -> Result<String> {
        let (config, raw) = (self.config_path(), raw.display().to_string());
        self.run(&["image", "add", "--config", &config, name, "--disk", &raw])
            .await
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the largest packet inside the tunnel into `po.toml`, in bytes.
    pub fn set_tunnel_mtu(&self, mtu: u16) -> Result<()> {
        edit_toml(&self.folder.join("po.toml"), |config| {
            if let Some(gateway) = config.get_mut("gateway").and_then(toml::Value::as_table_mut) {
                gateway.insert("mtu".to_owned(), i64::from(mtu).into());
            }
        })
    }

    /// The folder of a boot image.
    pub fn image(&self, name: &str) -> PathBuf {
        self.folder.join("images").join(name)
    }

    /// Writes a profile with its kickstart and its sealed values.
    pub fn add_profile(&self, profile: &Profile) -> Result<()> {
        let folder = self.folder.join("profiles").join(&profile.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            // The organizer takes sealed values only from files that nobody else can read.
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))
                .with_context(|| format!("cannot close {}", path.display()))
        };
        write("install.ks", &profile.kickstart)?;
        let mut sealed = toml::Table::new();
        for (name, value) in &profile.sealed {
            let file = format!("{name}.sealed");
            write(&file, &format!("{value}\n"))?;
            sealed.insert(name.clone(), file.into());
        }
        let labels: toml::Table = profile
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let mut requirements = toml::Table::new();
        requirements.insert("labels".to_owned(), labels.into());
        let mut description = toml::Table::new();
        description.insert("image".to_owned(), profile.image.clone().into());
        description.insert("kickstart".to_owned(), "install.ks".into());
        description.insert("hostname".to_owned(), profile.hostname.clone().into());
        description.insert("requirements".to_owned(), requirements.into());
        description.insert("sealed".to_owned(), sealed.into());
        write("profile.toml", &toml::to_string(&description)?)
    }

    /// Says by which installer a profile's text is read, such as `preseed`; without a word it is a kickstart.
    pub fn set_installer(&self, profile: &str, kind: &str) -> Result<()> {
        let path = self.folder.join("profiles").join(profile).join("profile.toml");
        edit_toml(&path, |profile| {
            let installer = toml::Table::from_iter([("kind".to_owned(), kind.into())]);
            profile.insert("installer".to_owned(), installer.into());
        })
    }

    /// Starts the daemon and waits until it serves.
    pub async fn start(&mut self) -> Result<()> {
        self.runs += 1;
        let mut command = self.namespace.command(&self.program);
        command.args(["serve", "--config", &self.config_path()]);
        command.env("RUST_LOG", log_filter());
        let log = self.logs.join(format!("{}{}.log", self.name, suffix(self.runs)));
        let mut daemon = Daemon::start("leaseboot-po", command, &log)?;
        daemon.ready("leaseboot-po ready", READY).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon without a word and starts it again.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().await?;
        }
        self.start().await
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) -> Result<()> {
        stop(self.daemon.take()).await
    }

    /// Starts `leaseboot-po borrow`; the handle is the running command.
    pub fn borrow(&mut self, profile: &str, arguments: &[&str]) -> Result<Borrowing> {
        self.borrowings += 1;
        let log = self
            .logs
            .join(format!("{}-borrow{}.log", self.name, suffix(self.borrowings)));
        let command = self.borrow_command(profile, arguments);
        Ok(Borrowing {
            command: Daemon::start("leaseboot-po borrow", command, &log)?,
        })
    }

    /// The command line of [`Organizer::borrow`], for a caller that shows its progress on a terminal.
    pub fn borrow_command(&self, profile: &str, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.program);
        command.args(["borrow", "--config", &self.config_path(), "--profile", profile]);
        command.args(arguments);
        command
    }

    /// `leaseboot-po list`.
    pub async fn list(&self, arguments: &[&str]) -> Result<String> {
        let config = self.config_path();
        let mut all = vec!["list", "--config", &config];
        all.extend(arguments);
        self.run(&all).await
    }

    /// `leaseboot-po log`: what a server said through the tunnel.
    pub async fn boot_log(&self, lease: &str) -> Result<String> {
        self.run(&["log", "--config", &self.config_path(), lease]).await
    }

    /// `leaseboot-po release`.
    pub async fn release(&self, lease: &str) -> Result<String> {
        self.run(&["release", "--config", &self.config_path(), lease])
            .await
    }

    /// `leaseboot-po doctor`; an error when it finds a problem.
    pub async fn doctor(&self) -> Result<String> {
        self.run(&["doctor", "--config", &self.config_path()]).await
    }

    /// `leaseboot-po erasure` into a file: the lender's signed record that a server was erased.
    pub async fn erasure(&self, lease: &str) -> Result<PathBuf> {
        let text = self
            .run(&["erasure", "--config", &self.config_path(), lease])
            .await?;
        let path = self.logs.join(format!("{lease}-erasure.json"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// What the running daemon said.
    pub fn said(&self) -> Result<&crate::transcript::Transcript> {
        let daemon = self.daemon.as_ref().context("leaseboot-po does not run")?;
        Ok(daemon.said())
    }

    fn config_path(&self) -> String {
        self.folder.join("po.toml").display().to_string()
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.namespace
            .run(&self.program.display().to_string(), arguments)
            .await
    }
}

/// The exit code of `leaseboot-po borrow` when a server was lent and its transfer failed (docs/api.md).
const NOT_IN_SERVICE: i32 = 5;

/// A `leaseboot-po borrow` under way.
pub struct Borrowing {
    command: Daemon,
}

impl Borrowing {
    /// What it said so far.
    pub fn said(&self) -> &crate::transcript::Transcript {
        self.command.said()
    }

    /// Does something that needs the transfer to go on: when `leaseboot-po borrow` ends first, that is the error.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // Dropping the work is fine: the scenario is over then. Waiting for the command can be taken up again.
        tokio::select! {
            done = work => done,
            ended = self.command.end(Duration::MAX) => {
                bail!("leaseboot-po borrow ended with {}:\n{}", ended?, self.said().tail(usize::MAX))
            }
        }
    }

    /// Waits for the server to be in service; gives all that was said.
    pub async fn in_service(mut self, within: Duration) -> Result<String> {
        let status = self.command.end(within).await?;
        let said = self.command.said().tail(usize::MAX);
        anyhow::ensure!(
            status.success(),
            "leaseboot-po borrow ended with {status}:\n{said}"
        );
        Ok(said)
    }

    /// Waits for the transfer to fail; gives all that was said.
    pub async fn fails(mut self, within: Duration) -> Result<String> {
        let status = self.command.end(within).await?;
        let said = self.command.said().tail(usize::MAX);
        anyhow::ensure!(
            status.code() == Some(NOT_IN_SERVICE),
            "leaseboot-po borrow ended with {status}:\n{said}"
        );
        Ok(said)
    }
}

async fn stop(daemon: Option<Daemon>) -> Result<()> {
    let Some(mut daemon) = daemon else { return Ok(()) };
    let status = daemon.terminate(STOP).await?;
    anyhow::ensure!(
        status.success(),
        "after SIGTERM it ended with {status}:\n{}",
        daemon.said().tail(20)
    );
    Ok(())
}

/// Copies a folder's files with their permissions; there are no folders in it.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(failed)?;
    for entry in std::fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_type().with_context(failed)?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(failed)?;
        }
    }
    Ok(())
}

fn edit_toml(path: &Path, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut table: toml::Table =
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))?;
    change(&mut table);
    std::fs::write(path, toml::to_string(&table)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Later runs of one daemon get a number in their log's name.
fn suffix(run: u32) -> String {
    if run == 1 {
        String::new()
    } else {
        format!("-{run}")
    }
}

fn log_filter() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned())
}
