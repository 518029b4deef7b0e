//! What goes wrong on the way: time that runs out, boots that fail, and servers that are given up.

use super::transition::{Transition, let_go, power};
use super::{Effect, Phase, Release, Step};
use crate::power::PowerOrder;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::lease::{EventKind, Step as AgentStep};
use std::time::Duration;

impl Transition<'_> {
    pub(super) fn deadline_passed(self) -> Step {
        match self.lease.deadline.is_some_and(|deadline| deadline <= self.now) {
            true => self.state_took_too_long(),
            false => self.term_passed(),
        }
    }

    fn term_passed(mut self) -> Step {
        if !self.lease.phase.has_term() {
            return self.unchanged(Vec::new());
        }
        let expires = self.lease.term.expires;
        if expires <= self.now {
            return self.send_back("the term of the lease ended", None);
        }
        if self.lease.term.warning.is_some_and(|at| at <= self.now) {
            self.lease.term.warning = None;
            return self.unchanged(vec![Effect::Record(EventKind::ExpiresSoon { expires })]);
        }
        self.unchanged(Vec::new())
    }

    fn state_took_too_long(self) -> Step {
        let waited = self.now.since(self.lease.since).as_secs();
        let awaited = self
            .rules
            .deadlines
            .wait(&self.lease.phase)
            .map_or("nothing is awaited", |wait| wait.awaited);
        let why = format!(
            "nothing came within {waited} s in the state {}: {awaited}",
            self.lease.phase.state()
        );
        match self.lease.phase {
            Phase::Leased | Phase::Prepared => self.end_untouched(&why),
            Phase::Moving { attempt } => {
                let why = format!("{why}; the lease failed on {}", self.names_of_failed());
                self.enter(Phase::Failed { attempt }, &why, Vec::new())
            }
            Phase::Installed { .. } => self.restart(&why, Duration::ZERO, Vec::new()),
            Phase::Returning(_) | Phase::Wiping(_) => self.wipe_again(&why, Duration::ZERO),
            Phase::Erased { .. } => self.switch_off_again(&why, Duration::ZERO),
            _ => self.retry(&why, Duration::ZERO, Vec::new()),
        }
    }

    fn names_of_failed(&self) -> String {
        let names: Vec<_> = self.lease.failed.iter().map(ServerId::as_str).collect();
        names.join(", ")
    }

    /// A step of the agent failed for good. What fails between server and enterprise would fail on the next server too.
    pub(super) fn boot_failed(self, step: AgentStep, error: &str, recorded: Vec<Effect>) -> Step {
        let why = format!("{step} failed: {error}");
        let is_enterprises = (AgentStep::Tunnel..AgentStep::Kexec).contains(&step);
        if is_enterprises && self.lease.phase.attempt() >= self.rules.attempts.get() {
            return self.send_back(&why, Some(why.clone())).preceded_by(recorded);
        }
        self.retry(&why, Duration::ZERO, recorded)
    }

    /// Sends the server through the boot once more, or gives the server up.
    pub(super) fn retry(self, why: &str, after: Duration, recorded: Vec<Effect>) -> Step {
        let attempt = self.lease.phase.attempt();
        let step = if attempt < self.rules.attempts.get() {
            self.send_through_boot(attempt + 1, why, after)
        } else {
            self.server_failed(why)
        };
        step.preceded_by(recorded)
    }

    pub(super) fn send_through_boot(self, attempt: u32, why: &str, after: Duration) -> Step {
        let handover = self.lease.phase.next_handover();
        let other = self.lease.phase.boot().map(|boot| boot.handover) != handover;
        let effects = vec![Effect::RevokeTokens, power(PowerOrder::NetworkBootOnce, after)];
        let why = match attempt {
            1 => why.to_owned(),
            _ => format!("{why}; boot {attempt} of {}", self.rules.attempts),
        };
        let why = match handover {
            Some(handover) if other => format!("{why}, by way of {handover}"),
            _ => why,
        };
        self.enter(Phase::Booting { attempt, handover }, &why, effects)
    }

    /// The installed system is given another start from its disk, or the lease is given up.
    pub(super) fn restart(self, why: &str, after: Duration, recorded: Vec<Effect>) -> Step {
        let step = match self.lease.phase {
            Phase::Installed { attempt, restarts } if restarts < self.rules.attempts.get() => {
                let phase = Phase::Installed {
                    attempt,
                    restarts: restarts + 1,
                };
                self.enter(phase, why, vec![power(PowerOrder::Cycle, after)])
            }
            _ => self.server_failed(why),
        };
        step.preceded_by(recorded)
    }

    /// The server is quarantined and switched off. The lease moves to another, or has failed.
    pub(super) fn server_failed(mut self, why: &str) -> Step {
        let attempt = self.lease.phase.attempt();
        let moves = u32::try_from(self.lease.failed.len()).unwrap_or(u32::MAX);
        let phase = match moves < self.rules.moves {
            true => Phase::Moving { attempt },
            false => Phase::Failed { attempt },
        };
        self.lease.failed.push(self.lease.server.clone());
        self.enter(phase, why, let_go(Release::Quarantined(why.to_owned())))
    }
}
