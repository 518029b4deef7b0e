//! `leaseboot-po rescue`: has the agent of a borrowed server stay before it hands over.

use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_protocol::rescue::RescueRequest;
use std::process::ExitCode;

/// Have a borrowed server's agent stay in rescue mode before it hands over, so that `console` can be opened; --off lets it go on
#[derive(Args)]
pub(crate) struct Rescue {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
    /// Withdraw the order, and what was agreed to: the agent goes on.
    #[arg(long, visible_alias = "resume")]
    off: bool,
    /// Agree to a console of the lender's on this server.
    #[arg(long, conflicts_with = "off")]
    lender_console: bool,
}

impl Rescue {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let request = RescueRequest {
            stay: !self.off,
            lender_console: self.lender_console,
        };
        let view = block_on(async { Ok(client.rescue(&self.lease, request).await?) })?;
        let lease = &self.lease;
        match (view.stay_until, view.lender_stay_until) {
            (Some(_), _) => println!(
                "{lease}: the agent stays once its tunnel is up; then `leaseboot-po console {lease}`"
            ),
            (None, Some(_)) => println!("{lease}: the lender still has the agent stay"),
            (None, None) => println!("{lease}: the agent goes on"),
        }
        if view.lender_console {
            println!("the lender may open a console too");
        }
        Ok(ExitCode::SUCCESS)
    }
}
