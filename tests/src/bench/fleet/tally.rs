//! How long requests took, by what was asked. A request that should have begun earlier, because the one before it was answered late, counts from
//! when it should have begun: a server that is slow must not be forgiven by those who wait for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// An order of a tenant: borrow, settings, boot, installed, in service.
    Order,
    /// What happened to a lease: from the question that found something at once, or was held, to its answer.
    Events,
    /// A boot script or a site archive.
    Boot,
    /// The agent's first word.
    Hello,
    /// The agent's key, or the kickstart.
    Exchange,
    /// Progress of the agent.
    Progress,
}

/// All times so far.
#[derive(Default)]
pub(super) struct Tally(Mutex<BTreeMap<Asked, Vec<Duration>>>);

/// Times of one kind, sorted.
pub(super) struct Times(Vec<Duration>);

impl Tally {
    /// One more.
    pub(super) fn note(&self, asked: Asked, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(asked).or_default().push(took);
    }

    /// All of each kind.
    pub(super) fn times(&self) -> BTreeMap<Asked, Times> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let sorted = all.into_iter().map(|(asked, mut times)| {
            times.sort_unstable();
            (asked, Times(times))
        });
        sorted.collect()
    }
}

impl Times {
    /// The time in milliseconds that this share of all requests does not pass; without any, no number.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let found = self.0.get(rank.clamp(1, self.0.len().max(1)) - 1);
        found.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        write!(
            f,
            "{:>7} × p50 {p50:>7.1} ms  p99 {p99:>7.1} ms  at most {most:>7.1} ms",
            self.0.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let tally = Tally::default();
        for ms in (1..=200).rev() {
            tally.note(Asked::Progress, Duration::from_millis(ms));
        }
        let times = tally.times();
        let progress = &times[&Asked::Progress];
        assert_eq!(
            [0.5, 0.99, 1.0].map(|share| progress.quantile(share)),
            [100.0, 198.0, 200.0]
        );
        assert!(Times(Vec::new()).quantile(0.5).is_nan());
    }
}
