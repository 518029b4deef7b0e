//! `leaseboot-po explain`: what each policy sees, decided and waits for.

use super::{ConfigArg, block_on};
use clap::Args;
use std::process::ExitCode;

/// Tell what each policy sees, has, decided and waits for
#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    config: ConfigArg,
    /// One policy only
    policy: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let report = block_on(async { Ok(client.explain(self.policy.as_deref()).await?) })?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => print!("{}", report.text()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
