//! `leaseboot-lm leases`: the leases and their histories, read from the store; the Lease Manager may be running or not.

use super::ConfigPath;
use super::table::{Table, ago, clock, say};
use super::watch::describe;
use crate::config::Config;
use crate::lease::Lease;
use crate::lease::driver::now;
use crate::store::{BootLogPiece, BootName, LeaseRecord, Store};
use anyhow::bail;
use leaseboot_protocol::boot_log::LogSource;
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseEvent;
use leaseboot_protocol::timestamp::Timestamp;
use serde_json::{Value, json};

/// Shows leases and what happened to them
#[derive(Debug, clap::Subcommand)]
pub enum Leases {
    /// All leases that are not over, oldest first
    List {
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Show leases that are over, too
        #[arg(long)]
        all: bool,
    },
    /// What the boots of a lease said on their consoles
    Log {
        /// The lease
        lease: LeaseId,
        /// What the servers' serial lines said instead, where servers.toml names them
        #[arg(long)]
        serial: bool,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// One lease with its whole history
    Show {
        /// The lease
        lease: LeaseId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When configuration or store cannot be read, or there is no such lease.
pub async fn run(leases: &Leases) -> anyhow::Result<()> {
    match leases {
        Leases::List { config, json, all } => {
            let store = open(config).await?;
            let mut records = store.leases().await?;
            records.retain(|record| *all || !record.lease.phase.state().is_final());
            let text = match json {
                true => format!("{:#}\n", Value::from_iter(records.iter().map(in_json))),
                false => table(&records, now()).to_string(),
            };
            say(text)?;
            store.close().await;
        }
        Leases::Log {
            lease,
            serial,
            config,
        } => {
            let store = open(config).await?;
            let mut pieces = store.boot_log(lease).await?;
            pieces.retain(|piece| (piece.source == LogSource::Serial) == *serial);
            store.close().await;
            if pieces.is_empty() {
                bail!(
                    "no boot of {lease} has said anything yet: `leaseboot-lm leases show {lease}` tells where it stands"
                );
            }
            say(in_order(&pieces))?;
        }
        Leases::Show { lease, config, json } => {
            let store = open(config).await?;
            let Some(record) = store.lease(lease).await? else {
                bail!("there is no lease {lease} on record: `leaseboot-lm leases list --all` lists them");
            };
            let events = history(&store, lease).await?;
            let text = match json {
                true => {
                    let mut object = in_json(&record);
                    object["events"] = serde_json::to_value(&events)?;
                    format!("{object:#}\n")
                }
                false => format!("{}\n{}", table(&[record], now()), told(&events)),
            };
            say(text)?;
            store.close().await;
        }
    }
    Ok(())
}

/// The lines, under a heading where another boot or another source begins.
fn in_order(pieces: &[BootLogPiece]) -> String {
    let mut text = String::new();
    let mut last = None;
    for piece in pieces {
        let heading = (&piece.boot, piece.source);
        if last.replace(heading) != Some(heading) {
            let BootName { server, attempt, .. } = &piece.boot;
            let (at, source) = (clock(piece.at), piece.source);
            text.push_str(&format!(
                "===== boot {attempt} of {server}, {source}, from {at} =====\n"
            ));
        }
        text.push_str(&piece.text);
    }
    text
}

async fn open(config: &ConfigPath) -> anyhow::Result<Store> {
    let config = Config::load(&config.config)?;
    Ok(Store::open(&config.store).await?)
}

async fn history(store: &Store, lease: &LeaseId) -> anyhow::Result<Vec<LeaseEvent>> {
    let mut events: Vec<LeaseEvent> = Vec::new();
    loop {
        let last = events.last().map_or(0, |event| event.sequence);
        let more = store.events(lease, last).await?;
        if more.is_empty() {
            return Ok(events);
        }
        events.extend(more);
    }
}

fn told(events: &[LeaseEvent]) -> Table {
    let mut table = Table::new(&["AT", "STATE", "WHAT"]);
    for event in events {
        table.row([clock(event.at), event.state.to_string(), describe(&event.what)]);
    }
    table
}

pub(super) fn in_json(record: &LeaseRecord) -> Value {
    let lease = &record.lease;
    json!({
        "id": record.id,
        "tenant": record.tenant,
        "server": lease.server,
        "state": lease.phase.state(),
        "since": lease.since,
        "deadline": lease.deadline,
        "expires": lease.term.expires,
        "failed_servers": lease.failed,
        "attempt": lease.phase.attempt(),
        "reason": lease.reason,
    })
}

/// How long the tenant still has the server.
fn left(now: Timestamp, lease: &Lease) -> String {
    if !lease.phase.has_term() {
        return "-".to_owned();
    }
    match lease.term.expires.since(now).as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn table(records: &[LeaseRecord], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "LEASE", "TENANT", "SERVER", "STATE", "SINCE", "LEFT", "BOOTS", "WHY",
    ]);
    for record in records {
        let lease = &record.lease;
        table.row([
            record.id.to_string(),
            record.tenant.to_string(),
            lease.server.to_string(),
            lease.phase.state().to_string(),
            ago(now, lease.since),
            left(now, lease),
            lease.phase.attempt().to_string(),
            lease.reason.clone(),
        ]);
    }
    table
}
