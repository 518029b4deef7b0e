//! The machine under every sequence of events.

mod handover;
mod properties;

use super::*;
use crate::lease::Rules;
use leaseboot_protocol::agent::Outcome;
use leaseboot_protocol::lease::Step as AgentStep;

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

fn server(number: u8) -> ServerId {
    format!("s{number}").parse().unwrap()
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
        let step = Lease::begin(server(1), None, now, &rules);
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
        self.now = self.lease.due().unwrap();
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

fn erased(faults: &[&str]) -> Event {
    Event::Erased {
        disks: 1,
        faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
    }
}

fn to_wiping() -> Vec<Event> {
    let mut events = to_installing();
    events.extend([
        Event::MemberRegistered,
        Event::MemberSeen,
        Event::Released,
        Event::PowerDone(PowerOrder::NetworkBootOnce),
        Event::Hello,
    ]);
    events
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

fn to_writing() -> Vec<Event> {
    let mut events = Vec::from(to_booting());
    events.extend([
        Event::PowerDone(PowerOrder::NetworkBootOnce),
        Event::Hello,
        Event::AgentKey(KEY),
        finished(AgentStep::Tunnel),
        finished(AgentStep::Kickstart),
    ]);
    events
}

#[test]
fn a_written_disk_goes_on_without_a_second_stage() {
    let mut life = Life::begin().on(to_writing());
    let written = report(
        AgentStep::Image,
        Outcome::Progress {
            bytes: 1,
            total: None,
        },
    );
    let before = life.lease.deadline;
    life.try_on(written).unwrap();
    assert!(life.lease.deadline > before, "what moves is given time");
    assert_eq!(life.state(), LeaseState::TunnelUp);
    for (event, state) in [
        (finished(AgentStep::Image), LeaseState::Chained),
        (
            report(AgentStep::Member, Outcome::Started),
            LeaseState::Installing,
        ),
        (Event::MemberRegistered, LeaseState::Installed),
        (finished(AgentStep::Member), LeaseState::Installed),
        (Event::MemberSeen, LeaseState::InService),
    ] {
        life.try_on(event).unwrap();
        assert_eq!(life.state(), state);
    }
}

#[test]
fn an_image_that_is_not_what_was_promised_is_the_enterprises_own_failure() {
    for step in [AgentStep::Image, AgentStep::Member] {
        let mut life = Life::begin();
        life.rules.attempts = std::num::NonZeroU32::MIN;
        let life = life.on(to_writing()).on([failed(step, false)]);
        assert_eq!(life.state(), LeaseState::Returning, "{step}");
        assert_eq!(life.let_go(), None, "{step}");
    }
}

#[test]
fn a_smooth_transfer_goes_through_every_state() {
    let mut life = Life::begin();
    let mut seen = vec![life.state()];
    let rest = [
        Event::MemberRegistered,
        Event::MemberSeen,
        Event::Released,
        Event::PowerDone(PowerOrder::NetworkBootOnce),
        Event::Hello,
        finished(AgentStep::Erase),
        erased(&[]),
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
            LeaseState::Wiping,
            LeaseState::Ended,
        ]
    );
    assert_eq!(life.let_go(), Some(&Release::Erased));
}

#[test]
fn a_failed_agent_is_cycled_a_bounded_number_of_times() {
    let mut life = Life::begin().on(to_booting());
    for attempt in 1..=3 {
        assert!(
            matches!(life.lease.phase, Phase::Booting { attempt: found, .. } if found == attempt),
            "{:?}",
            life.lease.phase
        );
        assert_eq!(life.ordered(), [PowerOrder::NetworkBootOnce]);
        life = life.on([Event::Hello, failed(AgentStep::Kernel, true)]);
        assert_eq!(
            life.state(),
            LeaseState::Stage1,
            "the agent tries again by itself"
        );
        life = life.on([failed(AgentStep::Kexec, false)]);
    }
    assert_eq!(life.lease.phase, Phase::Moving { attempt: 3 });
    assert!(
        life.lease.reason.starts_with("kexec failed: no; "),
        "{}",
        life.lease.reason
    );
    assert_eq!(life.ordered(), [PowerOrder::Off]);
    assert!(matches!(life.let_go(), Some(Release::Quarantined(why)) if why == "kexec failed: no"));
}

#[test]
fn silence_in_any_boot_state_is_an_attempt() {
    let smooth = to_installing();
    for length in 2..=smooth.len() {
        let life = Life::begin().on(smooth[..length].to_vec()).until_deadline();
        assert!(
            matches!(life.lease.phase, Phase::Booting { attempt: 2, .. }),
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
    assert_eq!(life.until_deadline().state(), LeaseState::Moving);
}

#[test]
fn a_lease_moves_a_bounded_number_of_times() {
    let mut life = Life::begin().on(to_booting());
    for number in 2..=3 {
        life = life.on([Event::Unfit("broken".to_owned())]);
        assert_eq!(life.state(), LeaseState::Moving);
        assert_eq!(life.ordered(), [PowerOrder::Off]);
        life = life.on([Event::ServerFound(server(number))]);
        assert_eq!(
            (&life.lease.phase, &life.lease.server),
            (&Phase::Prepared, &server(number))
        );
        assert!(life.effects.contains(&Effect::Take(server(number))));
        assert!(
            matches!(&life.effects[0], Effect::Record(EventKind::Moved { to, .. }) if *to == server(number))
        );
        life = life.on([Event::BootOrdered]);
    }
    let life = life.on([Event::Unfit("broken".to_owned())]);
    assert_eq!(life.state(), LeaseState::Failed);
    assert_eq!(life.lease.failed, [server(1), server(2), server(3)]);
}

#[test]
fn a_lease_that_finds_no_other_server_fails_and_names_those_that_failed() {
    let life = Life::begin()
        .on(to_booting())
        .on([Event::Unfit("broken".to_owned())]);
    let life = life.until_deadline();
    assert_eq!(life.state(), LeaseState::Failed);
    assert!(
        life.lease.reason.ends_with("the lease failed on s1"),
        "{}",
        life.lease.reason
    );
    assert_eq!(life.let_go(), None, "there was no server any more");
}

#[test]
fn what_the_enterprise_broke_costs_it_the_lease_and_the_lender_no_server() {
    let mut life = Life::begin().on(to_booting());
    for _ in 1..=3 {
        life = life.on([Event::Hello, failed(AgentStep::Kernel, false)]);
    }
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Returning, vec![PowerOrder::NetworkBootOnce])
    );
    let life = life.on([Event::Hello, erased(&[]), Event::PowerDone(PowerOrder::Off)]);
    assert_eq!(
        (life.state(), life.let_go()),
        (LeaseState::Failed, Some(&Release::Erased))
    );
    assert_eq!(
        life.lease.reason,
        "kernel failed: no; the server is erased and off"
    );
}

#[test]
fn a_disk_that_is_not_clean_keeps_the_server_and_ends_the_lease() {
    let life = Life::begin().on(to_wiping()).on([erased(&["sda: refused"])]);
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Wiping, vec![PowerOrder::Off])
    );
    let life = life.on([Event::PowerDone(PowerOrder::Off)]);
    assert_eq!(life.state(), LeaseState::Ended);
    assert!(matches!(life.let_go(), Some(Release::Quarantined(why)) if why.contains("sda: refused")));
}

