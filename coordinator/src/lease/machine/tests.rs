//! The machine under every sequence of events.

use super::*;
use crate::lease::{Deadlines, Rules};
use leaseboot_protocol::agent::Outcome;
use leaseboot_protocol::lease::Step as AgentStep;
use proptest::prelude::*;

fn report(step: AgentStep, outcome: Outcome) -> Event {
    Event::Reported(Report {
        step,
        at: Timestamp(0),
        outcome,
    })
}

fn finished(step: AgentStep) -> Event {
    report(step, Outcome::Finished { took_ms: 1, bytes: 1 })
}

fn failed(step: AgentStep, retrying: bool) -> Event {
    report(
        step,
        Outcome::Failed {
            error: vec!["no".to_owned()],
            kernel_log: Vec::new(),
            retrying,
        },
    )
}

/// A lease that lives through events, each one second after the other.
struct Life {
    lease: Lease,
    now: Timestamp,
    rules: Rules,
    effects: Vec<Effect>,
}

impl Life {
    fn begin() -> Self {
        let (rules, now) = (Rules::default(), Timestamp(1_000_000));
        let step = Lease::begin(now, &rules);
        Self {
            lease: step.lease,
            now,
            rules,
            effects: step.effects,
        }
    }

    fn try_on(&mut self, event: Event) -> Result<(), OutOfPlace> {
        self.now = self.now + Duration::from_secs(1);
        let step = self.lease.clone().step(event, self.now, &self.rules)?;
        self.lease = step.lease;
        self.effects = step.effects;
        Ok(())
    }

    fn on(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        for event in events {
            self.try_on(event).unwrap();
        }
        self
    }

    fn state(&self) -> LeaseState {
        self.lease.phase.state()
    }

    fn until_deadline(mut self) -> Self {
        self.now = self.lease.deadline.unwrap();
        self.on([Event::DeadlinePassed])
    }

    fn ordered(&self) -> Vec<PowerOrder> {
        let order = |effect: &Effect| match effect {
            Effect::Power { order, .. } => Some(*order),
            _ => None,
        };
        self.effects.iter().filter_map(order).collect()
    }

    fn let_go(&self) -> Option<&Release> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::LetGo(release) => Some(release),
            _ => None,
        })
    }
}

const KEY: WireguardPublicKey = WireguardPublicKey([1; 32]);

fn to_booting() -> [Event; 2] {
    [Event::SettingsMerged, Event::BootOrdered]
}

fn to_installing() -> Vec<Event> {
    let steps = [
        AgentStep::Tunnel,
        AgentStep::Kickstart,
        AgentStep::Kernel,
        AgentStep::Initrd,
        AgentStep::Wrapper,
    ];
    let mut events = Vec::from(to_booting());
    events.extend([
        Event::PowerDone(PowerOrder::NetworkBootOnce),
        Event::Hello,
        Event::AgentKey(KEY),
    ]);
    events.extend(steps.map(finished));
    events
}

#[test]
fn a_smooth_transfer_goes_through_every_state() {
    let mut life = Life::begin();
    let mut seen = vec![life.state()];
    let rest = [
        Event::MemberRegistered,
        Event::MemberSeen,
        Event::Released,
        Event::PowerDone(PowerOrder::Off),
    ];
    for event in to_installing().into_iter().chain(rest) {
        life.try_on(event).unwrap();
        seen.push(life.state());
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            LeaseState::Leased,
            LeaseState::Prepared,
            LeaseState::Booting,
            LeaseState::Stage1,
            LeaseState::TunnelUp,
            LeaseState::Chained,
            LeaseState::Installing,
            LeaseState::Installed,
            LeaseState::InService,
            LeaseState::Returning,
            LeaseState::Ended,
        ]
    );
    assert_eq!(life.let_go(), Some(&Release::ToBeErased));
}

#[test]
fn a_failed_agent_is_cycled_a_bounded_number_of_times() {
    let mut life = Life::begin().on(to_booting());
    for attempt in 1..=3 {
        assert_eq!(life.lease.phase, Phase::Booting { attempt });
        assert_eq!(life.ordered(), [PowerOrder::NetworkBootOnce]);
        life = life.on([Event::Hello, failed(AgentStep::Kernel, true)]);
        assert_eq!(
            life.state(),
            LeaseState::Stage1,
            "the agent tries again by itself"
        );
        life = life.on([failed(AgentStep::Kernel, false)]);
    }
    assert_eq!(life.lease.phase, Phase::Failed { attempt: 3 });
    assert_eq!(life.lease.reason, "kernel failed: no");
    assert_eq!(life.ordered(), [PowerOrder::Off]);
    assert!(matches!(life.let_go(), Some(Release::Quarantined(why)) if why == "kernel failed: no"));
}

#[test]
fn silence_in_any_boot_state_is_an_attempt() {
    let smooth = to_installing();
    for length in 2..=smooth.len() {
        let life = Life::begin().on(smooth[..length].to_vec()).until_deadline();
        assert_eq!(
            life.lease.phase,
            Phase::Booting { attempt: 2 },
            "after {:?}",
            smooth[length - 1]
        );
        assert!(life.effects.contains(&Effect::RevokeTokens));
    }
}

