//! `leaseboot-po erasure`: the lender's signed record, for whoever wants to check it.

use super::exit::Exit;
use super::{ConfigArg, block_on};
use anyhow::{Context as _, bail};
use clap::Args;
use std::process::ExitCode;

/// Print the lender's signed record that a server was erased; `leaseboot-lm verify-erasure` checks it
#[derive(Args)]
pub(crate) struct PrintErasure {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
}

impl PrintErasure {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let view = block_on(async { Ok(client.find(&self.lease).await?) })?;
        let erasure = view
            .erasure
            .with_context(|| format!("{} is {}: nothing was erased yet", view.hostname, view.state))?;
        let Some(signed) = erasure.signed() else {
            bail!("{}: {erasure}", view.hostname);
        };
        println!("{}", serde_json::to_string(signed)?);
        eprintln!("{}: {erasure}", view.hostname);
        Ok(match erasure.is_proven() {
            true => ExitCode::SUCCESS,
            false => Exit::NotProven.into(),
        })
    }
}
