//! When to look at which transfer again.
//!
//! Each ACK moves its transfer's deadline, thousands of times a second in a storm; so the wheel is not told. It remembers one future look
//! for each transfer, and a look that comes too early asks for the next one. Deadlines are met to within [`TICK`].

use std::time::{Duration, Instant};

/// The wheel's step.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Steps in one turn; what is due later than that is looked at early.
const SLOTS: usize = 256;

/// Looks to be taken, by time.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// The slot whose time begins at `time`.
    at: usize,
    time: Instant,
    waiting: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            at: 0,
            time: now,
            waiting: 0,
        }
    }

    /// Asks for a look at `when`, or a little later; earlier when that is more than a turn away.
    pub(super) fn look(&mut self, what: T, when: Instant) {
        let ticks = when.saturating_duration_since(self.time).as_nanos() / TICK.as_nanos() + 1;
        let ticks = usize::try_from(ticks).unwrap_or(SLOTS).min(SLOTS - 1);
        self.slots[(self.at + ticks) % SLOTS].push(what);
        self.waiting += 1;
    }

    /// How many looks are to come.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes what is due.
    pub(super) fn due(&mut self, now: Instant, due: &mut Vec<T>) {
        if self.waiting == 0 {
            self.time = now;
            return;
        }
        while self.time + TICK <= now && self.waiting > 0 {
            self.time += TICK;
            self.at = (self.at + 1) % SLOTS;
            self.waiting -= self.slots[self.at].len();
            due.append(&mut self.slots[self.at]);
        }
    }

    /// When to call [`Wheel::due`] next; `None` when nothing waits.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.waiting > 0).then(|| self.time + TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every look comes once, not before its time unless it is far off, and at most two steps late.
        #[test]
        fn looks_come_once_and_in_time(looks in prop::collection::vec(0u64..20_000, 0..50), idle in 0u64..100_000) {
            let begin = Instant::now();
            let mut wheel = Wheel::new(begin);
            let mut due = Vec::new();
            let begin = begin + Duration::from_millis(idle);
            wheel.due(begin, &mut due);
            for (index, after) in looks.iter().enumerate() {
                wheel.look(index, begin + Duration::from_millis(*after));
            }
            let mut seen = vec![None; looks.len()];
            let mut now = begin;
            while let Some(next) = wheel.next() {
                now = now.max(next);
                wheel.due(now, &mut due);
                for index in due.drain(..) {
                    prop_assert!(seen[index].replace(now - begin).is_none());
                }
                prop_assert!(now - begin <= Duration::from_secs(30));
            }
            for (after, seen) in looks.iter().zip(seen) {
                let (wanted, seen) = (Duration::from_millis(*after), seen.unwrap());
                prop_assert!(seen >= wanted.min(TICK * 254) && seen <= wanted + 2 * TICK, "{wanted:?}, {seen:?}");
            }
        }
    }
}
