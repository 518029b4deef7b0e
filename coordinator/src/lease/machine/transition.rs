//! What each event does on the way into service. The way back is in [`super::going_back`], what goes wrong in
//! [`super::trouble`], the chart in the parent module.

use super::history::record;
use super::second_way::{entered, works};
use super::{Boot, Effect, Event, Lease, OutOfPlace, Phase, Release, Step};
use crate::lease::Rules;
use crate::power::PowerOrder;
use leaseboot_protocol::agent::{Outcome, Report};
use leaseboot_protocol::handover::Handover;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::lease::{EventKind, Step as AgentStep};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;

/// A failed power order is repeated after this much more time each time.
pub(super) const POWER_PAUSE: Duration = Duration::from_secs(5);

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
            Event::Handover(handover) => Ok(self.handover(handover)),
            Event::AgentKey(key) => self.agent_key(key),
            Event::Staged(files) => self.staged(files),
            Event::Reported(report) => Ok(self.reported(report)),
            Event::Rescued(until) => Ok(self.rescued(until)),
            Event::WrongToken(error) => Ok(self.wrong_token(error)),
            Event::Unfit(why) => Ok(self.unfit(&why)),
            Event::MemberRegistered => self.member_registered(),
            Event::MemberSeen => self.member_seen(),
            Event::Renewed(term_s) => self.renewed(term_s),
            Event::Released => Ok(self.released()),
            Event::ServerFound(server) => self.server_found(server),
            Event::Erased { disks, faults } => self.erased(disks, faults),
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
            Phase::Moving { .. } => Err(self.out_of_place("wait for another server, and look at its merge")),
            _ if !self.lease.phase.has_term() => Err(self.out_of_place("it is over; take another lease")),
            _ => Ok(self.unchanged(Vec::new())),
        }
    }

    fn hello(self) -> Step {
        let begin = |attempt, handover: Option<Handover>| {
            Phase::Stage1(Boot {
                attempt,
                key: None,
                handover: handover.unwrap_or_default(),
                entered: false,
            })
        };
        let handover = self.lease.phase.next_handover();
        match &self.lease.phase {
            Phase::Booting { attempt, .. } => {
                let phase = begin(*attempt, handover);
                self.enter(phase, "the agent runs", Vec::new())
            }
            Phase::Returning(_) | Phase::Wiping(_) => self.wiper_speaks(),
            phase => match phase.boot() {
                Some(boot) if boot.attempt >= self.rules.attempts.get() => {
                    self.server_failed("the server restarted by itself")
                }
                Some(boot) => self.enter(
                    begin(boot.attempt + 1, handover),
                    "the server restarted by itself; the agent runs again",
                    Vec::new(),
                ),
                None => self.unchanged(Vec::new()),
            },
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
        if self.lease.phase.wipes() {
            return self.wiper_reported(step, report.outcome, recorded);
        }
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
            ) => self.boot_failed(step, &first(error), recorded),
            (AgentStep::Tunnel, Outcome::Finished { .. }) => self.advance(
                Phase::TunnelUp(boot),
                "the agent has reached the enterprise",
                recorded,
            ),
            (AgentStep::Kexec, Outcome::Started | Outcome::Finished { .. })
            | (AgentStep::Initrd, Outcome::Finished { .. }) => {
                let why = "all that the server is to run is verified";
                self.advance(Phase::Chained(boot), why, recorded)
            }
            // A written disk is entered by the firmware: whatever comes of it says nothing about kexec.
            (AgentStep::Image, Outcome::Finished { .. }) => {
                let why = "all that the server is to run is verified";
                self.advance(Phase::Chained(entered(boot)), why, recorded)
            }
            (AgentStep::Member, Outcome::Started) => self.advance(
                Phase::Installing(boot),
                "the member is left in the written disk",
                recorded,
            ),
            (AgentStep::Wrapper, Outcome::Started) => self.wrapper_begins(boot, recorded),
            (AgentStep::Wrapper, Outcome::Finished { .. }) => {
                let (phase, works) = (Phase::Installing(entered(boot)), works(boot));
                let recorded = recorded.into_iter().chain(works).collect();
                self.advance(phase, "the wrapper speaks from stage 2", recorded)
            }
            (_, Outcome::Progress { .. } | Outcome::Finished { .. }) if step < AgentStep::Kexec => {
                // What moves is slow, not stuck.
                self.with_new_deadline(recorded)
            }
            _ => self.unchanged(recorded),
        }
    }

    /// Nothing is awaited of an agent that stays, until its order ends. Only a boot can be held up so, and never for longer than the order says.
    fn rescued(mut self, until: Timestamp) -> Step {
        if self.lease.phase.boot().is_some() && self.lease.deadline.is_some_and(|deadline| deadline < until) {
            self.lease.deadline = Some(until);
            self.lease.reason = "the agent stays in rescue mode, as it was ordered to".to_owned();
        }
        self.unchanged(Vec::new())
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
        let installs = matches!(self.lease.phase, Phase::Booting { .. }) || self.lease.phase.boot().is_some();
        match installs {
            true => self.server_failed(why),
            false => self.unchanged(Vec::new()),
        }
    }

    fn member_registered(self) -> Result<Step, OutOfPlace> {
        match self.lease.phase {
            Phase::Chained(Boot { attempt, .. })
            | Phase::Staged {
                boot: Boot { attempt, .. },
                ..
            }
            | Phase::Installing(Boot { attempt, .. }) => {
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
            | Phase::Staged {
                boot: Boot { attempt, .. },
                ..
            }
            | Phase::Installing(Boot { attempt, .. })
            | Phase::Installed { attempt, .. } => {
                let why = "the member was seen in the enterprise";
                Ok(self.enter(Phase::InService { attempt }, why, vec![Effect::RevokeTokens]))
            }
            Phase::InService { .. } => Ok(self.unchanged(Vec::new())),
            _ => Err(self.out_of_place("there is no installed system that could be in service")),
        }
    }

    fn renewed(self, term_s: Option<u64>) -> Result<Step, OutOfPlace> {
        if !self.lease.phase.has_term() {
            return Err(self.out_of_place("the server goes back already; take another lease"));
        }
        let asked = self.rules.term.begin(term_s, self.now);
        if asked.expires <= self.lease.term.expires {
            // A renewal never shortens: two that cross on the way must not take the longer one back.
            return Ok(self.unchanged(Vec::new()));
        }
        let expires = asked.expires;
        let mut step = self.unchanged(vec![Effect::Record(EventKind::Renewed { expires })]);
        step.lease.term = asked;
        Ok(step)
    }

    /// The lease goes on with another server as if it had just been taken, its settings merged.
    fn server_found(mut self, server: ServerId) -> Result<Step, OutOfPlace> {
        if !matches!(self.lease.phase, Phase::Moving { .. }) {
            return Err(self.out_of_place("it needs no other server"));
        }
        let moved = Effect::Record(EventKind::Moved {
            from: self.lease.server.clone(),
            to: server.clone(),
        });
        let why = format!(
            "moved from {} to {server}; settings and hardware go together",
            self.lease.server
        );
        self.lease.server = server.clone();
        let step = self.enter(Phase::Prepared, &why, vec![Effect::Take(server)]);
        Ok(step.preceded_by(vec![moved]))
    }

    fn power_done(self, order: PowerOrder) -> Step {
        let recorded = vec![Effect::Record(EventKind::Power {
            order: order.to_string(),
            error: None,
        })];
        match (&self.lease.phase, order) {
            (Phase::Erased { .. }, PowerOrder::Off) => self.switched_off().preceded_by(recorded),
            // The time that the controller took is not the server's.
            (
                Phase::Booting { .. } | Phase::Staged { .. } | Phase::Installed { .. } | Phase::Returning(_),
                _,
            ) => self.with_new_deadline(recorded),
            _ => self.unchanged(recorded),
        }
    }

    fn power_failed(self, order: PowerOrder, error: &str) -> Step {
        let recorded = vec![Effect::Record(EventKind::Power {
            order: order.to_string(),
            error: Some(error.to_owned()),
        })];
        let why = format!("the power order \"{order}\" failed: {error}");
        match &self.lease.phase {
            Phase::Booting { attempt, .. } => {
                let pause = POWER_PAUSE * *attempt;
                self.retry(&why, pause, recorded)
            }
            Phase::Installed { restarts, .. } => {
                let pause = POWER_PAUSE * (*restarts).max(1);
                self.restart(&why, pause, recorded)
            }
            Phase::Returning(back) => {
                let pause = POWER_PAUSE * back.tries;
                self.wipe_again(&why, pause).preceded_by(recorded)
            }
            Phase::Erased { offs, .. } => {
                let pause = POWER_PAUSE * *offs;
                self.switch_off_again(&why, pause).preceded_by(recorded)
            }
            _ => self.unchanged(recorded),
        }
    }

    pub(super) fn end_untouched(self, why: &str) -> Step {
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
    pub(super) fn advance(self, phase: Phase, why: &str, recorded: Vec<Effect>) -> Step {
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
                ..self.lease
            },
            effects: std::iter::once(transition).chain(effects).collect(),
        }
    }

    pub(super) fn with_new_deadline(self, effects: Vec<Effect>) -> Step {
        let wait = self.rules.deadlines.wait(&self.lease.phase);
        let deadline = wait.map(|wait| self.now + wait.at_most);
        let mut step = self.unchanged(effects);
        step.lease.deadline = deadline;
        step
    }

    pub(super) fn unchanged(self, effects: Vec<Effect>) -> Step {
        Step {
            lease: self.lease,
            effects,
        }
    }

    pub(super) fn out_of_place(&self, advice: &'static str) -> OutOfPlace {
        OutOfPlace {
            state: self.lease.phase.state(),
            advice,
        }
    }
}

/// The server is let go and switched off.
pub(super) fn let_go(release: Release) -> Vec<Effect> {
    vec![
        Effect::RevokeTokens,
        Effect::LetGo(release),
        power(PowerOrder::Off, Duration::ZERO),
    ]
}

/// The outermost sentence of an error.
pub(super) fn first(error: Vec<String>) -> String {
    error.into_iter().next().unwrap_or_default()
}

impl Step {
    /// A report stands in the history before what it brought about. The store writes the state after all of
    /// them beside each.
    pub(super) fn preceded_by(mut self, mut recorded: Vec<Effect>) -> Self {
        recorded.append(&mut self.effects);
        self.effects = recorded;
        self
    }
}

pub(super) fn power(order: PowerOrder, after: Duration) -> Effect {
    Effect::Power { order, after }
}
