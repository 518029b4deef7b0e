//! What the lender's events mean for the phases.

use super::{Phase, Phases, StepFailure, Update, seconds};
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, Step};
use leaseboot_protocol::timestamp::Timestamp;

impl Phases {
    pub(super) fn hear(&mut self, event: &LeaseEvent, at: Timestamp) -> Vec<Update> {
        match &event.what {
            EventKind::Transition { reason } => self.transition(event.state, event.at, at, reason),
            EventKind::StepFinished { step, took_ms, .. } if *step == Step::Wrapper => {
                let own = format!("{:.1} s of it the wrapper's", seconds(*took_ms));
                self.describe(Phase::Stage2, own);
                Vec::new()
            }
            EventKind::StepStarted { step }
            | EventKind::StepProgress { step, .. }
            | EventKind::StepFinished { step, .. }
                if self.is_of_stage2(*step) =>
            {
                Vec::new()
            }
            EventKind::StepStarted { step } => vec![self.start(Phase::Step(*step), at, Some(event.at))],
            EventKind::StepProgress { step, bytes, total } => vec![Update::Moved {
                phase: Phase::Step(*step),
                bytes: *bytes,
                total: *total,
            }],
            EventKind::StepFinished { step, took_ms, bytes } => {
                vec![self.step_finished(*step, *took_ms, *bytes, (at, event.at))]
            }
            EventKind::StepFailed {
                step,
                error,
                kernel_log,
                retrying,
            } => self.step_failed(*step, error, kernel_log, *retrying, (at, event.at)),
            EventKind::StepNote { step, note } => vec![Update::Notice(format!("{step}: {note}"))],
            EventKind::Power {
                order,
                error: Some(error),
            } => {
                vec![Update::Notice(format!(
                    "the power order {order:?} failed: {error}"
                ))]
            }
            EventKind::AgentKey { .. }
            | EventKind::Power { .. }
            | EventKind::Moved { .. }
            | EventKind::Renewed { .. }
            | EventKind::ExpiresSoon { .. }
            | EventKind::Erased { .. }
            | EventKind::Unknown => Vec::new(),
        }
    }

    /// The wrapper brings network and clock up again: that is stage 2's time, not stage 1's.
    fn is_of_stage2(&self, step: Step) -> bool {
        step == Step::Wrapper || (step != Step::Kexec && self.running(Phase::Stage2).is_some())
    }

    fn step_finished(
        &mut self,
        step: Step,
        took_ms: u64,
        bytes: u64,
        (ours, theirs): (Timestamp, Timestamp),
    ) -> Update {
        self.forget(Phase::Step(step));
        if let (Step::Kexec, Some(stage2)) = (step, self.running_mut(Phase::Stage2)) {
            // The load has its own line; what follows it is stage 2's.
            (stage2.ours, stage2.theirs) = (ours, Some(theirs));
        }
        self.record(Phase::Step(step), seconds(took_ms), bytes, false, String::new())
    }

    fn step_failed(
        &mut self,
        step: Step,
        error: &[String],
        kernel_log: &[String],
        retrying: bool,
        (ours, theirs): (Timestamp, Timestamp),
    ) -> Vec<Update> {
        self.failure = Some(StepFailure {
            step,
            error: error.to_vec(),
            kernel_log: kernel_log.to_vec(),
        });
        let chain = error.join(": ");
        let notice = if retrying {
            format!("{step} failed and is tried again: {chain}")
        } else {
            format!("{step} failed: {chain}")
        };
        if retrying {
            return vec![Update::Notice(notice)];
        }
        let phase = Phase::Step(step);
        let took = self
            .running(phase)
            .map_or(0.0, |running| running.took(ours, Some(theirs)));
        self.forget(phase);
        vec![
            self.record(phase, took, 0, true, String::new()),
            Update::Notice(notice),
        ]
    }

    fn transition(
        &mut self,
        state: LeaseState,
        theirs: Timestamp,
        ours: Timestamp,
        reason: &str,
    ) -> Vec<Update> {
        let theirs = Some(theirs);
        match state {
            LeaseState::Moving => {
                let mut updates = self.begin_attempt("the server failed");
                self.booted = false;
                updates.push(Update::Notice(format!("the server failed: {reason}")));
                updates
            }
            // The order to boot is shown already.
            LeaseState::Booting if !self.booted && self.running(Phase::Firmware).is_some() => {
                self.booted = true;
                if let Some(firmware) = self.running_mut(Phase::Firmware) {
                    firmware.theirs = theirs;
                }
                Vec::new()
            }
            LeaseState::Booting => {
                let mut updates = self.begin_attempt(reason);
                updates.push(self.start(Phase::Firmware, ours, theirs));
                updates
            }
            LeaseState::Stage1 if self.running(Phase::Firmware).is_some() => {
                self.finish(Phase::Firmware, ours, theirs, 0, "")
            }
            // The server restarted by itself: the firmware ran without an order.
            LeaseState::Stage1 => self.begin_attempt(reason),
            LeaseState::Chained => vec![self.start(Phase::Stage2, ours, theirs)],
            LeaseState::Installing => {
                let mut updates = self.finish(Phase::Stage2, ours, theirs, 0, "");
                updates.push(self.start(Phase::Installation, ours, theirs));
                updates
            }
            LeaseState::Installed if self.running(Phase::Reboot).is_some() => {
                vec![Update::Notice(format!("the server is restarted: {reason}"))]
            }
            LeaseState::Installed => {
                let mut updates = self.finish(Phase::Installation, ours, theirs, 0, "");
                updates.push(self.start(Phase::Reboot, ours, theirs));
                updates
            }
            LeaseState::InService => {
                self.lender_agrees = true;
                self.finish(Phase::Reboot, ours, theirs, 0, "")
            }
            _ => Vec::new(),
        }
    }

    /// Drops what an earlier boot attempt left unfinished. The first attempt follows the order to boot and nothing else.
    fn begin_attempt(&mut self, reason: &str) -> Vec<Update> {
        let dropped = self
            .running
            .drain(..)
            .map(|running| Update::Dropped(running.phase));
        let mut updates: Vec<_> = dropped.collect();
        if self.booted {
            self.attempt += 1;
            updates.push(Update::Notice(format!("boot attempt {}: {reason}", self.attempt)));
        }
        self.booted = true;
        updates
    }
}
