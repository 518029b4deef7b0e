//! Servers that requests under way are about to take.
//!
//! Of equal servers every search finds the same one. Of a hundred requests at once, one would take it and ninety-nine would search again, and so on: most would give up
//! before their turn. So whoever has found a server keeps the others from finding it until it was taken, or was not. This is no lock: other Lease Managers find it all the
//! same, and the store decides.

use super::driver::locked;
use crate::search::Query;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::Refusal;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// All of them.
#[derive(Default)]
pub(super) struct Reserved(Mutex<BTreeSet<ServerId>>);

/// One of them, until this is dropped.
pub(super) struct Reservation<'a> {
    all: &'a Reserved,
    server: ServerId,
}

impl Reserved {
    /// Searches among all but these, and reserves what was found. Where nothing else fits, one of these is found: whoever is about to take it may fail.
    pub(super) fn find(
        &self,
        query: &Query,
        search: impl Fn(&Query) -> Result<ServerId, Refusal>,
    ) -> Result<Reservation<'_>, Refusal> {
        let mut reserved = locked(&self.0);
        let others: Vec<_> = reserved.iter().cloned().collect();
        let server = search(&query.clone().without(&others)).or_else(|_| search(query))?;
        reserved.insert(server.clone());
        Ok(Reservation { all: self, server })
    }
}

impl Reservation<'_> {
    pub(super) fn server(&self) -> &ServerId {
        &self.server
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        locked(&self.all.0).remove(&self.server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Candidate, Index};
    use leaseboot_protocol::hardware::HardwareReport;
    use leaseboot_protocol::requirements::Requirements;

    #[test]
    fn requests_at_once_find_different_servers_while_there_are_some() {
        let (names, labels) = (["a", "b"].map(|name| name.parse().unwrap()), Default::default());
        // Only what is known to be something is found.
        let hardware = HardwareReport::default();
        let candidate = |name| Candidate {
            name,
            free: true,
            labels: &labels,
            hardware: Some(&hardware),
        };
        let index: Index = names.iter().map(candidate).collect();
        let (reserved, query) = (Reserved::default(), Query::new(&Requirements::default()));
        let find = || {
            reserved
                .find(&query, |query| index.find(query).cloned())
                .ok()
                .unwrap()
        };
        let (first, second) = (find(), find());
        assert_ne!(first.server(), second.server());
        let third = find();
        assert!(names.contains(third.server()));
        drop((first, second, third));
        assert!(reserved.0.lock().unwrap().is_empty());
    }
}
