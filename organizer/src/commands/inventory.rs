//! `leaseboot-po inventory`: the borrowed servers for Ansible, in the contract of its inventory scripts.

use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::announce::inventory;
use std::process::ExitCode;

/// Print the servers in service as an inventory of Ansible
///
/// Ansible runs a script of two lines: #!/bin/sh, and exec leaseboot-po inventory --config /etc/leaseboot/po.toml "$@"
#[derive(Args)]
pub(crate) struct Inventory {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// All groups and hosts
    #[arg(long)]
    list: bool,
    /// The variables of one host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl Inventory {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let entries = block_on(async { Ok(client.announced().await?) })?;
        let printed = match &self.what.host {
            Some(name) => inventory::host(&entries, name),
            None => inventory::list(&entries),
        };
        println!("{printed:#}");
        Ok(ExitCode::SUCCESS)
    }
}
