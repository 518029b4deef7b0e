//! Deadlines of wipe mode: none of its steps may take for ever.

use super::EraseError;
use std::time::{Duration, Instant};

/// The slowest disk that still counts as working, in bytes per second.
const SLOWEST: u64 = 10 << 20;
/// What even an empty disk may take.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// A deadline and what it is for.
pub(super) struct Limit {
    what: &'static str,
    within: Duration,
    until: Instant,
}

impl Limit {
    /// From now on.
    pub(super) fn of(what: &'static str, within: Duration) -> Self {
        Self {
            what,
            within,
            until: Instant::now() + within,
        }
    }

    /// From now on, for going over `bytes` of a disk once.
    pub(super) fn for_bytes(what: &'static str, bytes: u64) -> Self {
        Self::of(what, GRACE + Duration::from_secs(bytes / SLOWEST))
    }

    /// Whether there is time left.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.until
    }

    /// An error when there is none left.
    pub(super) fn check(&self) -> Result<(), EraseError> {
        match self.holds() {
            true => Ok(()),
            false => Err(EraseError::Late {
                what: self.what,
                within: self.within,
            }),
        }
    }
}
