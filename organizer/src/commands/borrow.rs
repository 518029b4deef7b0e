//! `leaseboot-po borrow`: begins a borrowing and watches it.

use super::{ConfigArg, block_on, watch};
use clap::Args;
use leaseboot_po::control::BorrowRequest;
use leaseboot_protocol::ids::Hostname;
use std::process::ExitCode;

/// Borrow a server and wait until it is in service
#[derive(Args)]
pub(crate) struct Borrow {
    #[command(flatten)]
    config: ConfigArg,
    /// What to borrow: a folder below profiles/.
    #[arg(long)]
    profile: String,
    /// The server's name; without it, one by the profile's pattern.
    #[arg(long)]
    hostname: Option<Hostname>,
    /// Progress as JSON lines, with a summary as the last one.
    #[arg(long)]
    json: bool,
}

impl Borrow {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let request = BorrowRequest {
            profile: self.profile,
            hostname: self.hostname,
        };
        block_on(async {
            let view = client.begin(&request).await?;
            watch::watch(&self.config, &client, &view, self.json).await
        })
    }
}
