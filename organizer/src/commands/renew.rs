//! `leaseboot-po renew`: keeps a server for longer.

use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::config::Period;
use leaseboot_protocol::timestamp::Timestamp;
use std::process::ExitCode;
use std::time::SystemTime;

/// Keep a server for another term, counted from now
#[derive(Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
    /// For how long, such as 12h or 30d; without it the profile's term, or the lender's default. The lender has a maximum.
    #[arg(long)]
    term: Option<Period>,
}

impl Renew {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let term_s = self.term.map(|term| term.seconds);
        let view = block_on(async { Ok(client.renew(&self.lease, term_s).await?) })?;
        let now = Timestamp::from(SystemTime::now());
        let left = view.expires.map_or_else(
            || "for good".to_owned(),
            |expires| super::list::left(expires, now),
        );
        println!("{} is lent for another {left}", view.hostname);
        Ok(ExitCode::SUCCESS)
    }
}
