//! A transfer's phases with seconds and bytes, folded from its notes. Pure: the same notes give the same phases, live or afterwards.
//!
//! | phase | from | to | clock |
//! |---|---|---|---|
//! | search | borrowing began | lease granted | PO |
//! | merge | lease granted | boot ordered | PO |
//! | power + firmware | server booting | agent's hello | LM |
//! | a step of stage 1 | | | the agent's own |
//! | stage 2 | chained | the wrapper's word | LM |
//! | installation | the wrapper's word | member's key | LM |
//! | reboot | member's key | in service | LM, or the PO while the LM has not told |
//!
//! The agent's first steps run before its hello, so their seconds are also part of power + firmware.

mod lender;

use super::{Note, Progress};
use crate::borrowing::machine::Outcome;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A phase of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The LM looks for a server.
    Search,
    /// The LM merges, the PO agrees and orders the boot.
    Merge,
    /// From the power order to the agent's first word.
    Firmware,
    /// The enterprise's kernel starts, and the wrapper in it.
    Stage2,
    /// The enterprise's installer runs.
    Installation,
    /// The installed system starts from its disk.
    Reboot,
    /// A step of the agent in stage 1.
    #[serde(untagged)]
    Step(Step),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Search => "search",
            Phase::Merge => "merge",
            Phase::Firmware => "power + firmware",
            Phase::Step(step) => return step.fmt(f),
            Phase::Stage2 => "stage 2",
            Phase::Installation => "installation",
            Phase::Reboot => "reboot",
        })
    }
}

/// A phase that is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// The boot attempt that it belongs to, counted from 1.
    pub attempt: u32,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes that it moved.
    pub bytes: u64,
    /// Whether it failed.
    pub failed: bool,
    /// What came of it, in words.
    pub detail: String,
}

/// How a transfer ended for somebody who waits for the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum End {
    /// The server serves.
    InService {
        /// Its name.
        hostname: Hostname,
        /// Its address.
        address: IpAddr,
    },
    /// It went wrong.
    Failed {
        /// What, and what to do.
        reason: String,
    },
    /// Somebody gave the server back.
    Released,
}

/// The last failure of a step, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepFailure {
    /// The step.
    pub step: Step,
    /// The error and its causes, outermost first.
    pub error: Vec<String>,
    /// The last lines of the server's kernel log.
    pub kernel_log: Vec<String>,
}

/// What a note means for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A phase began.
    Started(Phase),
    /// A phase moved bytes.
    Moved {
        /// Which.
        phase: Phase,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// A phase ended.
    Finished(PhaseRecord),
    /// A phase was cut short by a new boot attempt.
    Dropped(Phase),
    /// Something to say.
    Notice(String),
}

struct Running {
    phase: Phase,
    /// By the PO's clock.
    ours: Timestamp,
    /// By the LM's clock, when it told.
    theirs: Option<Timestamp>,
    detail: String,
}

/// All phases of one transfer.
#[derive(Default)]
pub struct Phases {
    records: Vec<PhaseRecord>,
    running: Vec<Running>,
    attempt: u32,
    /// Whether a boot attempt has begun.
    booted: bool,
    began: Option<Timestamp>,
    last: Timestamp,
    end: Option<End>,
    lender_agrees: bool,
    failure: Option<StepFailure>,
}

