//! How many servers of one rack may be switched on within a time: starting currents add up, and a breaker that trips takes the
//! whole rack along.
//!
//! Pure: the caller brings the time and what happened lately, which the store keeps for all Lease Managers and over restarts. What is guaranteed: in no stretch
//! of [`RackLimit::within_s`] are there more than [`RackLimit::starts`] admissions for one rack, and whoever is told a time is admitted then if nobody else was faster.

use leaseboot_protocol::timestamp::Timestamp;
use serde::Deserialize;
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
    /// Admits one server now and adds it to the rack's `lately`, the oldest first; or gives the time at which there is room again.
    /// What cannot matter any more is taken out of `lately`.
    ///
    /// # Errors
    /// The time to ask again.
    pub fn admit(self, lately: &mut Vec<Timestamp>, now: Timestamp) -> Result<(), Timestamp> {
        let within = Duration::from_secs(self.within_s.get().into());
        // Another's clock may be a little ahead; but one that was set back must not lock a rack for long.
        lately.retain(|at| *at < now + within && now < *at + within);
        match lately.first() {
            Some(oldest) if lately.len() >= self.starts.get() as usize => Err(*oldest + within),
            _ => {
                lately.push(now);
                lately.sort();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(starts: u32, within_s: u32) -> RackLimit {
        RackLimit {
            starts: NonZeroU32::new(starts).unwrap(),
            within_s: NonZeroU32::new(within_s).unwrap(),
        }
    }

    #[test]
    fn who_is_told_to_wait_is_not_counted() {
        let mut lately = Vec::new();
        assert_eq!(limit(1, 10).admit(&mut lately, Timestamp(0)), Ok(()));
        assert_eq!(
            limit(1, 10).admit(&mut lately, Timestamp(9_999)),
            Err(Timestamp(10_000))
        );
        assert_eq!(limit(1, 10).admit(&mut lately, Timestamp(10_000)), Ok(()));
        assert_eq!(lately, [Timestamp(10_000)]);
    }

    #[test]
    fn a_clock_that_is_a_little_ahead_counts_and_one_that_was_set_back_locks_nothing() {
        let mut lately = vec![Timestamp(100_400)];
        assert_eq!(
            limit(1, 10).admit(&mut lately, Timestamp(100_000)),
            Err(Timestamp(110_400))
        );
        assert_eq!(limit(1, 10).admit(&mut lately, Timestamp(1_000)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_stretch_has_more_and_who_waits_gets_in(
            starts in 1u32..5,
            within_s in 1u32..20,
            pauses in proptest::collection::vec(0u64..5_000, 1..200),
        ) {
            let (limit, within) = (limit(starts, within_s), u64::from(within_s) * 1000);
            let (mut lately, mut admitted, mut now) = (Vec::new(), Vec::new(), 0);
            for pause in pauses {
                now += pause;
                if let Err(at) = limit.admit(&mut lately, Timestamp(now)) {
                    prop_assert!(at.0 > now && at.0 <= now + within);
                    // Nobody else asks before: the promise is kept.
                    now = at.0;
                    prop_assert_eq!(limit.admit(&mut lately, at), Ok(()));
                }
                admitted.push(now);
                prop_assert!(lately.len() <= starts as usize);
            }
            for window in admitted.windows(starts as usize + 1) {
                prop_assert!(window[starts as usize] - window[0] >= within, "{admitted:?}");
            }
        }
    }
}
