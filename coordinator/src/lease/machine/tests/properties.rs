//! What holds after every sequence of events, of which most could never come.

use super::*;
use proptest::prelude::*;

fn any_event() -> impl Strategy<Value = Event> {
    let steps = [
        AgentStep::Hello,
        AgentStep::Tunnel,
        AgentStep::Initrd,
        AgentStep::Stage,
        AgentStep::Rescue,
        AgentStep::Kexec,
        AgentStep::Wrapper,
        AgentStep::Erase,
        AgentStep::Unknown,
    ];
    let orders = [PowerOrder::Off, PowerOrder::Cycle, PowerOrder::NetworkBootOnce];
    let plain = [
        Event::SettingsMerged,
        Event::BootOrdered,
        Event::Hello,
        Event::AgentKey(KEY),
        Event::Handover(Handover::Disk),
        Event::Staged(handover::files()),
        Event::Rescued(Timestamp(5_000_000)),
        Event::WrongToken("x".to_owned()),
        Event::Unfit("x".to_owned()),
        Event::MemberRegistered,
        Event::MemberSeen,
        Event::Renewed(Some(1_000)),
        Event::Released,
        Event::ServerFound(server(2)),
        Event::ServerFound(server(3)),
        erased(&[]),
        erased(&["x"]),
        Event::DeadlinePassed,
    ];
    let outcomes = prop_oneof![
        Just(Outcome::Started),
        Just(Outcome::Progress {
            bytes: 1,
            total: None
        }),
        Just(Outcome::Finished { took_ms: 1, bytes: 1 }),
        any::<bool>().prop_map(|retrying| Outcome::Failed {
            error: Vec::new(),
            kernel_log: Vec::new(),
            retrying
        }),
        Just(Outcome::Unknown),
    ];
    prop_oneof![
        4 => prop::sample::select(plain.to_vec()),
        3 => (prop::sample::select(steps.to_vec()), outcomes).prop_map(|(step, outcome)| report(step, outcome)),
        1 => prop::sample::select(orders.to_vec()).prop_map(Event::PowerDone),
        1 => prop::sample::select(orders.to_vec()).prop_map(|order| Event::PowerFailed { order, error: "x".to_owned() }),
    ]
}

/// Whether the lease has a server of its own.
fn holds(lease: &Lease) -> bool {
    !lease.phase.state().is_final() && lease.phase.state() != LeaseState::Moving
}

fn two_attempts_one_move() -> Rules {
    Rules {
        attempts: std::num::NonZeroU32::new(2).unwrap(),
        moves: 1,
        ..Rules::default()
    }
}

/// What must be true of every step, whatever came before.
fn is_sound(before: &Lease, step: &Step, rules: &Rules) -> Result<(), TestCaseError> {
    let (lease, state) = (&step.lease, step.lease.phase.state());
    // Final states stay, and no other is without an end and a reason.
    prop_assert!(!before.phase.state().is_final() || lease == before);
    prop_assert_eq!(lease.due().is_none(), state.is_final());
    prop_assert_eq!(
        lease.deadline.is_some(),
        rules.deadlines.wait(&lease.phase).is_some()
    );
    prop_assert!(!lease.reason.is_empty());
    prop_assert!(lease.deadline.is_none_or(|deadline| deadline >= lease.since));
    // Attempts are bounded, and counted anew only on a new server; moves are bounded.
    let same = lease.server == before.server;
    prop_assert!(!same || before.phase.attempt() <= lease.phase.attempt() || state == LeaseState::Prepared);
    prop_assert!(lease.phase.attempt() <= rules.attempts.get());
    prop_assert!(lease.failed.len() <= 1 + rules.moves as usize);
    // One server at a time: it is let go exactly when the lease has it no longer, and another is taken only then.
    let count = |wanted: fn(&Effect) -> bool| step.effects.iter().filter(|effect| wanted(effect)).count();
    let lets_go = count(|effect| matches!(effect, Effect::LetGo(_)));
    let takes = count(|effect| matches!(effect, Effect::Take(_)));
    prop_assert_eq!(lets_go, usize::from(holds(before) && !holds(lease)));
    prop_assert_eq!(takes, usize::from(!holds(before) && holds(lease)));
    prop_assert!(same || takes == 1);
    // Every change of state is told.
    let told = count(|effect| matches!(effect, Effect::Record(EventKind::Transition { .. })));
    prop_assert!(told > 0 || state == before.phase.state());
    // It survives being written down.
    let json = serde_json::to_string(&lease.phase).unwrap();
    prop_assert_eq!(&serde_json::from_str::<Phase>(&json).unwrap(), &lease.phase);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens(events in prop::collection::vec((any_event(), 0u64..2_000_000), 0..60)) {
        let rules = two_attempts_one_move();
        let mut now = Timestamp(0);
        let mut lease = Lease::begin(server(1), None, now, &rules).lease;
        for (event, later) in events {
            now = Timestamp(now.0 + later);
            let Ok(step) = lease.clone().step(event, now, &rules) else { continue };
            is_sound(&lease, &step, &rules)?;
            lease = step.lease;
        }
    }

    /// Wherever it stands, a lease that nobody cares for comes to its end by the clock alone.
    #[test]
    fn the_clock_alone_ends_every_lease(events in prop::collection::vec(any_event(), 0..60)) {
        let rules = two_attempts_one_move();
        let mut now = Timestamp(0);
        let mut lease = Lease::begin(server(1), None, now, &rules).lease;
        for event in events {
            now = now + Duration::from_secs(1);
            if let Ok(step) = lease.clone().step(event, now, &rules) {
                lease = step.lease;
            }
        }
        let mut looks = 0;
        while let Some(due) = lease.due() {
            now = due.max(now);
            let step = lease.clone().step(Event::DeadlinePassed, now, &rules).unwrap();
            is_sound(&lease, &step, &rules)?;
            prop_assert!(step.lease != lease, "a deadline that changes nothing would be looked at for ever: {lease:?}");
            lease = step.lease;
            looks += 1;
            prop_assert!(looks < 20, "{lease:?}");
        }
    }

    /// An order, a found server and an erasure may come twice: a Lease Manager that was killed before it answered is asked again.
    #[test]
    fn what_comes_twice_counts_once(events in prop::collection::vec(any_event(), 0..60)) {
        let rules = two_attempts_one_move();
        let mut now = Timestamp(0);
        let mut lease = Lease::begin(server(1), None, now, &rules).lease;
        for event in events {
            now = now + Duration::from_secs(1);
            let Ok(once) = lease.clone().step(event.clone(), now, &rules) else { continue };
            let counts_each_time = matches!(event, Event::Hello | Event::PowerFailed { .. } | Event::PowerDone(_))
                || matches!(&event, Event::Reported(report) if matches!(report.outcome, Outcome::Failed { .. }));
            if let Ok(twice) = once.lease.clone().step(event, now, &rules) && !counts_each_time {
                prop_assert_eq!(&twice.lease, &once.lease);
                let acts = twice.effects.iter().any(|effect| !matches!(effect, Effect::Record(_)));
                prop_assert!(!acts, "{:?}", twice.effects);
            }
            lease = once.lease;
        }
    }
}
