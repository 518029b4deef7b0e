//! What the agent does on the words of both managers: pure.
//!
//! The lender controls the Lease Manager, so its word alone opens no console of the lender's while a lease goes on: the enterprise must have said so through the tunnel. The agent is
//! what the enterprise can rebuild and compare, so this rule is one that it need not take on trust. Of the tenant's console only the PO can tell, and only where there is a tunnel.

use leaseboot_protocol::console::CallId;
use leaseboot_protocol::rescue::{ConsoleCall, RescueWord};
use leaseboot_protocol::timestamp::Timestamp;
use std::fmt;
use std::time::Duration;

/// No order keeps an agent for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long a manager's word stands without being heard again, and how long an agent stays that hears none at all.
const SILENCE: Duration = Duration::from_secs(600);
/// How long the enterprise's consent stands without being heard again: the wire that its withdrawal comes over is the lender's.
const CONSENT: Duration = Duration::from_secs(30);

/// Whose word or console it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The lender's, by the LM.
    Lender,
    /// The tenant's, by the PO.
    Tenant,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Lender => "the lender",
            Side::Tenant => "the tenant",
        })
    }
}

/// The words, and what was done on them.
#[derive(Debug)]
pub(super) struct Desk {
    lent: bool,
    since: Timestamp,
    lender: Heard,
    tenant: Heard,
}

#[derive(Debug, Default)]
struct Heard {
    word: Option<(RescueWord, Timestamp)>,
    /// The call that was answered last: once each.
    answered: Option<CallId>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Consoles to open.
    pub(super) answer: Vec<(Side, ConsoleCall)>,
    /// Whether a console of the lender's may be open.
    pub(super) lender_permitted: bool,
    /// Why the agent goes on, when it does.
    pub(super) go_on: Option<&'static str>,
}

impl Desk {
    /// From `since` on, on a server that a lease has or not.
    pub(super) fn new(lent: bool, since: Timestamp) -> Self {
        Self {
            lent,
            since,
            lender: Heard::default(),
            tenant: Heard::default(),
        }
    }

    /// The last word of a side stands until the next, and not for long without one.
    pub(super) fn hear(&mut self, side: Side, word: RescueWord, now: Timestamp) {
        self.side(side).word = Some((word, now));
    }

    fn side(&mut self, side: Side) -> &mut Heard {
        match side {
            Side::Lender => &mut self.lender,
            Side::Tenant => &mut self.tenant,
        }
    }

    /// What the words ask for at `now`.
    pub(super) fn decide(&mut self, now: Timestamp) -> Decision {
        let words = [&self.lender, &self.tenant].map(|side| side.within(SILENCE, now));
        let wanted = words.into_iter().flatten().any(|word| word.stay);
        let heard = words.iter().any(Option::is_some);
        let stayed = now.since(self.since);
        let go_on = match (heard, wanted) {
            _ if stayed >= LONGEST => Some("rescue mode has lasted for as long as it may"),
            (true, false) => Some("nobody wants the agent to stay any more"),
            (false, _) if stayed >= SILENCE => Some("no manager has said a word about rescue mode"),
            _ => None,
        };
        let consent = self
            .tenant
            .within(CONSENT, now)
            .is_some_and(|word| word.lender_console);
        let lender_permitted = !self.lent || consent;
        let mut answer = Vec::new();
        if go_on.is_none() {
            let lender = self.lender.call(now).filter(|_| lender_permitted);
            answer.extend(lender.map(|call| (Side::Lender, call)));
            answer.extend(self.tenant.call(now).map(|call| (Side::Tenant, call)));
        }
        for (side, call) in &answer {
            self.side(*side).answered = Some(call.id.clone());
        }
        Decision {
            answer,
            lender_permitted,
            go_on,
        }
    }
}

impl Heard {
    /// The last word, when it was heard no longer ago.
    fn within(&self, time: Duration, now: Timestamp) -> Option<&RescueWord> {
        let (word, at) = self.word.as_ref()?;
        (now.since(*at) <= time).then_some(word)
    }

