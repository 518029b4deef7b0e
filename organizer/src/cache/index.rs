//! What is kept, in the order of its use, within a bound of bytes. Pure: who asks does to the files what is answered.

use std::collections::{BTreeMap, HashMap};

/// What is kept, by key.
pub struct Index<V> {
    limit: u64,
    kept: u64,
    reserved: u64,
    clock: u64,
    entries: HashMap<String, Entry<V>>,
    by_use: BTreeMap<u64, String>,
}

struct Entry<V> {
    value: V,
    size: u64,
    used: u64,
}

/// Bytes that are promised to something that is on its way.
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation(u64);

impl<V> Index<V> {
    /// Nothing is kept, and `limit` bytes at most will be.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            kept: 0,
            reserved: 0,
            clock: 0,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// How many bytes are kept.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// What is kept under `key`.
    pub fn peek(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// What is kept under `key`; it is now the last used.
    pub fn touch(&mut self, key: &str) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, key.to_owned());
        Some(&entry.value)
    }

    /// Promises room for `size` bytes, and answers what has to go for it. `None` when there is no room even then.
    pub fn reserve(&mut self, size: u64) -> Option<(Reservation, Vec<V>)> {
        let free = self.limit.checked_sub(self.reserved)?;
        if size > free {
            return None;
        }
        let mut gone = Vec::new();
        while self.kept > free - size {
            gone.push(self.evict()?);
        }
        self.reserved += size;
        Some((Reservation(size), gone))
    }

    /// Gives the promise up.
    pub fn cancel(&mut self, reservation: Reservation) {
        self.reserved -= reservation.0;
    }

    /// Keeps something in the room that was promised for it, which it does not exceed; answers what was kept under the key before.
    pub fn keep(&mut self, reservation: Reservation, key: &str, size: u64, value: V) -> Option<V> {
        let size = size.min(reservation.0);
        self.cancel(reservation);
        let before = self.remove(key);
        self.clock += 1;
        self.kept += size;
        self.by_use.insert(self.clock, key.to_owned());
        let entry = Entry {
            value,
            size,
            used: self.clock,
        };
        self.entries.insert(key.to_owned(), entry);
        before
    }

    /// Keeps it no longer.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        self.kept -= entry.size;
        Some(entry.value)
    }

    fn evict(&mut self) -> Option<V> {
        let (_, key) = self.by_use.first_key_value()?;
        let key = key.clone();
        self.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keep(index: &mut Index<u64>, key: &str, size: u64) -> Option<Vec<u64>> {
        let (reservation, mut gone) = index.reserve(size)?;
        gone.extend(index.keep(reservation, key, size, size));
        Some(gone)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut index = Index::new(100);
        for (key, size) in [("a", 40), ("b", 30), ("c", 20)] {
            assert_eq!(keep(&mut index, key, size), Some(Vec::new()));
        }
        assert_eq!(index.touch("a"), Some(&40));
        assert_eq!(keep(&mut index, "d", 35), Some(vec![30]));
        assert_eq!(index.touch("b"), None);
        assert_eq!(
            keep(&mut index, "a", 10),
            Some(vec![20, 40]),
            "what has to go, and the old one of the same key"
        );
        assert_eq!(index.kept(), 45);
        assert_eq!(keep(&mut index, "e", 101), None);
        assert_eq!(index.kept(), 45, "what fits nowhere drives nothing out");
    }

    #[test]
    fn room_that_is_promised_is_nobody_elses() {
        let mut index: Index<u64> = Index::new(100);
        let (first, _) = index.reserve(60).unwrap();
        assert_eq!(index.reserve(41), None);
        index.cancel(first);
        assert!(index.reserve(41).is_some());
    }

    proptest! {
        #[test]
        fn the_bound_holds(steps in prop::collection::vec((0u8..4, 0u8..6, 0u64..60), 0..200)) {
            let mut index = Index::new(100);
            let mut promised = Vec::new();
            for (step, key, size) in steps {
                let key = key.to_string();
                match step {
                    0 => drop(index.touch(&key)),
                    1 => promised.extend(index.reserve(size).map(|(reservation, _)| reservation)),
                    2 => promised.pop().into_iter().for_each(|reservation| index.cancel(reservation)),
                    _ => if let Some(reservation) = promised.pop() {
                        index.keep(reservation, &key, size, size);
                    }
                }
                let kept: u64 = index.entries.values().map(|entry| entry.size).sum();
                prop_assert_eq!(kept, index.kept);
                prop_assert!(index.kept + index.reserved <= 100);
                prop_assert_eq!(index.entries.len(), index.by_use.len());
            }
        }
    }
}
