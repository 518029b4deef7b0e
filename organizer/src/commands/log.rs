//! `leaseboot-po log`: what a borrowed server said on its console, as it came through the tunnel.

use super::{ConfigArg, block_on};
use anyhow::bail;
use clap::Args;
use std::process::ExitCode;

/// Print what a borrowed server said on its console: the wrapper's lines and its kernel's, the last ones
#[derive(Args)]
pub(crate) struct Log {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
}

impl Log {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let pieces = block_on(async { Ok(client.boot_log(&self.lease).await?) })?;
        if pieces.is_empty() {
            bail!(
                "{} has said nothing through the tunnel yet; the lender may have more",
                self.lease
            );
        }
        for piece in pieces {
            print!("{}", piece.text);
        }
        Ok(ExitCode::SUCCESS)
    }
}
