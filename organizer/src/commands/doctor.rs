//! `leaseboot-po doctor`: what is not as it should be, and what to do about it.

use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::doctor::{self, Verdict};
use std::process::ExitCode;

/// Look at everything that a borrowing needs; exit code 1 when something is a problem
#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    config: ConfigArg,
    /// The findings as JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let findings = block_on(async { Ok(doctor::examine(&self.config.config).await) })?;
        let count = |verdict| {
            findings
                .iter()
                .filter(|finding| finding.verdict == verdict)
                .count()
        };
        let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
        if self.json {
            println!("{}", serde_json::to_string_pretty(&findings)?);
        } else {
            findings.iter().for_each(|finding| println!("{finding}"));
            println!("{problems} problems, {warnings} warnings");
        }
        Ok(match problems {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}
