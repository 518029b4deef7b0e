//! `leaseboot-po follow`: watches borrowings that somebody else began.

use super::exit::EXIT_CODES;
use super::watch::{self, Watched};
use super::{ConfigArg, block_on};
use clap::Args;
use std::process::ExitCode;

/// Watch borrowings from their beginning until their servers are in service
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Follow {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowings, by identifier, lease or host name.
    #[arg(required = true, value_name = "BORROWING")]
    borrowings: Vec<String>,
    /// Progress as JSON lines, with a summary of each server as its last one.
    #[arg(long)]
    json: bool,
}

impl Follow {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let exit = block_on(async {
            let mut views = Vec::new();
            for name in &self.borrowings {
                views.push(client.find(name).await?);
            }
            let watched = Watched::all(&client, views).await;
            watch::watch(&self.config, &client, watched, self.json).await
        })?;
        Ok(exit.into())
    }
}
