//! Phases of a smooth transfer, of one that needs two boots, and of one that fails.

use super::super::table::table;
use super::*;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState};
use proptest::prelude::*;

/// Notes with their times: the PO's clock runs 500 s ahead of the LM's, and learns of everything 100 ms later.
#[derive(Default)]
struct Story(Vec<Progress>);

impl Story {
    fn at(&mut self, ms: u64, note: Note) -> &mut Self {
        let sequence = self.0.len() as u64 + 1;
        let at = Timestamp(500_000 + ms);
        self.0.push(Progress { sequence, at, note });
        self
    }

    fn lender(&mut self, ms: u64, state: LeaseState, what: EventKind) -> &mut Self {
        let event = LeaseEvent {
            sequence: 1,
            at: Timestamp(ms),
            state,
            what,
        };
        self.at(ms + 100, Note::Lender { event })
    }

    fn moves(&mut self, ms: u64, state: LeaseState) -> &mut Self {
        let reason = "because".to_owned();
        self.lender(ms, state, EventKind::Transition { reason })
    }

    fn step(&mut self, ms: u64, step: Step, took_ms: u64, bytes: u64) -> &mut Self {
        let done = EventKind::StepFinished { step, took_ms, bytes };
        self.lender(ms, LeaseState::Stage1, done)
    }

    fn begin(&mut self) -> &mut Self {
        let address = "10.99.0.10".parse().unwrap();
        self.at(
            0,
            Note::Created {
                profile: "web".to_owned(),
                hostname: "web-1".parse().unwrap(),
                address,
            },
        )
        .at(
            100,
            Note::Granted {
                lease: "l-1".parse().unwrap(),
                server: "rack-1".parse().unwrap(),
                hardware: "4 cores".to_owned(),
            },
        )
        .at(300, Note::Ordered)
        .moves(300, LeaseState::Booting)
    }

    fn in_service(&mut self, ms: u64) -> &mut Self {
        self.at(
            ms,
            Note::InService {
                hostname: "web-1".parse().unwrap(),
                address: "10.99.0.10".parse().unwrap(),
            },
        )
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::new();
        for note in &self.0 {
            phases.take(note);
        }
        phases
    }
}

fn seconds_of(phases: &Phases) -> Vec<(String, f64)> {
    let records = phases.records().iter();
    records
        .map(|record| (record.phase.to_string(), record.seconds))
        .collect()
}

#[test]
fn a_smooth_transfer_has_every_phase_by_one_clock() {
    let mut story = Story::default();
    story
        .begin()
        .moves(20_300, LeaseState::Stage1)
        .step(20_400, Step::Drivers, 400, 0)
        .step(30_000, Step::Initrd, 9_000, 9 << 20)
        .moves(30_000, LeaseState::Chained)
        .step(31_000, Step::Kexec, 900, 0)
        .lender(
            33_000,
            LeaseState::Chained,
            EventKind::StepStarted { step: Step::Network },
        )
        .step(33_000, Step::Network, 1_400, 0)
        .step(35_000, Step::Wrapper, 400, 0)
        .moves(35_000, LeaseState::Installing)
        .moves(95_000, LeaseState::Installed)
        .in_service(120_100)
        .moves(120_000, LeaseState::InService);
    let phases = story.phases();
    let expected = [
        ("search", 0.1),
        ("merge", 0.2),
        ("power + firmware", 20.0),
        ("drivers", 0.4),
        ("initrd", 9.0),
        ("kexec", 0.9),
        ("stage 2", 4.0),
        ("installation", 60.0),
        ("reboot", 25.0),
    ];
    let expected = expected.map(|(phase, seconds)| (phase.to_owned(), seconds));
    assert_eq!(seconds_of(&phases), expected);
    assert_eq!(phases.records()[6].detail, "0.4 s of it the wrapper's");
    assert!(phases.is_complete());
    let table = table(&phases);
    assert!(
        table.contains("initrd                9.0 s     9.0 MiB     1.0 MiB/s\n"),
        "{table}"
    );
    assert!(
        table.ends_with("in all              120.1 s     9.0 MiB\n"),
        "{table}"
    );
}

#[test]
fn without_the_lms_last_word_the_pos_clock_closes_the_reboot() {
    let mut story = Story::default();
    story
        .begin()
        .moves(20_000, LeaseState::Installing)
        .moves(30_000, LeaseState::Installed)
        .in_service(40_000);
    let mut phases = story.phases();
    assert!(!phases.is_complete());
    phases.close();
    let last = phases.records().last().unwrap();
    assert_eq!(
        (last.phase, last.seconds, last.failed),
        (Phase::Reboot, 9.9, false)
    );
}

#[test]
fn attempts_are_told_apart() {
    let mut story = Story::default();
    story
        .begin()
        .moves(10_000, LeaseState::Stage1)
        .step(11_000, Step::Kernel, 500, 10);
    assert_eq!(story.phases().records().last().unwrap().attempt, 1);
    story
        .moves(12_000, LeaseState::Booting)
        .moves(30_000, LeaseState::Stage1);
    let phases = story.phases();
    let last = phases.records().last().unwrap();
    assert_eq!(
        (last.phase, last.attempt, last.seconds),
        (Phase::Firmware, 2, 18.0)
    );
    story
        .moves(31_000, LeaseState::Stage1)
        .step(32_000, Step::Kernel, 500, 10);
    assert_eq!(
        story.phases().records().last().unwrap().attempt,
        3,
        "it restarted by itself"
    );
    assert!(table(&story.phases()).contains("boot attempt 3 of 3"));
}

#[test]
fn a_failure_keeps_the_servers_own_words() {
    let mut story = Story::default();
    let failed = |retrying| EventKind::StepFailed {
        step: Step::Kernel,
        error: vec!["digest differs".to_owned()],
        kernel_log: vec!["[1.0] x".to_owned()],
        retrying,
    };
    story
        .begin()
        .moves(10_000, LeaseState::Stage1)
        .lender(11_000, LeaseState::Stage1, failed(true))
        .lender(12_000, LeaseState::Stage1, failed(false))
        .at(
            13_000,
            Note::Failed {
                reason: "kernel failed".to_owned(),
            },
        );
    let phases = story.phases();
    let failures = phases.records().iter().filter(|record| record.failed).count();
    assert_eq!(failures, 1, "a step that is tried again is no phase of its own");
    assert_eq!(phases.failure().unwrap().error, ["digest differs"]);
    assert!(phases.is_complete());
    assert_eq!(
        phases.end(),
        Some(&End::Failed {
            reason: "kernel failed".to_owned()
        })
    );
}

proptest! {
    #[test]
    fn any_order_of_states_is_shown(states in prop::collection::vec(0usize..8, 0..40)) {
        let all = [LeaseState::Booting, LeaseState::Stage1, LeaseState::TunnelUp, LeaseState::Chained,
            LeaseState::Installing, LeaseState::Installed, LeaseState::InService, LeaseState::Failed];
        let mut story = Story::default();
        story.begin();
        for (n, state) in states.iter().enumerate() {
            story.moves(n as u64 * 10, all[*state]);
        }
        let mut phases = story.phases();
        phases.close();
        prop_assert!(phases.records().iter().all(|record| record.seconds >= 0.0));
        let _ = table(&phases);
    }
}
