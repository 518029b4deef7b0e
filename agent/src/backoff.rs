//! Waits between attempts: doubling, bounded, and different on each server so that a rack does not knock at once.

use std::time::Duration;

/// A doubling wait.
pub(crate) struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    /// Begins at `first` and doubles up to `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { next: first, limit }
    }

    /// The next wait, of which a quarter is chance.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (self.next * 2).min(self.limit);
        full.mul_f64(0.75 + 0.25 * chance())
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

/// A number in 0..1; without random numbers, the middle.
fn chance() -> f64 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_or(0.5, |()| f64::from(u16::from_le_bytes(bytes)) / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for full in [1, 2, 4, 4] {
            let wait = backoff.next();
            assert!(wait <= Duration::from_secs(full) && wait >= Duration::from_secs(full).mul_f64(0.75));
        }
    }
}