    /// A call that was not answered yet.
    fn call(&self, now: Timestamp) -> Option<ConsoleCall> {
        let call = self.within(SILENCE, now)?.call.clone()?;
        (self.answered.as_ref() != Some(&call.id)).then_some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(byte: u8) -> ConsoleCall {
        ConsoleCall {
            id: CallId::of([byte; 16]),
            lm_url: None,
        }
    }

    fn word(stay: bool, lender_console: bool, calls: Option<u8>) -> RescueWord {
        RescueWord {
            stay,
            lender_console,
            call: calls.map(call),
        }
    }

    #[test]
    fn the_lenders_word_alone_opens_no_console_while_a_lease_goes_on() {
        let mut desk = Desk::new(true, Timestamp(0));
        // A lender that says its tenant agreed has not heard it from the tenant.
        desk.hear(Side::Lender, word(true, true, Some(1)), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(1)).answer, []);
        desk.hear(Side::Tenant, word(true, false, None), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(2)).answer, []);
        desk.hear(Side::Tenant, word(true, true, None), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(3)).answer, [(Side::Lender, call(1))]);
        desk.hear(Side::Tenant, word(true, false, None), Timestamp(1));
        assert!(
            !desk.decide(Timestamp(4)).lender_permitted,
            "consent was withdrawn"
        );
    }

    #[test]
    fn without_a_lease_the_lender_has_its_console_and_each_call_is_answered_once() {
        let mut desk = Desk::new(false, Timestamp(0));
        desk.hear(Side::Lender, word(true, false, Some(1)), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(1)).answer, [(Side::Lender, call(1))]);
        assert_eq!(desk.decide(Timestamp(2)).answer, []);
        desk.hear(Side::Lender, word(true, false, Some(2)), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(3)).answer, [(Side::Lender, call(2))]);
    }

    #[test]
    fn it_goes_on_when_nobody_wants_it_to_stay_and_not_for_a_silence() {
        let mut desk = Desk::new(true, Timestamp(0));
        assert_eq!(desk.decide(Timestamp(1)).go_on, None, "nobody was heard yet");
        desk.hear(Side::Tenant, word(true, false, None), Timestamp(1));
        desk.hear(Side::Lender, word(false, false, None), Timestamp(1));
        assert_eq!(desk.decide(Timestamp(2)).go_on, None);
        desk.hear(Side::Tenant, word(false, false, Some(1)), Timestamp(1));
        let decision = desk.decide(Timestamp(3));
        assert!(decision.go_on.is_some());
        assert_eq!(decision.answer, [], "a console of one who goes on");
    }

    #[test]
    fn a_consent_that_is_not_heard_again_is_over_and_so_is_an_order() {
        let mut desk = Desk::new(true, Timestamp(0));
        desk.hear(Side::Tenant, word(true, true, None), Timestamp(0));
        desk.hear(Side::Lender, word(false, false, None), Timestamp(0));
        assert!(desk.decide(Timestamp(0) + CONSENT).lender_permitted);
        // The lender has cut the tunnel.
        let later = desk.decide(Timestamp(1) + CONSENT);
        assert_eq!((later.lender_permitted, later.go_on), (false, None));
        assert!(desk.decide(Timestamp(1) + SILENCE).go_on.is_some());
    }

    proptest! {
        #[test]
        fn it_never_stays_for_longer_than_a_day(words in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(0u8..4)), 0..20)) {
            let mut desk = Desk::new(true, Timestamp(0));
            let mut consent = false;
            for (at, (lenders, stay, lender_console, calls)) in words.into_iter().enumerate() {
                let side = if lenders { Side::Lender } else { Side::Tenant };
                if !lenders { consent = lender_console; }
                desk.hear(side, word(stay, lender_console, calls), Timestamp(at as u64));
                let decision = desk.decide(Timestamp(at as u64));
                let opened = decision.answer.iter().any(|(side, _)| *side == Side::Lender);
                prop_assert!(!opened || consent);
            }
            prop_assert!(desk.decide(Timestamp(0) + LONGEST).go_on.is_some());
        }
    }
}
