//! What each event does in each state. The chart stands in the parent module.

use super::{Boot, Effect, Event, Lease, OutOfPlace, Phase, Release, Step};
use crate::lease::Rules;
use crate::power::PowerOrder;
use leaseboot_protocol::agent::{Outcome, Report};
use leaseboot_protocol::lease::{EventKind, Step as AgentStep};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;

/// A failed power order is repeated after this much more time each time.
const POWER_PAUSE: Duration = Duration::from_secs(5);

/// One event being applied.
pub(super) struct Transition<'a> {
    pub(super) lease: Lease,
    pub(super) now: Timestamp,
    pub(super) rules: &'a Rules,
}

impl Transition<'_> {
    pub(super) fn on(self, event: Event) -> Result<Step, OutOfPlace> {
        match event {
            Event::SettingsMerged => self.settings_merged(),
            Event::BootOrdered => self.boot_ordered(),
            Event::Hello => Ok(self.hello()),
            Event::AgentKey(key) => self.agent_key(key),
            Event::Reported(report) => Ok(self.reported(report)),
            Event::WrongToken(error) => Ok(self.wrong_token(error)),
            Event::Unfit(why) => Ok(self.unfit(&why)),
            Event::MemberRegistered => self.member_registered(),
            Event::MemberSeen => self.member_seen(),
            Event::Released => Ok(self.released()),
            Event::PowerDone(order) => Ok(self.power_done(order)),
            Event::PowerFailed { order, error } => Ok(self.power_failed(order, &error)),
            Event::DeadlinePassed => Ok(self.deadline_passed()),
        }
    }

    fn settings_merged(self) -> Result<Step, OutOfPlace> {
        match self.lease.phase {
            Phase::Leased | Phase::Prepared => {
                Ok(self.enter(Phase::Prepared, "settings and hardware go together", Vec::new()))
            }
            _ => {
                Err(self
                    .out_of_place("settings are taken only before the boot is ordered; take another lease"))
            }
        }
    }

    fn boot_ordered(self) -> Result<Step, OutOfPlace> {
        match self.lease.phase {
            Phase::Leased => Err(self.out_of_place("send the install settings first")),
            Phase::Prepared => {
                Ok(self.send_through_boot(1, "the enterprise ordered the boot", Duration::ZERO))
            }
            Phase::Returning { .. } | Phase::Ended { .. } | Phase::Failed { .. } => {
                Err(self.out_of_place("it is over; take another lease"))
            }
            _ => Ok(self.unchanged(Vec::new())),
        }
    }

    fn hello(self) -> Step {
        match self.lease.phase {
            Phase::Booting { attempt } => {
                let boot = Boot { attempt, key: None };
                self.enter(Phase::Stage1(boot), "the agent runs", Vec::new())
            }
            Phase::Stage1(boot) | Phase::TunnelUp(boot) | Phase::Chained(boot) | Phase::Installing(boot) => {
                if boot.attempt >= self.rules.attempts.get() {
                    return self.give_up("the server restarted by itself");
                }
                let attempt = boot.attempt + 1;
                let boot = Boot { attempt, key: None };
                self.enter(
                    Phase::Stage1(boot),
                    "the server restarted by itself; the agent runs again",
                    Vec::new(),
                )
            }
            _ => self.unchanged(Vec::new()),
        }
    }

    fn agent_key(self, key: WireguardPublicKey) -> Result<Step, OutOfPlace> {
        let with = |boot: Boot| Boot {
            key: Some(key),
            ..boot
        };
        let phase = match self.lease.phase {
            Phase::Stage1(boot) => Phase::Stage1(with(boot)),
            Phase::TunnelUp(boot) => Phase::TunnelUp(with(boot)),
            _ => return Err(self.out_of_place("a key is taken only in stage 1")),
        };
        if phase == self.lease.phase {
            return Ok(self.unchanged(Vec::new()));
        }
        let mut step = self.unchanged(vec![Effect::Record(EventKind::AgentKey { key })]);
        step.lease.phase = phase;
        Ok(step)
    }

    fn reported(self, report: Report) -> Step {
        let step = report.step;
        let recorded = record(step, &report.outcome);
        let Some(boot) = self.lease.phase.boot() else {
            return self.unchanged(recorded);
        };
        match (step, report.outcome) {
            (
                _,
                Outcome::Failed {
                    error,
                    retrying: false,
                    ..
                },
            ) => {
                let first = error.into_iter().next().unwrap_or_default();
                self.retry(&format!("{step} failed: {first}"), Duration::ZERO, recorded)
            }
            (AgentStep::Tunnel, Outcome::Finished { .. }) => self.advance(
                Phase::TunnelUp(boot),
                "the agent has reached the enterprise",
                recorded,
            ),
            (AgentStep::Kexec, Outcome::Started | Outcome::Finished { .. })
            | (AgentStep::Initrd, Outcome::Finished { .. })
            | (AgentStep::Wrapper, Outcome::Started) => {
                let why = "kernel, initrd and kickstart are verified";
                self.advance(Phase::Chained(boot), why, recorded)
            }
            (AgentStep::Wrapper, Outcome::Finished { .. }) => self.advance(
                Phase::Installing(boot),
                "the wrapper speaks from stage 2",
                recorded,
            ),
            (_, Outcome::Progress { .. } | Outcome::Finished { .. }) if step < AgentStep::Kexec => {
                // What moves is slow, not stuck.
                self.with_new_deadline(recorded)
            }
            _ => self.unchanged(recorded),
        }
    }

    /// Somebody may be guessing, so it is written down; it moves nothing, or anybody on the wire could end a
    /// transfer.
    fn wrong_token(self, error: String) -> Step {
        if self.lease.phase.state().is_final() {
            return self.unchanged(Vec::new());
        }
        self.unchanged(vec![Effect::Record(EventKind::StepFailed {
            step: AgentStep::Hello,
            error: vec![error],
            kernel_log: Vec::new(),
            retrying: true,
        })])
    }

    fn unfit(self, why: &str) -> Step {
        match self.lease.phase.boots_agent() {
            true => self.give_up(why),
            false => self.unchanged(Vec::new()),
        }
    }

    fn member_registered(self) -> Result<Step, OutOfPlace> {
        match self.lease.phase {
            Phase::Chained(Boot { attempt, .. }) | Phase::Installing(Boot { attempt, .. }) => {
                let phase = Phase::Installed { attempt, restarts: 0 };
                Ok(self.enter(
                    phase,
                    "the member's key is registered",
                    vec![Effect::RevokeTokens],
                ))
            }
            Phase::Installed { .. } | Phase::InService { .. } => Ok(self.unchanged(Vec::new())),
            _ => Err(self.out_of_place("there is no installation that could be complete")),
        }
    }

    fn member_seen(self) -> Result<Step, OutOfPlace> {
        match self.lease.phase {
            Phase::Chained(Boot { attempt, .. })
            | Phase::Installing(Boot { attempt, .. })
            | Phase::Installed { attempt, .. } => {
                let why = "the member was seen in the enterprise";
                Ok(self.enter(Phase::InService { attempt }, why, vec![Effect::RevokeTokens]))
            }
            Phase::InService { .. } => Ok(self.unchanged(Vec::new())),
            _ => Err(self.out_of_place("there is no installed system that could be in service")),
        }
    }

    fn released(self) -> Step {
        match self.lease.phase {
            Phase::Leased | Phase::Prepared => self.end_untouched("the enterprise gave the server back"),
            Phase::Returning { .. } | Phase::Ended { .. } | Phase::Failed { .. } => {
                self.unchanged(Vec::new())
            }
            _ => {
                let phase = Phase::Returning {
                    attempt: self.lease.phase.attempt(),
                    tries: 1,
                };
                self.enter(
                    phase,
                    "the enterprise gave the server back",
                    vec![power(PowerOrder::Off, Duration::ZERO)],
                )
            }
        }
    }

    fn power_done(self, order: PowerOrder) -> Step {
        let recorded = vec![Effect::Record(EventKind::Power {
            order: order.to_string(),
            error: None,
        })];
        match (&self.lease.phase, order) {
            (Phase::Returning { attempt, .. }, PowerOrder::Off) => {
                let phase = Phase::Ended { attempt: *attempt };
                let let_go = [Effect::RevokeTokens, Effect::LetGo(Release::ToBeErased)];
                let effects = recorded.into_iter().chain(let_go).collect();
                self.enter(
                    phase,
                    "the server is off and held back until it is erased",
                    effects,
                )
            }
            // The time that the controller took is not the server's.
            (Phase::Booting { .. } | Phase::Installed { .. }, _) => self.with_new_deadline(recorded),
            _ => self.unchanged(recorded),
        }
    }

    fn power_failed(self, order: PowerOrder, error: &str) -> Step {
        let recorded = vec![Effect::Record(EventKind::Power {
            order: order.to_string(),
            error: Some(error.to_owned()),
        })];
        let why = format!("the power order \"{order}\" failed: {error}");
        match self.lease.phase {
            Phase::Booting { attempt } => self.retry(&why, POWER_PAUSE * attempt, recorded),
            Phase::Installed { restarts, .. } => self.restart(&why, POWER_PAUSE * restarts.max(1), recorded),
            Phase::Returning { tries, .. } => self.switch_off_again(&why, POWER_PAUSE * tries, recorded),
            _ => self.unchanged(recorded),
        }
    }

    fn deadline_passed(self) -> Step {
        let Some(deadline) = self.lease.deadline.filter(|deadline| *deadline <= self.now) else {
            return self.unchanged(Vec::new());
        };
        let waited = deadline.since(self.lease.since).as_secs();
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
            Phase::Installed { .. } => self.restart(&why, Duration::ZERO, Vec::new()),
            Phase::Returning { .. } => self.switch_off_again(&why, Duration::ZERO, Vec::new()),
            _ => self.retry(&why, Duration::ZERO, Vec::new()),
        }
    }

    /// Sends the server through the boot once more, or gives up.
    fn retry(self, why: &str, after: Duration, recorded: Vec<Effect>) -> Step {
        let attempt = self.lease.phase.attempt();
        let step = if attempt < self.rules.attempts.get() {
            self.send_through_boot(attempt + 1, why, after)
        } else {
            self.give_up(why)
        };
        step.preceded_by(recorded)
    }

    fn send_through_boot(self, attempt: u32, why: &str, after: Duration) -> Step {
        let effects = vec![Effect::RevokeTokens, power(PowerOrder::NetworkBootOnce, after)];
        let why = match attempt {
            1 => why.to_owned(),
            _ => format!("{why}; boot {attempt} of {}", self.rules.attempts),
        };
        self.enter(Phase::Booting { attempt }, &why, effects)
    }

    /// The installed system is given another start from its disk, or the lease is given up.
    fn restart(self, why: &str, after: Duration, recorded: Vec<Effect>) -> Step {
        let step = match self.lease.phase {
            Phase::Installed { attempt, restarts } if restarts < self.rules.attempts.get() => {
                let phase = Phase::Installed {
                    attempt,
                    restarts: restarts + 1,
                };
                self.enter(phase, why, vec![power(PowerOrder::Cycle, after)])
            }
            _ => self.give_up(why),
        };
        step.preceded_by(recorded)
    }

    fn switch_off_again(self, why: &str, after: Duration, recorded: Vec<Effect>) -> Step {
        let step = match self.lease.phase {
            Phase::Returning { attempt, tries } if tries < self.rules.attempts.get() => {
                let phase = Phase::Returning {
                    attempt,
                    tries: tries + 1,
                };
                self.enter(phase, why, vec![power(PowerOrder::Off, after)])
            }
            _ => self.give_up(why),
        };
        step.preceded_by(recorded)
    }

    fn give_up(self, why: &str) -> Step {
        let phase = Phase::Failed {
            attempt: self.lease.phase.attempt(),
        };
        let effects = vec![
            Effect::RevokeTokens,
            Effect::LetGo(Release::Quarantined(why.to_owned())),
            power(PowerOrder::Off, Duration::ZERO),
        ];
        self.enter(phase, why, effects)
    }

    fn end_untouched(self, why: &str) -> Step {
        let phase = Phase::Ended {
            attempt: self.lease.phase.attempt(),
        };
        self.enter(
            phase,
            why,
            vec![Effect::RevokeTokens, Effect::LetGo(Release::Untouched)],
        )
    }

    /// Forwards only: reports may come late or twice.
    fn advance(self, phase: Phase, why: &str, recorded: Vec<Effect>) -> Step {
        if phase.state() <= self.lease.phase.state() {
            return self.unchanged(recorded);
        }
        self.enter(phase, why, Vec::new()).preceded_by(recorded)
    }

    pub(super) fn enter(self, phase: Phase, why: &str, effects: Vec<Effect>) -> Step {
        let wait = self.rules.deadlines.wait(&phase);
        let reason = match wait {
            Some(wait) => format!("{why}; {}", wait.awaited),
            None => why.to_owned(),
        };
        let transition = Effect::Record(EventKind::Transition {
            reason: why.to_owned(),
        });
        Step {
            lease: Lease {
                phase,
                since: self.now,
                reason,
                deadline: wait.map(|wait| self.now + wait.at_most),
            },
            effects: std::iter::once(transition).chain(effects).collect(),
        }
    }

    fn with_new_deadline(self, effects: Vec<Effect>) -> Step {
        let wait = self.rules.deadlines.wait(&self.lease.phase);
        let deadline = wait.map(|wait| self.now + wait.at_most);
        let mut step = self.unchanged(effects);
        step.lease.deadline = deadline;
        step
    }

    fn unchanged(self, effects: Vec<Effect>) -> Step {
        Step {
            lease: self.lease,
            effects,
        }
    }

    fn out_of_place(&self, advice: &'static str) -> OutOfPlace {
        OutOfPlace {
            state: self.lease.phase.state(),
            advice,
        }
    }
}

impl Step {
    /// A report stands in the history before what it brought about. The store writes the state after all of
    /// them beside each.
    fn preceded_by(mut self, mut recorded: Vec<Effect>) -> Self {
        recorded.append(&mut self.effects);
        self.effects = recorded;
        self
    }
}

fn power(order: PowerOrder, after: Duration) -> Effect {
    Effect::Power { order, after }
}

fn record(step: AgentStep, outcome: &Outcome) -> Vec<Effect> {
    let kind = match outcome.clone() {
        Outcome::Started => EventKind::StepStarted { step },
        Outcome::Progress { bytes, total } => EventKind::StepProgress { step, bytes, total },
        Outcome::Finished { took_ms, bytes } => EventKind::StepFinished { step, took_ms, bytes },
        Outcome::Failed {
            error,
            kernel_log,
            retrying,
        } => EventKind::StepFailed {
            step,
            error,
            kernel_log,
            retrying,
        },
        Outcome::Unknown => return Vec::new(),
    };
    vec![Effect::Record(kind)]
}
