//! The lender's program, run as its operator would run it.

use super::{READY, copy_files, edit_toml, log_filter, stop, suffix};
use crate::daemon::Daemon;
use crate::folders::Folders;
use crate::namespace::Namespace;
use crate::network::{LM_ADDRESS, LM_ADDRESS6, Network, STANDBY_ADDRESS};
use anyhow::{Context as _, Result};
use leaseboot_protocol::ids::LeaseId;
use std::path::{Path, PathBuf};
use tokio::process::Command;

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
                "--api-name",
                &LM_ADDRESS6.to_string(),
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

    /// What is on record of a server, as `leaseboot-lm servers show --json` tells it.
    pub async fn record(&self, server: &str) -> Result<serde_json::Value> {
        let config = self.config_path();
        let text = self
            .run(&["servers", "show", server, "--json", "--config", &config])
            .await?;
        serde_json::from_str(&text).with_context(|| format!("no JSON:\n{text}"))
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
