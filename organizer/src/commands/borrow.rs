//! `leaseboot-po borrow`: begins borrowings and watches them. What was begun before a refusal goes on: whoever wants all or nothing gives
//! back what the exit code says is too few.

use super::exit::{EXIT_CODES, Exit};
use super::watch::{self, Watched};
use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::control::BorrowRequest;
use leaseboot_po::control::client::{ClientError, ControlClient};
use leaseboot_protocol::ids::Hostname;
use std::num::NonZeroU16;
use std::process::ExitCode;
use tokio::signal::ctrl_c;

/// Borrow servers and wait until they are in service
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Borrow {
    #[command(flatten)]
    config: ConfigArg,
    /// What to borrow: a folder below profiles/.
    #[arg(long)]
    profile: String,
    /// How many servers.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "hostname")]
    count: NonZeroU16,
    /// The server's name; without it, one by the profile's pattern.
    #[arg(long)]
    hostname: Option<Hostname>,
    /// A lender to ask, by its name in po.toml; given several times, they are asked in this order. Without it, all, and the best offer is taken.
    #[arg(long = "lender", value_name = "NAME")]
    lenders: Vec<String>,
    /// Progress as JSON lines, with a summary of each server as its last one.
    #[arg(long)]
    json: bool,
}

impl Borrow {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let exit = block_on(async {
            let mut begun = Vec::new();
            // Goal: everything is asked for, or a person has thought better of it. What the daemon took in is its own.
            let refused = tokio::select! {
                refused = self.begin(&client, &mut begun) => Some(refused?),
                _ = ctrl_c() => None,
            };
            let Some(refused) = refused else {
                watch::say_how_to_follow(&self.config, &begun);
                return Ok(Exit::Interrupted);
            };
            let worst = if refused { Exit::Refused } else { Exit::Done };
            if begun.is_empty() {
                return Ok(worst);
            }
            let watched = Watched::all(&client, begun).await;
            Ok(worst.max(watch::watch(&self.config, &client, watched, self.json).await?))
        })?;
        Ok(exit.into())
    }

    /// Begins all of them, one after the other; `true` when one was refused, and the rest was not asked for then.
    async fn begin(&self, client: &ControlClient, begun: &mut Vec<BorrowingView>) -> anyhow::Result<bool> {
        let request = BorrowRequest {
            profile: self.profile.clone(),
            hostname: self.hostname.clone(),
            lenders: self.lenders.clone(),
        };
        for nth in 1..=self.count.get() {
            match client.begin(&request).await {
                Ok(view) => begun.push(view),
                Err(ClientError::Conflict(reason)) => {
                    let which = match self.count.get() {
                        1 => String::new(),
                        all => format!("server {nth} of {all}: "),
                    };
                    eprintln!("leaseboot-po: {which}{reason}");
                    return Ok(true);
                }
                Err(error) if begun.is_empty() => return Err(error.into()),
                Err(error) => {
                    watch::say_how_to_follow(&self.config, &*begun);
                    return Err(error.into());
                }
            }
        }
        Ok(false)
    }
}
