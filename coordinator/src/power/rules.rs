//! What the lender decided about power orders: how often one is tried and after which pauses, and what a rack bears.

use super::{PowerError, RackLimit};
use serde::Deserialize;
use std::num::NonZeroU32;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longer than a busy Lease Manager or a database that changes hands is silent.
const TAKEOVER_S: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// The `[power]` table of `lm.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PowerRules {
    /// How often one order is tried in all.
    pub attempts: NonZeroU32,
    /// How many servers with the same label `rack` may be switched on within a time; those without the label count as one rack.
    pub rack_limit: Option<RackLimit>,
    /// Seconds after which another Lease Manager of the same store takes over the orders of one that has fallen silent. One that lives says
    /// after half of them that an order is still its own.
    pub takeover_s: NonZeroU32,
}

impl Default for PowerRules {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(2),
            rack_limit: None,
            takeover_s: TAKEOVER_S,
        }
    }
}

impl PowerRules {
    /// How long an order is ours without our saying so again.
    pub fn takeover(&self) -> Duration {
        Duration::from_secs(self.takeover_s.get().into())
    }

    /// The pause before the next try after `failed` tries, the last of which ended with `error`; `None` when there is no next one.
    pub fn pause_after(&self, failed: u32, error: &PowerError) -> Option<Duration> {
        (failed < self.attempts.get() && error.may_pass()).then(|| pause(failed))
    }
}

/// 2 s, 4 s, 8 s and so on, to a minute.
fn pause(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::{PowerOrder, PowerState};

    #[test]
    fn pauses_double_and_end() {
        let rules = PowerRules {
            attempts: NonZeroU32::new(4).unwrap(),
            ..PowerRules::default()
        };
        let passing = PowerError::NotReached {
            wanted: PowerState::On,
            seen: PowerState::Off,
            waited: Duration::ZERO,
        };
        let pauses: Vec<_> = (1..=4)
            .map(|failed| rules.pause_after(failed, &passing))
            .collect();
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(pauses, [seconds(2), seconds(4), seconds(8), None]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
        let lasting = PowerError::Unable {
            order: PowerOrder::Off,
            advice: "",
        };
        assert_eq!(rules.pause_after(1, &lasting), None);
    }
}
