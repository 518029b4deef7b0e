//! The enterprise's program, run as its operator would run it, and what it borrows.

use super::{READY, edit_toml, log_filter, stop, suffix};
use crate::daemon::Daemon;
use crate::folders::Folders;
use crate::namespace::Namespace;
use crate::network::{GATEWAY_ADDRESS, GATEWAY_PORT, LM_ADDRESS, Network, RIVAL_ADDRESS};
use anyhow::{Context as _, Result, bail};
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

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

    /// A subcommand that somebody gives, with its configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.program);
        command.args(arguments).args(["--config", &self.config_path()]);
        command
    }

    /// The same, which is to end well; gives what it prints.
    ///
    /// # Errors
    /// When it does not.
    pub async fn order(&self, arguments: &[&str]) -> Result<String> {
        let config = self.config_path();
        self.run(&[arguments, &["--config", &config]].concat()).await
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
