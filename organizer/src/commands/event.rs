//! `leaseboot-po event`: raises and resolves events by hand, for scripts and for trying a policy.

use super::{ConfigArg, block_on};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use leaseboot_po::events::{Known, Status};
use leaseboot_po::policy::control::RaiseRequest;
use std::process::ExitCode;

/// Raise an event by hand, say that one is over, or show what stands
#[derive(Args)]
pub(crate) struct EventCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Say that something stands
    Raise(Named),
    /// Say that something is over
    Resolve(Named),
    /// Show what was raised
    List(Listed),
}

#[derive(Args)]
struct Named {
    #[command(flatten)]
    config: ConfigArg,
    /// The event's name; or, of one that `event list` shows, its key
    event: String,
    /// A label, as NAME=VALUE; may be repeated. The same name and labels are the same event
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

#[derive(Args)]
struct Listed {
    #[command(flatten)]
    config: ConfigArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a label as NAME=VALUE".to_owned()),
    }
}

impl EventCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Raise(named) => say(named, Status::Firing),
            What::Resolve(named) => say(named, Status::Resolved),
            What::List(listed) => list(&listed),
        }
    }
}

fn say(named: Named, status: Status) -> anyhow::Result<ExitCode> {
    let client = named.config.client()?;
    let request = RaiseRequest {
        event: named.event,
        labels: named.labels.into_iter().collect(),
        status,
    };
    block_on(async { Ok(client.raise(&request).await?) })?;
    Ok(ExitCode::SUCCESS)
}

fn list(listed: &Listed) -> anyhow::Result<ExitCode> {
    let client = listed.config.client()?;
    let events = block_on(async { Ok(client.events().await?) })?;
    match listed.json {
        true => println!(
            "{}",
            serde_json::to_string_pretty(&events).context("events are JSON")?
        ),
        false => events.iter().for_each(|known| println!("{}", line(known))),
    }
    Ok(ExitCode::SUCCESS)
}

fn line(known: &Known) -> String {
    let status = match known.event.status {
        Status::Firing => "stands",
        Status::Resolved => "over",
    };
    format!("{}  {status:<6}  {}", known.event.key, known.event)
}
