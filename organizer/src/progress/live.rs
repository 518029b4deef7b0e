//! A transfer that is being watched: its phases, where it is, and what is left. Folded from the same notes by the daemon, for the courses
//! of earlier transfers, and by whoever watches. Pure.

use super::estimate::{self, Course, Edge, Estimate, Flow, Here, Mark};
use super::phases::{End, Phase, Phases, Update};
use super::{Note, Progress};
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;

/// A transfer as far as its notes were read.
pub struct Live {
    phases: Phases,
    here: Here,
    began: Option<Timestamp>,
    running: Vec<(Phase, Timestamp)>,
    granted: bool,
    silent: bool,
    in_service: Option<Timestamp>,
}

/// The phase that a transfer is in, for one line of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doing {
    /// The phase.
    pub phase: Phase,
    /// Its bytes, when it moves some.
    pub flow: Option<Flow>,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            phases: Phases::new(),
            here: Here::default(),
            began: None,
            running: Vec::new(),
            granted: false,
            silent: false,
            in_service: None,
        }
    }

    /// Takes the next note.
    pub fn take(&mut self, progress: &Progress) -> Vec<Update> {
        let at = progress.at;
        self.began.get_or_insert(at);
        match &progress.note {
            Note::Granted { .. } => self.granted = true,
            Note::LenderSilent { .. } => self.silent = true,
            Note::LenderBack => self.silent = false,
            Note::InService { .. } => self.in_service = Some(at),
            _ => {}
        }
        let updates = self.phases.take(progress);
        updates.iter().for_each(|update| self.mark(update, at));
        updates
    }

    /// Closes what still runs: for somebody who waits no longer.
    pub fn close(&mut self) -> Vec<Update> {
        self.running.clear();
        self.here.flow = None;
        self.phases.close()
    }

    /// Its phases.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Whether it ended before anything was lent, and not because nobody answered.
    pub fn is_refused(&self) -> bool {
        matches!(self.phases.end(), Some(End::Failed { .. })) && !self.granted && !self.silent
    }

    /// The course, once the server was in service.
    pub fn course(&self) -> Option<Course> {
        let end = self.in_service?;
        let before = self.here.marks.iter().filter(|(_, at)| *at <= end);
        Some(Course::new(&before.copied().collect::<Vec<_>>(), end))
    }

    /// What is left, by what is known of earlier ones.
    pub fn estimate(&self, courses: &[Course], now: Timestamp) -> Estimate {
        match self.phases.end() {
            None => estimate::estimate(courses, &self.here, now),
            Some(_) => Estimate::default(),
        }
    }

    /// What it does: of phases that run at once, the one that began last.
    pub fn doing(&self) -> Option<Doing> {
        let (phase, _) = *self.running.last()?;
        let flow = self.here.flow.filter(|flow| flow.phase == phase);
        Some(Doing { phase, flow })
    }

    /// For how long it has run, as of `now`; after its end, how long it ran.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        match (self.phases.end(), self.began) {
            (None, Some(began)) => now.since(began),
            _ => self.phases.total(),
        }
    }

    fn mark(&mut self, update: &Update, at: Timestamp) {
        match update {
            Update::Started(phase) => {
                self.stop(*phase);
                self.running.push((*phase, at));
                self.note_mark(*phase, Edge::Began, at);
            }
            Update::Moved { phase, bytes, total } => {
                // An agent may tell of bytes without having told of the beginning.
                if !self.running.iter().any(|(running, _)| running == phase) {
                    self.running.push((*phase, at));
                }
                let running = self.running.iter().find(|(running, _)| running == phase);
                self.here.flow = running.map(|(phase, began)| Flow {
                    phase: *phase,
                    began: *began,
                    at,
                    bytes: *bytes,
                    total: *total,
                });
            }
            Update::Dropped(phase) => self.stop(*phase),
            Update::Finished(record) => {
                self.stop(record.phase);
                if !record.failed {
                    self.note_mark(record.phase, Edge::Ended, at);
                }
            }
            Update::Notice(_) => {}
        }
    }

    fn note_mark(&mut self, phase: Phase, edge: Edge, at: Timestamp) {
        self.here.marks.push((Mark { phase, edge }, at));
    }

    fn stop(&mut self, phase: Phase) {
        self.running.retain(|(running, _)| *running != phase);
        if self.here.flow.is_some_and(|flow| flow.phase == phase) {
            self.here.flow = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, Step};

    fn take(live: &mut Live, seconds: u64, note: Note) {
        let at = Timestamp(seconds * 1000);
        live.take(&Progress {
            sequence: 1,
            at,
            note,
        });
    }

    fn lender(live: &mut Live, seconds: u64, state: LeaseState, what: EventKind) {
        let event = LeaseEvent {
            sequence: 1,
            at: Timestamp(seconds * 1000),
            state,
            what,
        };
        take(live, seconds, Note::Lender { event });
    }

    fn moves(live: &mut Live, seconds: u64, state: LeaseState) {
        let reason = "because".to_owned();
        lender(live, seconds, state, EventKind::Transition { reason });
    }

    fn created() -> Note {
        Note::Created {
            profile: "web".to_owned(),
            hostname: "web-1".parse().unwrap(),
            address: "10.99.0.10".parse().unwrap(),
        }
    }

    fn granted() -> Note {
        Note::Granted {
            lease: "l-1".parse().unwrap(),
            server: "rack-1".parse().unwrap(),
            hardware: String::new(),
        }
    }

    /// A transfer whose initrd of 100 bytes takes `initrd` seconds, up to that step's half.
    fn half_way(initrd: u64) -> Live {
        let mut live = Live::new();
        take(&mut live, 0, created());
        take(&mut live, 1, granted());
        take(&mut live, 2, Note::Ordered);
        moves(&mut live, 2, LeaseState::Booting);
        moves(&mut live, 22, LeaseState::Stage1);
        let (step, state) = (Step::Initrd, LeaseState::Stage1);
        lender(&mut live, 30, state, EventKind::StepStarted { step });
        let total = Some(100);
        lender(
            &mut live,
            30 + initrd / 2,
            state,
            EventKind::StepProgress {
                step,
                bytes: 50,
                total,
            },
        );
        live
    }

    #[test]
    fn what_one_transfer_took_is_what_the_next_one_is_told() {
        let mut first = half_way(10);
        let (step, took_ms, bytes) = (Step::Initrd, 10_000, 100);
        lender(
            &mut first,
            40,
            LeaseState::Stage1,
            EventKind::StepFinished { step, took_ms, bytes },
        );
        moves(&mut first, 41, LeaseState::Chained);
        moves(&mut first, 45, LeaseState::Installing);
        moves(&mut first, 95, LeaseState::Installed);
        assert_eq!(first.course(), None, "not before it is in service");
        let address = "10.99.0.10".parse().unwrap();
        let hostname = "web-1".parse().unwrap();
        take(&mut first, 100, Note::InService { hostname, address });
        let courses = [first.course().unwrap()];
        assert_eq!(first.estimate(&courses, Timestamp(100_000)), Estimate::default());

        // A line that is four times slower: 20 s are gone, 20 s to go, and 60 s as before.
        let second = half_way(40);
        let doing = second.doing().unwrap();
        assert_eq!(doing.phase, Phase::Step(Step::Initrd));
        assert!((doing.flow.unwrap().rate().unwrap() - 2.5).abs() < 1e-9);
        let known = second.estimate(&courses, Timestamp(50_000));
        assert_eq!(known.phase, Some(Duration::from_secs(20)));
        assert_eq!(known.transfer, Some(Duration::from_secs(80)));
        assert_eq!(second.elapsed(Timestamp(51_000)), Duration::from_secs(51));
    }

    #[test]
    fn a_new_boot_attempt_forgets_the_bytes_of_the_old_one() {
        let mut live = half_way(10);
        moves(&mut live, 60, LeaseState::Booting);
        let doing = live.doing().unwrap();
        assert_eq!((doing.phase, doing.flow), (Phase::Firmware, None));
        assert_eq!(live.estimate(&[], Timestamp(61_000)), Estimate::default());
    }

    #[test]
    fn refused_is_what_ends_before_a_server_is_granted_by_a_lender_that_answers() {
        let failed = || Note::Failed {
            reason: "nothing fits".to_owned(),
        };
        let mut refused = Live::new();
        take(&mut refused, 0, created());
        take(&mut refused, 1, failed());
        assert!(refused.is_refused());
        let mut silent = Live::new();
        take(&mut silent, 0, created());
        let error = "cannot reach it".to_owned();
        take(&mut silent, 1, Note::LenderSilent { error });
        take(&mut silent, 600, failed());
        assert!(!silent.is_refused());
        let mut late = half_way(10);
        take(&mut late, 60, failed());
        assert!(!late.is_refused());
    }
}