#[test]
fn a_wipe_that_fails_for_good_keeps_the_server_and_ends_the_lease() {
    let mut life = Life::begin().on(to_wiping());
    for _ in 2..=3 {
        life = life.on([failed(AgentStep::Drivers, false)]);
        assert_eq!(
            (life.state(), life.ordered()),
            (LeaseState::Returning, vec![PowerOrder::NetworkBootOnce])
        );
        life = life.on([Event::Hello]);
    }
    let life = life.until_deadline();
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Ended, vec![PowerOrder::Off])
    );
    assert!(matches!(life.let_go(), Some(Release::Quarantined(why)) if why.contains("could not be erased")));
}

#[test]
fn a_server_that_cannot_be_switched_off_is_quarantined() {
    let off = || Event::PowerFailed {
        order: PowerOrder::Off,
        error: "no answer".to_owned(),
    };
    let life = Life::begin().on(to_wiping()).on([erased(&[])]);
    let life = life.on([off(), off()]);
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Wiping, vec![PowerOrder::Off])
    );
    let life = life.on([off()]);
    assert_eq!(life.state(), LeaseState::Ended);
    assert!(matches!(life.let_go(), Some(Release::Quarantined(_))));
}

#[test]
fn a_term_is_announced_to_end_renewed_and_ends() {
    let mut life = Life::begin()
        .on(to_installing())
        .on([Event::MemberRegistered, Event::MemberSeen]);
    let end = life.lease.term.expires;
    life = life.until_deadline();
    assert!(life.now < end && life.state() == LeaseState::InService);
    assert_eq!(
        life.effects,
        [Effect::Record(EventKind::ExpiresSoon { expires: end })]
    );
    life = life.on([Event::Renewed(Some(1))]);
    assert_eq!(life.effects, []);
    assert_eq!(life.lease.term.expires, end, "a renewal never shortens");
    life = life.on([Event::Renewed(None)]);
    assert!(life.lease.term.expires > end && life.lease.due().unwrap() > life.now);
    let life = life.until_deadline().until_deadline();
    assert_eq!(
        (life.state(), life.ordered()),
        (LeaseState::Returning, vec![PowerOrder::NetworkBootOnce])
    );
    assert!(life.lease.reason.starts_with("the term of the lease ended"));
}

#[test]
fn a_server_that_restarts_by_itself_counts_as_another_boot() {
    let life = Life::begin().on(to_installing()).on([Event::Hello]);
    assert_eq!(
        life.lease.phase,
        Phase::Stage1(Boot {
            attempt: 2,
            key: None,
            handover: Handover::Kexec,
            entered: false,
        })
    );
    let life = life.on([Event::Hello]);
    assert_eq!(life.lease.phase.attempt(), 3);
    assert_eq!(life.on([Event::Hello]).state(), LeaseState::Moving);
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
fn rescue_mode_holds_a_boot_until_its_order_ends_and_nothing_else() {
    let mut life = Life::begin().on(to_booting());
    life.try_on(Event::Hello).unwrap();
    let (usual, until) = (
        life.lease.deadline.unwrap(),
        life.now + Duration::from_secs(9_000),
    );
    life.try_on(Event::Rescued(until)).unwrap();
    assert_eq!(life.lease.deadline, Some(until));
    life.try_on(Event::Rescued(usual)).unwrap();
    assert_eq!(
        life.lease.deadline,
        Some(until),
        "an order that ends sooner takes nothing away"
    );
    life.try_on(finished(AgentStep::Rescue)).unwrap();
    assert!(
        life.lease.deadline.unwrap() < until,
        "it goes on, and is awaited as before"
    );
    life.try_on(Event::Rescued(until)).unwrap();
    life.now = until;
    let attempt = life.lease.phase.attempt();
    life.try_on(Event::DeadlinePassed).unwrap();
    assert_eq!(
        life.lease.phase.attempt(),
        attempt + 1,
        "the end of the order is the end of the wait"
    );

    let before = Life::begin().on(to_booting());
    let deadline = before.lease.deadline;
    let after = before.on([Event::Rescued(until)]);
    assert_eq!(after.lease.deadline, deadline, "no agent has spoken yet");
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
