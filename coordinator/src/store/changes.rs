//! Who is told of a change, and of which.
//!
//! ```text
//!  a lease changed ──► the questions about this lease     thousands wait, each for its own lease
//!        └── and somebody must act soon ──► the driver    one waits
//! ```
//!
//! Most changes are progress that an agent reports: nobody has to act, and nobody but the lease's tenant wants to know. Were all told of
//! everything, each report would cost as much as there are leases. A notice is a hint: what changed is read from the tables.

use leaseboot_protocol::ids::LeaseId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// All who wait. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Changes(Arc<Waiting>);

struct Waiting {
    work: watch::Sender<u64>,
    /// Only leases that somebody follows.
    followed: Mutex<HashMap<LeaseId, watch::Sender<()>>>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            work: watch::Sender::new(0),
            followed: Mutex::default(),
        }
    }
}

/// Waits for changes of one lease.
pub struct Following {
    lease: LeaseId,
    changes: watch::Receiver<()>,
    all: Changes,
}

impl Changes {
    pub(super) fn follow(&self, lease: &LeaseId) -> Following {
        let changes = self.followed().entry(lease.clone()).or_default().subscribe();
        Following {
            lease: lease.clone(),
            changes,
            all: self.clone(),
        }
    }

    pub(super) fn work(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    pub(super) fn tell_of(&self, lease: &LeaseId) {
        if let Some(followers) = self.followed().get(lease) {
            followers.send_replace(());
        }
    }

    pub(super) fn tell_of_work(&self) {
        self.0.work.send_modify(|count| *count += 1);
    }

    /// Something changed, and nobody knows what.
    pub(super) fn tell_of_all(&self) {
        for followers in self.followed().values() {
            followers.send_replace(());
        }
        self.tell_of_work();
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<LeaseId, watch::Sender<()>>> {
        // Each critical section is one statement, so what a panicked holder left is whole.
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    /// What changes from here on is told by [`Following::changed`]: to be called before the lease is read.
    pub fn look(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Returns when the lease has changed since [`Following::look`], or may have.
    pub async fn changed(&mut self) {
        // The sender is kept for as long as somebody follows.
        let _ = self.changes.changed().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.all.followed();
        // Our own receiver is still there.
        if followed
            .get(&self.lease)
            .is_some_and(|followers| followers.receiver_count() <= 1)
        {
            followed.remove(&self.lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn who_follows_a_lease_hears_of_no_other_and_leaves_nothing_behind() {
        let (changes, one, other) = (
            Changes::default(),
            "lease-1".parse().unwrap(),
            "lease-2".parse().unwrap(),
        );
        let (mut first, mut second) = (changes.follow(&one), changes.follow(&one));
        let mut work = changes.work();
        changes.tell_of(&other);
        assert!(first.changed().now_or_never().is_none());
        changes.tell_of(&one);
        assert!(first.changed().now_or_never().is_some() && second.changed().now_or_never().is_some());
        assert!(first.changed().now_or_never().is_none(), "once is enough");
        assert!(!work.has_changed().unwrap());
        changes.tell_of_all();
        assert!(first.changed().now_or_never().is_some() && work.has_changed().unwrap());
        work.mark_unchanged();
        changes.tell_of_work();
        assert!(work.has_changed().unwrap() && first.changed().now_or_never().is_none());
        drop(first);
        assert_eq!(changes.followed().len(), 1);
        drop(second);
        assert!(changes.followed().is_empty());
    }
}
