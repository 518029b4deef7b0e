//! Which changes of a lease call the driver's loop. It goes through all that is due in the whole fleet, and of ten changes nine are progress that an agent
//! reports: of those it needs to know nothing.

use super::driver::LONGEST_NAP;
use super::machine::{Effect, Lease, Phase};
use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::timestamp::Timestamp;

/// Whether the loop may have something to do because of this change, before its nap ends.
pub(super) fn needs_action(
    before: &Lease,
    after: &Lease,
    effects: &[(LeaseState, Effect)],
    at: Timestamp,
) -> bool {
    let acts = |effect: &Effect| match effect {
        // A server that was let go may suit a lease that moves.
        Effect::Power { .. } | Effect::LetGo(_) | Effect::Take(_) => true,
        Effect::Record(_) | Effect::RevokeTokens | Effect::Works(_) => false,
    };
    let moves = matches!(after.phase, Phase::Moving { .. });
    let due_sooner = is_due_soon(after, at) && before.due().is_none_or(|before| after.due() < Some(before));
    moves || due_sooner || effects.iter().any(|(_, effect)| acts(effect))
}

/// Whether the lease is due before the longest nap ends. Whatever is due later is seen in time.
pub(super) fn is_due_soon(lease: &Lease, at: Timestamp) -> bool {
    lease.due().is_some_and(|due| due <= at + LONGEST_NAP)
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Rules};
    use super::*;
    use leaseboot_protocol::agent::{Outcome, Report};
    use leaseboot_protocol::lease::Step;

    const AT: Timestamp = Timestamp(1_000_000);

    /// Whether the last of these events calls the loop.
    fn calls(rules: &Rules, events: impl IntoIterator<Item = Event>) -> bool {
        let mut lease = Lease::begin("a".parse().unwrap(), None, AT, rules).lease;
        let mut called = false;
        for event in events {
            let step = lease.clone().step(event, AT, rules).unwrap();
            let state = step.lease.phase.state();
            let effects: Vec<_> = step.effects.into_iter().map(|effect| (state, effect)).collect();
            called = needs_action(&lease, &step.lease, &effects, AT);
            lease = step.lease;
        }
        called
    }

    #[test]
    fn orders_call_and_progress_does_not() {
        let rules = Rules::default();
        let booted = [Event::SettingsMerged, Event::BootOrdered];
        assert!(!calls(&rules, booted[..1].to_vec()));
        assert!(calls(&rules, booted.clone()));
        let progress = Report {
            step: Step::Initrd,
            at: AT,
            outcome: Outcome::Progress {
                bytes: 1,
                total: None,
            },
        };
        let reported = [Event::Hello, Event::Reported(progress)];
        assert!(!calls(&rules, booted.iter().cloned().chain(reported)));
        assert!(calls(&rules, [Event::Released]), "the server is free");
    }

    #[test]
    fn what_is_due_within_a_nap_calls() {
        let mut rules = Rules::default();
        rules.deadlines.prepared = 5.try_into().unwrap();
        assert!(calls(&rules, [Event::SettingsMerged]));
        assert!(!is_due_soon(
            &Lease::begin("a".parse().unwrap(), None, AT, &rules).lease,
            AT
        ));
    }
}
