//! `leaseboot-po follow`: watches a borrowing that somebody else began.

use super::{ConfigArg, block_on, watch};
use clap::Args;
use std::process::ExitCode;

/// Watch a borrowing from its beginning until its server is in service
#[derive(Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by identifier, lease or host name.
    borrowing: String,
    /// Progress as JSON lines, with a summary as the last one.
    #[arg(long)]
    json: bool,
}

impl Follow {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        block_on(async {
            let view = client.find(&self.borrowing).await?;
            watch::watch(&self.config, &client, &view, self.json).await
        })
    }
}