impl Phases {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            attempt: 1,
            ..Self::default()
        }
    }

    /// The phases that are over, in order of their ends.
    pub fn records(&self) -> &[PhaseRecord] {
        &self.records
    }

    /// How the transfer ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether the LM's last word is in, so that all times are the LM's.
    pub fn is_complete(&self) -> bool {
        self.end.is_some() && (self.lender_agrees || !matches!(self.end, Some(End::InService { .. })))
    }

    /// The last step that failed.
    pub fn failure(&self) -> Option<&StepFailure> {
        self.failure.as_ref()
    }

    /// From the first note to the last, by the PO's clock.
    pub fn total(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| self.last.since(began))
    }

    /// Takes the next note.
    pub fn take(&mut self, progress: &Progress) -> Vec<Update> {
        let at = progress.at;
        if self.end.is_none() {
            self.last = at;
        }
        match &progress.note {
            Note::Created {
                hostname, address, ..
            } => {
                self.began = Some(at);
                let notice = Update::Notice(format!("{hostname} will be at {address}"));
                vec![notice, self.start(Phase::Search, at, None)]
            }
            Note::Granted {
                lease,
                server,
                hardware,
            } => {
                let found = format!("{server} ({hardware}) as {lease}");
                let mut updates = self.finish(Phase::Search, at, None, 0, &found);
                updates.push(self.start(Phase::Merge, at, None));
                updates
            }
            Note::Agreed { lender_lines, .. } => {
                self.describe(Phase::Merge, format!("{lender_lines} lines are the lender's"));
                Vec::new()
            }
            Note::Ordered => {
                let mut updates = self.finish(Phase::Merge, at, None, 0, "");
                updates.push(self.start(Phase::Firmware, at, None));
                updates
            }
            Note::Lender { event } => self.hear(event, at),
            Note::InService { .. } | Note::Failed { .. } | Note::Releasing | Note::Over { .. } => {
                self.end = ended_by(&progress.note, self.end.take());
                Vec::new()
            }
            Note::Moved { server } => {
                let notice = Update::Notice(format!("the lease goes on with the server {server}"));
                vec![notice, self.start(Phase::Merge, at, None)]
            }
            Note::LenderSilent { error } => vec![Update::Notice(format!("{error}; trying again"))],
            Note::LenderChosen { lender, why } => {
                vec![Update::Notice(format!("{lender} is asked: {why}"))]
            }
            Note::LenderPassedOver { lender, why } => {
                vec![Update::Notice(format!("{lender} does not lend: {why}"))]
            }
            Note::LenderBack => vec![Update::Notice("the lease manager answers again".to_owned())],
            Note::PeerIn { .. }
            | Note::PeerOut { .. }
            | Note::MemberKey
            | Note::Unsealed { .. }
            | Note::MemberSeen
            | Note::Drained
            | Note::DrainFailed { .. }
            | Note::Erasure { .. }
            | Note::Unknown => Vec::new(),
        }
    }

    /// Closes what still runs, by the PO's clock: for somebody who does not wait for the LM's last word.
    pub fn close(&mut self) -> Vec<Update> {
        let last = self.last;
        let open: Vec<_> = self.running.iter().map(|running| running.phase).collect();
        let failed = matches!(self.end, Some(End::Failed { .. }));
        let mut updates = Vec::new();
        for phase in open {
            updates.extend(self.finish(phase, last, None, 0, ""));
        }
        if failed {
            let from = self.records.len() - updates.len();
            self.records[from..]
                .iter_mut()
                .for_each(|record| record.failed = true);
            updates = self.records[from..]
                .iter()
                .cloned()
                .map(Update::Finished)
                .collect();
        }
        updates
    }

    fn start(&mut self, phase: Phase, ours: Timestamp, theirs: Option<Timestamp>) -> Update {
        self.forget(phase);
        self.running.push(Running {
            phase,
            ours,
            theirs,
            detail: String::new(),
        });
        Update::Started(phase)
    }

    fn finish(
        &mut self,
        phase: Phase,
        ours: Timestamp,
        theirs: Option<Timestamp>,
        bytes: u64,
        detail: &str,
    ) -> Vec<Update> {
        let Some(at) = self.running.iter().position(|running| running.phase == phase) else {
            return Vec::new();
        };
        let running = self.running.remove(at);
        let took = running.took(ours, theirs);
        let detail = if detail.is_empty() {
            running.detail
        } else {
            detail.to_owned()
        };
        vec![self.record(phase, took, bytes, false, detail)]
    }

    fn record(&mut self, phase: Phase, seconds: f64, bytes: u64, failed: bool, detail: String) -> Update {
        let record = PhaseRecord {
            phase,
            attempt: self.attempt,
            seconds,
            bytes,
            failed,
            detail,
        };
        self.records.push(record.clone());
        Update::Finished(record)
    }

    fn running(&self, phase: Phase) -> Option<&Running> {
        self.running.iter().find(|running| running.phase == phase)
    }

    fn running_mut(&mut self, phase: Phase) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.phase == phase)
    }

    fn describe(&mut self, phase: Phase, detail: String) {
        if let Some(running) = self.running_mut(phase) {
            running.detail = detail;
        } else if let Some(record) = self.records.iter_mut().rfind(|record| record.phase == phase) {
            record.detail = detail;
        }
    }

    fn forget(&mut self, phase: Phase) {
        self.running.retain(|running| running.phase != phase);
    }
}

impl Running {
    /// By the LM's clock when it told both ends, by ours otherwise: the two are never mixed.
    fn took(&self, ours: Timestamp, theirs: Option<Timestamp>) -> f64 {
        match (self.theirs, theirs) {
            (Some(began), Some(ended)) => ended.since(began).as_secs_f64(),
            _ => ours.since(self.ours).as_secs_f64(),
        }
    }
}

/// The end after a note; that a borrowing is over says less than what was said before it.
fn ended_by(note: &Note, before: Option<End>) -> Option<End> {
    let end = match note {
        Note::InService { hostname, address } => End::InService {
            hostname: hostname.clone(),
            address: *address,
        },
        Note::Failed { reason } => End::Failed {
            reason: reason.clone(),
        },
        Note::Releasing => End::Released,
        Note::Over { outcome } => before.unwrap_or_else(|| match outcome {
            Outcome::Released => End::Released,
            Outcome::Failed { reason } => End::Failed {
                reason: reason.clone(),
            },
        }),
        _ => return before,
    };
    Some(end)
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

#[cfg(test)]
mod tests;
