//! How many handshakes are worked on: each costs the gateway some 200 µs of Curve25519, and a sender nothing.
//!
//! boringtun asks for a cookie when there are many, and that proves that the sender has its address; somebody who has one can go on all the same. So there are two buckets of tokens
//! behind it, as in the kernel's `ratelimiter.c`: one for each address, and one for all. A handshake that finds its bucket empty is dropped, and WireGuard tries again after five seconds.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Of one address, which may be a whole site behind address translation that is powered on at once.
const EACH: Rate = Rate {
    per_second: 200.0,
    burst: 500.0,
};
/// Of all together.
const ALL: Rate = Rate {
    per_second: 1000.0,
    burst: 1000.0,
};
/// Addresses that are remembered. When so many are busy at once, further ones wait.
const MOST_ADDRESSES: usize = 4096;
/// How often a full table is looked through: not for each of a flood.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Who may have another handshake.
#[derive(Debug)]
pub(super) struct HandshakeLimit {
    all: Bucket,
    each: HashMap<IpAddr, Bucket>,
    /// When addresses that were quiet again were last forgotten.
    swept: Instant,
}

impl HandshakeLimit {
    /// All may.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Bucket::full(ALL, now),
            each: HashMap::new(),
            swept: now,
        }
    }

    /// Whether an initiation from this address is worked on; then it counts.
    pub(super) fn allows(&mut self, from: IpAddr, now: Instant) -> bool {
        if self.each.len() >= MOST_ADDRESSES && !self.each.contains_key(&from) {
            if now.saturating_duration_since(self.swept) >= SWEEP {
                self.swept = now;
                self.each.retain(|_, bucket| !bucket.is_full(EACH, now));
            }
            if self.each.len() >= MOST_ADDRESSES {
                return false;
            }
        }
        let bucket = self.each.entry(from).or_insert_with(|| Bucket::full(EACH, now));
        bucket.take(EACH, now) && self.all.take(ALL, now)
    }
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens: rate.burst,
            at: now,
        }
    }

    fn filled(self, rate: Rate, now: Instant) -> f64 {
        let since: Duration = now.saturating_duration_since(self.at);
        (self.tokens + since.as_secs_f64() * rate.per_second).min(rate.burst)
    }

    fn is_full(self, rate: Rate, now: Instant) -> bool {
        self.filled(rate, now) >= rate.burst
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let tokens = self.filled(rate, now);
        let is_there = tokens >= 1.0;
        *self = Self {
            tokens: if is_there { tokens - 1.0 } else { tokens },
            at: now,
        };
        is_there
    }
}

/// What a cookie is bound to. The paper (section 5.4.7) says address and port; boringtun takes an address alone, of 16 bytes at most. So it is given
/// one that stands for both: of IPv4 both fit, of IPv6 it is a keyed hash of both, which nobody outside can make collide.
#[derive(Debug, Default)]
pub(super) struct Places {
    keys: [RandomState; 2],
}

impl Places {
    /// The address that stands for a sender.
    pub(super) fn of(&self, sender: SocketAddr) -> IpAddr {
        let mut bytes = [0; 16];
        match sender {
            SocketAddr::V4(sender) => {
                bytes[..4].copy_from_slice(&sender.ip().octets());
                bytes[4..6].copy_from_slice(&sender.port().to_be_bytes());
            }
            SocketAddr::V6(sender) => {
                for (key, half) in self.keys.iter().zip(bytes.chunks_exact_mut(8)) {
                    let hash = key.hash_one((sender.ip(), sender.port()));
                    half.copy_from_slice(&hash.to_ne_bytes());
                }
            }
        }
        Ipv6Addr::from(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_then_a_rate() {
        let begin = Instant::now();
        let mut limit = HandshakeLimit::new(begin);
        let allowed = |limit: &mut HandshakeLimit, from: [u8; 4], now| {
            (0..2000)
                .filter(|_| limit.allows(IpAddr::from(from), now))
                .count()
        };
        assert_eq!(allowed(&mut limit, [192, 0, 2, 1], begin), 500);
        assert_eq!(
            allowed(&mut limit, [192, 0, 2, 2], begin),
            500,
            "another has its own"
        );
        let later = begin + Duration::from_millis(500);
        assert_eq!(allowed(&mut limit, [192, 0, 2, 1], later), 100);
        let much_later = begin + Duration::from_secs(60);
        assert_eq!(
            allowed(&mut limit, [192, 0, 2, 1], much_later),
            500,
            "no more than a burst"
        );
    }

    #[test]
    fn many_addresses_have_a_limit_and_a_bounded_table() {
        let begin = Instant::now();
        let mut limit = HandshakeLimit::new(begin);
        let flood = |limit: &mut HandshakeLimit, now| {
            (0..100_000u32)
                .filter(|number| limit.allows(std::net::Ipv4Addr::from(*number).into(), now))
                .count()
        };
        assert_eq!(flood(&mut limit, begin), 1000);
        assert_eq!(limit.each.len(), MOST_ADDRESSES);
        assert_eq!(flood(&mut limit, begin + Duration::from_secs(10)), 1000);
    }

    #[test]
    fn places_differ_by_address_and_by_port() {
        let places = Places::default();
        let senders = [
            "192.0.2.1:1",
            "192.0.2.1:2",
            "192.0.2.2:1",
            "[2001:db8::1]:1",
            "[2001:db8::1]:2",
            "[2001:db8::2]:1",
        ];
        let of: std::collections::HashSet<_> = senders
            .iter()
            .map(|sender| places.of(sender.parse().unwrap()))
            .collect();
        assert_eq!(of.len(), senders.len());
        assert!(
            senders
                .iter()
                .all(|sender| of.contains(&places.of(sender.parse().unwrap())))
        );
    }
}
