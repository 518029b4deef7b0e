//! When the wire is looked at, and what is mended then. Without I/O and clock.
//!
//! ```text
//!           a change                        gone ─► look again soon
//!  quiet ───────────► look is due ─► look ─ down ─► only after some seconds: whoever renames a card takes it down for that
//!    ▲   or half a minute    ▲              up ───► the address where it is missing, the routes in any case
//!    │                       └──── a change ┐ │
//!    └──────────────────────────────────────┴─┘
//! ```
//!
//! Somebody may undo what is mended, and take the mending for a change to undo again: so looks that follow each other closely come ever later, up to some seconds.

use crate::network::Seen;
use std::time::{Duration, Instant};

/// From a change to the first look: changes come in threes and fours.
const SOON: Duration = Duration::from_millis(50);
/// Looks this close together belong to one commotion.
const COMMOTION: Duration = Duration::from_secs(5);
/// In a commotion each look comes after twice the time, so many times.
const DOUBLINGS: u32 = 6;
/// A word of the kernel may be lost.
const EVERY: Duration = Duration::from_secs(30);
/// A card that is gone is looked for so often.
const WHILE_GONE: Duration = Duration::from_secs(1);
/// How long a card may be down before it is brought up.
const MAY_BE_DOWN: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// Nothing can be, or should be yet.
    Nothing,
    /// Bring the card up; that is a change, too.
    Card,
    /// Set the routes, which changes nothing where they still are.
    Routes,
    /// Give the address back, then set the routes.
    AddressAndRoutes,
}

/// When the next look is due, and why.
pub(super) struct Keeper {
    due: Instant,
    last: Instant,
    /// How many looks have followed each other closely.
    commotion: u32,
    down_since: Option<Instant>,
}

impl Keeper {
    /// The wire was set up just now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now + EVERY,
            last: now,
            commotion: 0,
            down_since: None,
        }
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Something has changed. The first change sets the time of the look, and later ones do not put it off.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due = self.due.min(now + SOON * 2_u32.pow(self.commotion));
    }

    /// The look that was due. What it says is done at once.
    pub(super) fn looked(&mut self, seen: Seen, now: Instant) -> Mend {
        self.commotion = match now.duration_since(self.last) < COMMOTION {
            true => (self.commotion + 1).min(DOUBLINGS),
            false => 0,
        };
        self.last = now;
        self.due = now + EVERY;
        match seen {
            Seen::Gone => {
                self.down_since = None;
                self.due = now + WHILE_GONE;
                Mend::Nothing
            }
            Seen::Down => self.down(now),
            Seen::Up { addressed } => {
                self.down_since = None;
                match addressed {
                    true => Mend::Routes,
                    false => Mend::AddressAndRoutes,
                }
            }
        }
    }

    /// The kernel did not tell what there is.
    pub(super) fn failed(&mut self, now: Instant) {
        self.due = now + WHILE_GONE;
    }

    fn down(&mut self, now: Instant) -> Mend {
        let until = *self.down_since.get_or_insert(now) + MAY_BE_DOWN;
        if now < until {
            self.due = until;
            return Mend::Nothing;
        }
        // Who takes it down again has as long as the one before.
        self.down_since = Some(now);
        self.due = now + MAY_BE_DOWN;
        Mend::Card
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FINE: Seen = Seen::Up { addressed: true };

    fn quiet() -> (Keeper, Instant) {
        let begin = Instant::now();
        let mut keeper = Keeper::new(begin);
        let now = begin + EVERY;
        assert_eq!(keeper.looked(FINE, now), Mend::Routes);
        (keeper, now)
    }

    #[test]
    fn an_address_that_was_taken_away_is_given_back_soon() {
        let (mut keeper, now) = quiet();
        keeper.changed(now);
        assert!(keeper.due() <= now + SOON);
        let due = keeper.due().max(now);
        let seen = Seen::Up { addressed: false };
        assert_eq!(keeper.looked(seen, due), Mend::AddressAndRoutes);
        assert_eq!(keeper.due(), due + EVERY, "nothing more is awaited");
    }

    #[test]
    fn more_changes_do_not_put_a_look_off() {
        let (mut keeper, now) = quiet();
        keeper.changed(now);
        let due = keeper.due();
        keeper.changed(now + SOON / 2);
        assert_eq!(keeper.due(), due);
    }

    #[test]
    fn a_card_that_is_down_for_a_moment_is_left_to_whoever_renames_it() {
        let (mut keeper, now) = quiet();
        assert_eq!(keeper.looked(Seen::Down, now), Mend::Nothing);
        assert_eq!(keeper.due(), now + MAY_BE_DOWN);
        let up_again = now + Duration::from_secs(1);
        assert_eq!(keeper.looked(FINE, up_again), Mend::Routes);
        // The next time counts from its own beginning.
        let later = now + MAY_BE_DOWN;
        assert_eq!(keeper.looked(Seen::Down, later), Mend::Nothing);
    }

    #[test]
    fn a_card_that_stays_down_is_brought_up_and_not_all_the_time() {
        let (mut keeper, now) = quiet();
        keeper.looked(Seen::Down, now);
        let due = keeper.due();
        assert_eq!(keeper.looked(Seen::Down, due), Mend::Card);
        assert_eq!(keeper.looked(Seen::Down, due + SOON), Mend::Nothing);
        assert_eq!(keeper.looked(Seen::Down, keeper.due()), Mend::Card);
    }

    #[test]
    fn a_card_without_a_driver_is_looked_for() {
        let (mut keeper, now) = quiet();
        assert_eq!(keeper.looked(Seen::Gone, now), Mend::Nothing);
        assert_eq!(keeper.due(), now + WHILE_GONE);
        let seen = Seen::Up { addressed: false };
        assert_eq!(keeper.looked(seen, keeper.due()), Mend::AddressAndRoutes);
    }

    #[test]
    fn a_quarrel_costs_a_look_every_few_seconds_and_is_over_when_it_is_over() {
        let (mut keeper, mut now) = quiet();
        let mut looks = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            keeper.changed(now);
            now = keeper.due();
            keeper.looked(Seen::Up { addressed: false }, now);
            looks += 1;
        }
        assert!(looks < 30, "{looks} looks in a minute");
        now += EVERY;
        keeper.looked(FINE, now);
        keeper.changed(now);
        assert_eq!(keeper.due(), now + SOON);
    }

    proptest! {
        #[test]
        fn whatever_happens_the_next_look_is_at_most_half_a_minute_away(
            steps in prop::collection::vec((0u8..4, 0u64..40_000), 1..80),
        ) {
            let (mut keeper, mut now) = quiet();
            for (kind, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                match kind {
                    0 => keeper.changed(now),
                    1 => _ = keeper.looked(Seen::Gone, now),
                    2 => _ = keeper.looked(Seen::Down, now),
                    _ => _ = keeper.looked(FINE, now),
                }
                prop_assert!(keeper.due() <= now + EVERY);
            }
        }
    }
}