#[test]
fn an_enterprise_that_says_nothing_loses_the_server_unharmed() {
    for events in [vec![], vec![Event::SettingsMerged]] {
        let life = Life::begin().on(events).until_deadline();
        assert_eq!(life.state(), LeaseState::Ended);
        assert_eq!(life.let_go(), Some(&Release::Untouched));
        assert!(life.ordered().is_empty());
    }
}

#[test]
fn an_installed_system_that_does_not_come_is_started_again_from_its_disk() {
    let mut life = Life::begin().on(to_installing()).on([Event::MemberRegistered]);
    for _ in 0..3 {
        life = life.until_deadline();
        assert_eq!(
            (life.state(), life.ordered()),
            (LeaseState::Installed, vec![PowerOrder::Cycle])
        );
    }
    assert_eq!(life.until_deadline().state(), LeaseState::Failed);
}

#[test]
fn a_server_that_cannot_be_switched_off_is_quarantined() {
    let off = || Event::PowerFailed {
        order: PowerOrder::Off,
        error: "no answer".to_owned(),
    };
    let life = Life::begin().on(to_booting()).on([Event::Released]);
    let life = life.on([off(), off()]);
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Returning, vec![PowerOrder::Off])
    );
    let life = life.on([off()]);
    assert!(matches!(life.let_go(), Some(Release::Quarantined(_))));
}

#[test]
fn a_server_that_restarts_by_itself_counts_as_another_boot() {
    let life = Life::begin().on(to_installing()).on([Event::Hello]);
    assert_eq!(
        life.lease.phase,
        Phase::Stage1(Boot {
            attempt: 2,
            key: None
        })
    );
    let life = life.on([Event::Hello]);
    assert_eq!(life.lease.phase.attempt(), 3);
    assert_eq!(life.on([Event::Hello]).state(), LeaseState::Failed);
}

#[test]
fn bytes_that_move_keep_the_deadline_away() {
    let mut life = Life::begin().on(to_installing()[..6].to_vec());
    let before = life.lease.deadline.unwrap();
    life.try_on(report(
        AgentStep::Initrd,
        Outcome::Progress {
            bytes: 1,
            total: None,
        },
    ))
    .unwrap();
    assert!(life.lease.deadline.unwrap() > before);
    let before = life.lease.deadline.unwrap();
    life.try_on(failed(AgentStep::Initrd, true)).unwrap();
    assert_eq!(life.lease.deadline.unwrap(), before);
}

#[test]
fn a_wrong_token_is_written_down_and_moves_nothing() {
    let life = Life::begin().on(to_booting());
    let before = life.lease.clone();
    let life = life.on([Event::WrongToken("x".to_owned())]);
    assert_eq!(life.lease, before);
    assert!(matches!(
        &life.effects[..],
        [Effect::Record(EventKind::StepFailed {
            step: AgentStep::Hello,
            ..
        })]
    ));
}

fn any_event() -> impl Strategy<Value = Event> {
    let steps = [
        AgentStep::Hello,
        AgentStep::Tunnel,
        AgentStep::Initrd,
        AgentStep::Kexec,
        AgentStep::Wrapper,
        AgentStep::Unknown,
    ];
    let orders = [PowerOrder::Off, PowerOrder::Cycle, PowerOrder::NetworkBootOnce];
    let plain = [
        Event::SettingsMerged,
        Event::BootOrdered,
        Event::Hello,
        Event::AgentKey(KEY),
        Event::WrongToken("x".to_owned()),
        Event::Unfit("x".to_owned()),
        Event::MemberRegistered,
        Event::MemberSeen,
        Event::Released,
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens(events in prop::collection::vec((any_event(), 0u64..2_000_000), 0..40)) {
        let rules = Rules { deadlines: Deadlines::default(), attempts: std::num::NonZeroU32::new(2).unwrap() };
        let mut now = Timestamp(0);
        let mut lease = Lease::begin(now, &rules).lease;
        for (event, later) in events {
            now = Timestamp(now.0 + later);
            let before = lease.clone();
            let Ok(step) = lease.clone().step(event, now, &rules) else { continue };
            lease = step.lease;
            let state = lease.phase.state();
            // Final states stay, and the machine's own waits are never without deadline and reason.
            prop_assert!(!before.phase.state().is_final() || lease == before);
            prop_assert_eq!(lease.deadline.is_some(), rules.deadlines.wait(&lease.phase).is_some());
            prop_assert!(!lease.reason.is_empty());
            prop_assert!(lease.deadline.is_none_or(|deadline| deadline >= lease.since));
            // Attempts are bounded and never counted back.
            prop_assert!((before.phase.attempt()..=rules.attempts.get()).contains(&lease.phase.attempt()));
            // A server is let go exactly when its lease ends, and every change of state is told.
            let lets_go = step.effects.iter().filter(|effect| matches!(effect, Effect::LetGo(_))).count();
            let ends = state.is_final() && !before.phase.state().is_final();
            prop_assert_eq!(lets_go, usize::from(ends));
            let told = step.effects.iter().any(|effect| matches!(effect, Effect::Record(EventKind::Transition { .. })));
            prop_assert!(told || state == before.phase.state());
            // It survives being written down.
            let json = serde_json::to_string(&lease.phase).unwrap();
            prop_assert_eq!(serde_json::from_str::<Phase>(&json).unwrap(), lease.phase.clone());
        }
    }
}
