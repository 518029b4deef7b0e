//! The way back of a server: into the agent's wipe mode, through the erasure, and off. The chart is in the parent module.
//!
//! A server that was booted for a tenant goes this way whatever ended its lease, because the tenant's data may be on it. Only one that
//! failed does not: somebody must look at it first, and says then that it is erased.

use super::transition::{POWER_PAUSE, Transition, first, let_go, power};
use super::{Effect, OutOfPlace, Phase, Release, Return, Step};
use crate::power::PowerOrder;
use leaseboot_protocol::agent::Outcome;
use leaseboot_protocol::lease::{EventKind, Step as AgentStep};
use std::time::Duration;

impl Transition<'_> {
    pub(super) fn released(self) -> Step {
        match self.lease.phase.has_term() {
            true => self.send_back("the enterprise gave the server back", None),
            false => self.unchanged(Vec::new()),
        }
    }

    /// The lease is over for the tenant, for the reason `why`; `failure` when that is one.
    pub(super) fn send_back(self, why: &str, failure: Option<String>) -> Step {
        match self.lease.phase {
            Phase::Leased | Phase::Prepared => self.end_untouched(why),
            Phase::Moving { attempt } => self.enter(Phase::Ended { attempt }, why, Vec::new()),
            _ => {
                let back = Return {
                    attempt: self.lease.phase.attempt(),
                    tries: 1,
                    failure,
                };
                self.send_into_wipe_mode(back, why, Duration::ZERO)
            }
        }
    }

    fn send_into_wipe_mode(self, back: Return, why: &str, after: Duration) -> Step {
        let effects = vec![Effect::RevokeTokens, power(PowerOrder::NetworkBootOnce, after)];
        self.enter(Phase::Returning(back), why, effects)
    }

    /// The agent says hello in wipe mode. When it did so before, the server restarted by itself, which counts.
    pub(super) fn wiper_speaks(self) -> Step {
        match self.lease.phase.clone() {
            Phase::Returning(back) => {
                self.enter(Phase::Wiping(back), "the agent runs in wipe mode", Vec::new())
            }
            Phase::Wiping(back) if back.tries < self.rules.attempts.get() => {
                let back = Return {
                    tries: back.tries + 1,
                    ..back
                };
                let why = "the server restarted by itself; the agent erases it anew";
                self.enter(Phase::Wiping(back), why, Vec::new())
            }
            _ => self.wipe_failed("the server restarted by itself during the erasure"),
        }
    }

    pub(super) fn wiper_reported(self, step: AgentStep, outcome: Outcome, recorded: Vec<Effect>) -> Step {
        match outcome {
            Outcome::Failed {
                error,
                retrying: false,
                ..
            } => {
                let why = format!("{step} failed: {}", first(error));
                self.wipe_again(&why, Duration::ZERO).preceded_by(recorded)
            }
            // What moves is slow, not stuck.
            Outcome::Progress { .. } | Outcome::Finished { .. } => self.with_new_deadline(recorded),
            _ => self.unchanged(recorded),
        }
    }

    pub(super) fn wipe_again(self, why: &str, after: Duration) -> Step {
        match self.lease.phase.clone() {
            Phase::Returning(back) | Phase::Wiping(back) if back.tries < self.rules.attempts.get() => {
                let back = Return {
                    tries: back.tries + 1,
                    ..back
                };
                let why = format!(
                    "{why}; boot {} of {} into wipe mode",
                    back.tries, self.rules.attempts
                );
                self.send_into_wipe_mode(back, &why, after)
            }
            _ => self.wipe_failed(why),
        }
    }

    /// The lease ends all the same: what is left is between the lender and its server.
    fn wipe_failed(self, why: &str) -> Step {
        let why = format!("the server could not be erased: {why}");
        let (phase, why) = self.end(&why);
        self.enter(phase, &why, let_go(Release::Quarantined(why.clone())))
    }

    /// The agent's report is taken. It comes again when its answer was lost.
    pub(super) fn erased(self, disks: u32, faults: Vec<String>) -> Result<Step, OutOfPlace> {
        let back = match &self.lease.phase {
            Phase::Wiping(back) => back.clone(),
            Phase::Erased { .. } => return Ok(self.unchanged(Vec::new())),
            _ => return Err(self.out_of_place("an erasure is reported only by an agent in wipe mode")),
        };
        let why = match faults.as_slice() {
            [] => "every disk is erased".to_owned(),
            faults => format!("not every disk is erased: {}", faults.join("; ")),
        };
        let recorded = Effect::Record(EventKind::Erased {
            disks,
            faults: faults.clone(),
        });
        let phase = Phase::Erased {
            back,
            faults,
            offs: 1,
        };
        let step = self.enter(phase, &why, vec![power(PowerOrder::Off, Duration::ZERO)]);
        Ok(step.preceded_by(vec![recorded]))
    }

    pub(super) fn switched_off(self) -> Step {
        let faults = match &self.lease.phase {
            Phase::Erased { faults, .. } => faults.join("; "),
            _ => return self.unchanged(Vec::new()),
        };
        let (why, release) = match faults.as_str() {
            "" => ("the server is erased and off".to_owned(), Release::Erased),
            faults => {
                let why = format!("the server is quarantined, for not every disk is erased: {faults}");
                (why.clone(), Release::Quarantined(why))
            }
        };
        let (phase, why) = self.end(&why);
        self.enter(phase, &why, vec![Effect::RevokeTokens, Effect::LetGo(release)])
    }

    pub(super) fn switch_off_again(self, why: &str, after: Duration) -> Step {
        match self.lease.phase.clone() {
            Phase::Erased { back, faults, offs } if offs < self.rules.attempts.get() => {
                let phase = Phase::Erased {
                    back,
                    faults,
                    offs: offs + 1,
                };
                self.enter(phase, why, vec![power(PowerOrder::Off, after.max(POWER_PAUSE))])
            }
            _ => {
                let why = format!("the server cannot be switched off: {why}");
                let (phase, why) = self.end(&why);
                let held = vec![
                    Effect::RevokeTokens,
                    Effect::LetGo(Release::Quarantined(why.clone())),
                ];
                self.enter(phase, &why, held)
            }
        }
    }

    /// How the lease ends, and why, in words: a failure that came before goes before what became of the server.
    fn end(&self, why: &str) -> (Phase, String) {
        let attempt = self.lease.phase.attempt();
        let failure = match &self.lease.phase {
            Phase::Returning(back) | Phase::Wiping(back) | Phase::Erased { back, .. } => {
                back.failure.as_ref()
            }
            _ => None,
        };
        match failure {
            Some(failure) => (Phase::Failed { attempt }, format!("{failure}; {why}")),
            None => (Phase::Ended { attempt }, why.to_owned()),
        }
    }
}
