//! `leaseboot-lm watch`: what happens to leases and servers, as it happens, until it is interrupted or nobody reads any more.
//!
//! The store is asked once a second, so this works beside any number of Lease Managers and needs no connection to one. A lease's
//! events are counted without gaps, so none is missed and none is told twice; a server is told when its custody is another one.

use super::ConfigPath;
use super::table::{clock, say};
use crate::config::Config;
use crate::lease::driver::now;
use crate::store::{Custody, LeaseRecord, ServerRecord, Store};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::{EventKind, LeaseEvent};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// How often the store is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows what happens to leases and servers
#[derive(Debug, clap::Args)]
pub struct Watch {
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Begin with what has happened so far to leases that are not over
    #[arg(long)]
    from_start: bool,
}

/// Runs the command.
///
/// # Errors
/// When configuration or store cannot be read.
pub async fn run(watch: &Watch) -> anyhow::Result<()> {
    let config = Config::load(&watch.config.config)?;
    let store = Store::open(&config.store).await?;
    let mut seen = Seen::default();
    seen.begin(&store, watch.from_start).await?;
    loop {
        for news in seen.news(&store).await? {
            let reads = match watch.json {
                true => say(format_args!("{}\n", news.json()))?,
                false => say(format_args!("{}\n", news.line()))?,
            };
            if !reads {
                store.close().await;
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was told already.
#[derive(Default)]
struct Seen {
    /// The last event of each lease.
    events: HashMap<LeaseId, u64>,
    custody: HashMap<ServerId, Custody>,
}

/// Something to tell.
enum News {
    Lease(Box<LeaseRecord>, LeaseEvent),
    Server(Box<ServerRecord>),
}

impl Seen {
    async fn begin(&mut self, store: &Store, from_start: bool) -> anyhow::Result<()> {
        for record in store.leases().await? {
            if !from_start || record.lease.phase.state().is_final() {
                self.events.insert(record.id.clone(), record.events());
            }
        }
        for record in store.servers().await? {
            self.custody.insert(record.name, record.custody);
        }
        Ok(())
    }

    async fn news(&mut self, store: &Store) -> anyhow::Result<Vec<News>> {
        let mut news = Vec::new();
        for record in store.leases().await? {
            let last = self.events.entry(record.id.clone()).or_default();
            while record.events() > *last {
                let events = store.events(&record.id, *last).await?;
                let Some(newest) = events.last() else { break };
                *last = newest.sequence;
                news.extend(
                    events
                        .into_iter()
                        .map(|event| News::Lease(record.clone().into(), event)),
                );
            }
        }
        for record in store.servers().await? {
            if self.custody.insert(record.name.clone(), record.custody) != Some(record.custody) {
                news.push(News::Server(record.into()));
            }
        }
        Ok(news)
    }
}

impl News {
    fn line(&self) -> String {
        match self {
            News::Lease(record, event) => {
                let (at, id, server) = (clock(event.at), &record.id, &record.lease.server);
                format!(
                    "{at}  {id}  {server}  {:12}  {}",
                    event.state,
                    describe(&event.what)
                )
            }
            News::Server(record) => {
                let at = clock(record.since);
                format!("{at}  {}  is {}: {}", record.name, record.custody, record.reason)
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            News::Lease(record, event) => json!({
                "lease": record.id,
                "tenant": record.tenant,
                "server": record.lease.server,
                "event": event,
            }),
            News::Server(record) => json!({
                "server": record.name,
                "custody": record.custody,
                "reason": record.reason,
                "since": record.since,
                "told": now(),
            }),
        }
    }
}

/// An event in words.
pub(super) fn describe(what: &EventKind) -> String {
    match what {
        EventKind::Transition { reason } => reason.clone(),
        EventKind::AgentKey { key } => format!("the agent's key is {key}"),
        EventKind::StepStarted { step } => format!("{step} begins"),
        EventKind::StepProgress { step, bytes, total } => match total {
            Some(total) => format!("{step}: {bytes} of {total} bytes"),
            None => format!("{step}: {bytes} bytes"),
        },
        EventKind::StepFinished { step, took_ms, bytes } => {
            format!("{step} done in {took_ms} ms, {bytes} bytes")
        }
        EventKind::StepFailed {
            step,
            error,
            retrying,
            ..
        } => {
            let again = if *retrying { "; the agent tries again" } else { "" };
            format!("{step} failed: {}{again}", error.join(": "))
        }
        EventKind::StepNote { step, note } => format!("{step}: {note}"),
        EventKind::Moved { from, to } => format!("the lease moves from {from} to {to}"),
        EventKind::Renewed { .. } => "the lease is renewed".to_owned(),
        EventKind::ExpiresSoon { .. } => "the term of the lease ends soon".to_owned(),
        EventKind::Erased { disks, faults } if faults.is_empty() => format!("{disks} disks are erased"),
        EventKind::Erased { faults, .. } => faults.join("; "),
        EventKind::Power { order, error: None } => format!("power {order} done"),
        EventKind::Power {
            order,
            error: Some(error),
        } => format!("power {order} failed: {error}"),
        other => serde_json::to_string(other).unwrap_or_else(|_| "an event".to_owned()),
    }
}
