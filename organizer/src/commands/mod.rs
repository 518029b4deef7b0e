//! One file for each subcommand, and what those that talk to the daemon share.

pub(crate) mod borrow;
mod conclusion;
pub(crate) mod console;
pub(crate) mod doctor;
pub(crate) mod enrol;
pub(crate) mod erasure;
pub(crate) mod event;
pub(crate) mod exit;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod release;
pub(crate) mod renew;
pub(crate) mod rescue;
pub(crate) mod seal;
pub(crate) mod serve;
pub(crate) mod shell;
mod watch;

use anyhow::Context;
use clap::Args;
use leaseboot_po::config::PoConfig;
use leaseboot_po::control::client::ControlClient;
use std::future::Future;
use std::path::PathBuf;

/// Where the configuration is.
#[derive(Args)]
pub(crate) struct ConfigArg {
    /// The configuration that `leaseboot-po init` made.
    #[arg(long, value_name = "FILE", default_value = "/etc/leaseboot/po.toml")]
    config: PathBuf,
}

impl ConfigArg {
    fn load(&self) -> anyhow::Result<PoConfig> {
        Ok(PoConfig::load(&self.config)?)
    }

    fn client(&self) -> anyhow::Result<ControlClient> {
        let socket = self.load()?.control_socket();
        Ok(ControlClient::new(socket, &self.config)?)
    }
}

/// Runs a short conversation with the daemon.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}
