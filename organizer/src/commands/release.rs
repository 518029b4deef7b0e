//! `leaseboot-po release`: gives a server back and waits until the lender has erased it. Its exit code tells whether that is proven, because a
//! script that goes on as if it were would be the last to look.

use super::exit::Exit;
use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::control::client::{ClientError, ControlClient};
use leaseboot_po::progress::Note;
use std::process::ExitCode;
use tokio::signal::ctrl_c;

/// Give a server back: it is drained as its profile says, its peer is dropped, and the lender erases it and switches it off
#[derive(Args)]
pub(crate) struct Release {
    #[command(flatten)]
    config: ConfigArg,
    /// The borrowing, by lease, host name or identifier.
    lease: String,
    /// Do not drain it first: what it is doing is cut off
    #[arg(long)]
    now: bool,
}

impl Release {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        block_on(async {
            let view = client.release(&self.lease, self.now).await?;
            // Goal: the lender's word, or the person's impatience. Only reading is dropped.
            tokio::select! {
                done = given_back(&client, &view) => done,
                _ = ctrl_c() => {
                    eprintln!("{} is given back; `leaseboot-po list --all` shows how that went", view.hostname);
                    Ok(Exit::Interrupted.into())
                }
            }
        })
    }
}

async fn given_back(client: &ControlClient, view: &BorrowingView) -> anyhow::Result<ExitCode> {
    let mut stream = client.follow(&view.id, 0).await?;
    while let Some(progress) = stream.next().await? {
        match progress.note {
            Note::Over { .. } => {
                let over = client.find(view.id.as_str()).await?;
                println!("{} is given back", view.hostname);
                return Ok(match over.erasure {
                    // No server had been granted: there is nothing to erase.
                    None => ExitCode::SUCCESS,
                    Some(erasure) if erasure.is_proven() => {
                        println!("{erasure}");
                        ExitCode::SUCCESS
                    }
                    Some(erasure) => {
                        eprintln!("leaseboot-po: {erasure}");
                        Exit::NotProven.into()
                    }
                });
            }
            Note::DrainFailed { error } => eprintln!("{} was not drained: {error}", view.hostname),
            _ => {}
        }
    }
    let goes_on = format!("it goes on giving {} back", view.hostname);
    Err(ClientError::Away(goes_on).into())
}
