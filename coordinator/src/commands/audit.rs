//! `leaseboot-lm audit`: who did what, and whether the log is the one that was written ([`crate::audit`]).

use super::ConfigPath;
use super::table::{clock, say};
use crate::audit::{Entry, Verifier};
use crate::config::Config;
use crate::store::Store;

/// Entries that are read at once.
const PAGE: u32 = 1000;

/// Shows the audit log, or checks it
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only entries with a greater number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// One JSON document for each entry
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigPath,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Follows the chain of digests from the first entry to the last; names the first that is broken
    Verify {
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// Runs the command; the Lease Manager may be running.
///
/// # Errors
/// When the log is broken, or the store fails.
pub async fn run(audit: &Audit) -> anyhow::Result<()> {
    match &audit.action {
        Some(Action::Verify { config }) => verify(config).await,
        None => print(audit).await,
    }
}

async fn open(config: &ConfigPath) -> anyhow::Result<Store> {
    let config = Config::load(&config.config)?;
    Ok(Store::open(&config.store).await?)
}

async fn verify(config: &ConfigPath) -> anyhow::Result<()> {
    let store = open(config).await?;
    // Read first: what is added meanwhile is not part of this check.
    let head = store.audit_head().await?;
    let mut verifier = Verifier::default();
    while verifier.head().sequence < head.sequence {
        let left = head.sequence - verifier.head().sequence;
        let most = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = store.audit_entries(verifier.head().sequence, most).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            verifier.follow(entry)?;
        }
    }
    let head = verifier.end(&head)?;
    store.close().await;
    println!(
        "{} entries, whole; the last has the digest {}",
        head.sequence, head.sha256
    );
    Ok(())
}

async fn print(audit: &Audit) -> anyhow::Result<()> {
    let store = open(&audit.config).await?;
    let mut after = audit.after;
    loop {
        let page = store.audit_entries(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for entry in &page {
            let text = if audit.json {
                serde_json::to_string(entry)?
            } else {
                line(entry)
            };
            if !say(text + "\n")? {
                return Ok(());
            }
        }
    }
    store.close().await;
    Ok(())
}

fn line(entry: &Entry) -> String {
    let at = clock(entry.at);
    let mut line = format!("{:>6}  {at}  {}: {}", entry.sequence, entry.actor, entry.action);
    for (what, on) in [("lease", &entry.lease), ("server", &entry.server)] {
        if let Some(on) = on {
            line += &format!(", {what} {on}");
        }
    }
    if !entry.detail.is_empty() {
        line += &format!(" ({})", entry.detail);
    }
    line
}
