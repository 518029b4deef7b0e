//! Where the time of a transfer goes: the states of its lease, with the bytes that the server received in each.

use crate::events::History;
use crate::machine::Machine;
use anyhow::Result;
use leaseboot_protocol::lease::{EventKind, LeaseState};
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use std::time::{Duration, Instant};

/// One state of a lease, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What happened in it, for people.
    pub name: &'static str,
    /// The state.
    pub state: LeaseState,
    /// How long the lease stood in it, by the LM's clock.
    pub seconds: f64,
    /// Bytes that the server received from the wire, of whatever kind.
    pub received_bytes: u64,
}

/// A step of the agent, as it measured itself.
#[derive(Clone, Debug, Serialize)]
pub struct AgentStep {
    /// The step.
    pub step: String,
    /// Seconds.
    pub seconds: f64,
    /// Bytes that the step moved.
    pub bytes: u64,
}

struct Turn {
    state: LeaseState,
    at: Timestamp,
    received: u64,
}

/// Follows a lease until it is in service or over, and measures its phases.
pub async fn measure(history: &mut History, machine: &Machine, within: Duration) -> Result<Vec<Phase>> {
    let deadline = Instant::now() + within;
    let mut turns: Vec<Turn> = Vec::new();
    loop {
        let batch = history.read().await?;
        let received = machine.received_bytes().await?;
        for event in batch.events {
            let new = turns.last().is_none_or(|last| last.state != event.state);
            if new && matches!(event.what, EventKind::Transition { .. }) {
                turns.push(Turn {
                    state: event.state,
                    at: event.at,
                    received,
                });
            }
        }
        let over = batch.lease.state == LeaseState::InService || batch.lease.state.is_final();
        if over && turns.last().is_some_and(|last| last.state == batch.lease.state) {
            break;
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the lease still stands at '{}' after {} s: {}",
            batch.lease.state,
            within.as_secs(),
            batch.lease.reason
        );
    }
    let pairs = turns.windows(2).map(|pair| Phase {
        name: name(pair[0].state),
        state: pair[0].state,
        seconds: pair[1].at.since(pair[0].at).as_secs_f64(),
        received_bytes: pair[1].received.saturating_sub(pair[0].received),
    });
    Ok(pairs.collect())
}

/// The agent's steps that ended well.
#[allow(clippy::cast_precision_loss)]
pub fn agent_steps(history: &History) -> Vec<AgentStep> {
    let steps = history.events().iter().filter_map(|event| match &event.what {
        EventKind::StepFinished { step, took_ms, bytes } => Some(AgentStep {
            step: step.to_string(),
            seconds: *took_ms as f64 / 1000.0,
            bytes: *bytes,
        }),
        _ => None,
    });
    steps.collect()
}

fn name(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Moving => "another server is awaited",
        LeaseState::Leased => "search, settings and merge",
        LeaseState::Prepared => "look at the merge, order the boot",
        LeaseState::Booting => "firmware, boot loader, kernel, drivers",
        LeaseState::Stage1 => "key and tunnel",
        LeaseState::TunnelUp => "kickstart, sealed values, kernel, initrd",
        LeaseState::Chained => "kexec and tunnel in stage 2",
        LeaseState::Installing => "installation through the tunnel",
        LeaseState::Installed => "reboot from disk, own tunnel",
        LeaseState::InService => "in service",
        LeaseState::Returning => "return",
        LeaseState::Wiping => "erasure",
        LeaseState::Ended | LeaseState::Failed | LeaseState::Unknown => "over",
    }
}
