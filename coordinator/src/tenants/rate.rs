//! A bucket of requests for each tenant, so that one that asks without end leaves room for the others.
//!
//! Pure, and one number for each tenant: the time at which its bucket would be full again (the "theoretical arrival time" of the
//! generic cell rate algorithm, ITU-T I.371, annex A). In any stretch of time no more requests pass than the burst and those that the
//! rate allows for the stretch. The memory is that of one process: several Lease Managers each grant the rate.

use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// So many requests on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests in a minute.
    pub per_minute: NonZeroU32,
    /// Requests at once, after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    /// Microseconds that one request is worth.
    fn worth(self) -> u64 {
        (60_000_000 / u64::from(self.per_minute.get())).max(1)
    }

    /// One request more. `full_at` is when the bucket is full again, in microseconds.
    fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let worth = self.worth();
        let depth = worth * u64::from(self.burst.get());
        // A clock that was set back must not lock a tenant out: a bucket is never emptier than empty.
        let full_at = full_at.clamp(now, now + depth) + worth;
        if full_at > now + depth {
            return Err(Duration::from_micros(full_at - now - depth));
        }
        Ok(full_at)
    }
}

/// The buckets of all tenants that asked lately.
#[derive(Debug, Default)]
pub struct RateLimiter {
    full_at: HashMap<TenantId, u64>,
}

impl RateLimiter {
    /// Counts one request of the tenant.
    ///
    /// # Errors
    /// How long to wait until the same request passes.
    pub fn admit(&mut self, tenant: &TenantId, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let now = now.0.saturating_mul(1000);
        let full_at = self.full_at.get(tenant).copied().unwrap_or_default();
        let full_at = rate.take(full_at, now)?;
        self.full_at.insert(tenant.clone(), full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate {
            per_minute: NonZeroU32::new(per_minute).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn tenants_do_not_drink_from_each_others_bucket() {
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let mut limiter = RateLimiter::default();
        let slow = rate(60, 2);
        assert_eq!(limiter.admit(&acme, slow, Timestamp(5_000)), Ok(()));
        assert_eq!(limiter.admit(&acme, slow, Timestamp(5_000)), Ok(()));
        assert_eq!(
            limiter.admit(&acme, slow, Timestamp(5_000)),
            Err(Duration::from_secs(1))
        );
        assert_eq!(limiter.admit(&other, slow, Timestamp(5_000)), Ok(()));
        assert_eq!(limiter.admit(&acme, slow, Timestamp(6_000)), Ok(()));
        // The clock is set back by an hour: the wait stays bounded.
        let wait = limiter.admit(&acme, rate(60, 2), Timestamp(0)).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }

    proptest! {
        #[test]
        fn no_stretch_has_more_and_the_promise_is_kept(
            per_minute in 1u32..100_000,
            burst in 1u32..20,
            pauses in proptest::collection::vec(0u64..3_000, 1..150),
        ) {
            let (rate, tenant) = (rate(per_minute, burst), "acme".parse().unwrap());
            let mut limiter = RateLimiter::default();
            let (mut now, mut passed) = (1_000, Vec::new());
            for pause in pauses {
                now += pause;
                if let Err(wait) = limiter.admit(&tenant, rate, Timestamp(now)) {
                    // Whole milliseconds, as clocks here count.
                    now += u64::try_from(wait.as_micros().div_ceil(1000)).unwrap();
                    prop_assert_eq!(limiter.admit(&tenant, rate, Timestamp(now)), Ok(()));
                }
                passed.push(now);
            }
            for (first, from) in passed.iter().enumerate() {
                for (count, until) in passed[first..].iter().enumerate() {
                    let allowed = u64::from(burst) + (until - from) * 1000 / rate.worth();
                    prop_assert!((count as u64) < allowed, "{} in {} ms", count + 1, until - from);
                }
            }
        }
    }
}
