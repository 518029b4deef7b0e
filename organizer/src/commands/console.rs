//! `leaseboot-po console`: a terminal on a borrowed server that stays in rescue mode, through the tunnel.

use super::{ConfigArg, block_on};
use anyhow::Context as _;
use clap::Args;
use leaseboot_console::terminal;
use std::process::ExitCode;

/// Open a console on a borrowed server in rescue mode, through the tunnel; ~. at the beginning of a line leaves it
#[derive(Args)]
pub(crate) struct Console {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
    /// Tell who had a console instead.
    #[arg(long)]
    list: bool,
}

impl Console {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        block_on(async {
            if self.list {
                for console in client.consoles(&self.lease).await? {
                    let open = if console.closed.is_some() {
                        console.words.as_str()
                    } else {
                        "no end is known"
                    };
                    println!("{} {}: {open}", console.opened.0 / 1000, console.who);
                }
                return Ok(());
            }
            let session = client.console(&self.lease, &operator()).await?;
            eprintln!(
                "console of {}; ~. at the beginning of a line leaves it",
                self.lease
            );
            let ended = terminal::attach(session).await.context("the terminal failed")?;
            eprintln!("\r\nconsole of {}: {ended}", self.lease);
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whoever runs the command.
fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()));
    name.unwrap_or_else(|| "without a name".to_owned())
}
