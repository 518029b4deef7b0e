//! How many servers of one rack may be switched on within a time: starting currents add up, and a breaker that trips takes the
//! whole rack along.
//!
//! Pure: the caller brings the time. What is guaranteed: in no stretch of [`RackLimit::within`] are there more than
//! [`RackLimit::starts`] admissions for one rack, and whoever is told a time is admitted then if nobody else was faster. The
//! memory is that of one process: after a restart the stretch begins anew, and several Lease Managers each keep their own.

use leaseboot_protocol::timestamp::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

/// At most so many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RackLimit {
    /// Servers that are switched on.
    pub starts: NonZeroU32,
    /// In this time, in seconds.
    pub within_s: NonZeroU32,
}

impl RackLimit {
    fn within(self) -> Duration {
        Duration::from_secs(self.within_s.get().into())
    }
}

/// The racks and who was switched on there lately.
#[derive(Debug, Default)]
pub struct RackLimiter {
    limit: Option<RackLimit>,
    lately: BTreeMap<String, VecDeque<Timestamp>>,
}

impl RackLimiter {
    /// Without a limit everybody is admitted at once.
    pub fn new(limit: Option<RackLimit>) -> Self {
        Self {
            limit,
            lately: BTreeMap::new(),
        }
    }

    /// Admits one server of the rack now, and remembers that; or gives the time at which there is room again.
    ///
    /// # Errors
    /// The time to ask again.
    pub fn admit(&mut self, rack: &str, now: Timestamp) -> Result<(), Timestamp> {
        let Some(limit) = self.limit else { return Ok(()) };
        self.lately.retain(|_, starts| {
            // A clock that was set back must not lock a rack for long: what lies ahead of it is as good as forgotten.
            starts.retain(|at| *at <= now && now < *at + limit.within());
            !starts.is_empty()
        });
        let starts = self.lately.entry(rack.to_owned()).or_default();
        match starts.front() {
            Some(oldest) if starts.len() >= limit.starts.get() as usize => Err(*oldest + limit.within()),
            _ => {
                starts.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(starts: u32, within_s: u32) -> RackLimiter {
        RackLimiter::new(Some(RackLimit {
            starts: NonZeroU32::new(starts).unwrap(),
            within_s: NonZeroU32::new(within_s).unwrap(),
        }))
    }

    #[test]
    fn racks_do_not_wait_for_each_other() {
        let mut limiter = limiter(1, 10);
        assert_eq!(limiter.admit("a", Timestamp(0)), Ok(()));
        assert_eq!(limiter.admit("a", Timestamp(9_999)), Err(Timestamp(10_000)));
        assert_eq!(limiter.admit("b", Timestamp(1)), Ok(()));
        assert_eq!(limiter.admit("a", Timestamp(10_000)), Ok(()));
        assert_eq!(RackLimiter::new(None).admit("a", Timestamp(0)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_stretch_has_more_and_who_waits_gets_in(
            starts in 1u32..5,
            within_s in 1u32..20,
            asks in proptest::collection::vec((0u64..5_000, 0u8..3), 1..200),
        ) {
            let mut limiter = limiter(starts, within_s);
            let within = u64::from(within_s) * 1000;
            let mut admitted: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
            let mut now = 0;
            for (pause, rack) in asks {
                now += pause;
                let before = admitted.entry(rack).or_default();
                match limiter.admit(&rack.to_string(), Timestamp(now)) {
                    Ok(()) => before.push(now),
                    Err(at) => {
                        prop_assert!(at.0 > now && at.0 <= now + within);
                        // Nobody else asks before: the promise is kept.
                        now = at.0;
                        prop_assert_eq!(limiter.admit(&rack.to_string(), at), Ok(()));
                        before.push(now);
                    }
                }
            }
            for times in admitted.values() {
                for window in times.windows(starts as usize + 1) {
                    prop_assert!(window[starts as usize] - window[0] >= within, "{times:?}");
                }
            }
        }
    }
}
