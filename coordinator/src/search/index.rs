//! The fleet in the order of its size, with all that a search asks of a server already parsed.

use super::columns::Columns;
use super::intern::Interner;
use super::judge::Judge;
use super::postings::Postings;
use super::query::Query;
use super::shape::{Shape, Size};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels::Labels;
use leaseboot_protocol::leases::Refusal;
use leaseboot_protocol::requirements::Group;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// A server that could be lent.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a ServerId,
    /// Whether it may be lent now.
    pub free: bool,
    /// The lender's labels.
    pub labels: &'a Labels,
    /// What it is made of, when that is known.
    pub hardware: Option<&'a HardwareReport>,
}

/// All servers that could be lent, now or later.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub(super) shapes: Interner<Shape>,
    /// The shapes once more, by what is asked of them.
    pub(super) columns: Columns,
    pub(super) labels: Interner<Labels>,
    /// The labels once more, by what is asked of them.
    pub(super) postings: Postings,
    /// Sorted; the same servers as in `slots`, at the same places.
    keys: Vec<Key>,
    /// What a search goes through: small, so that thousands fit into the processor's caches.
    pub(super) slots: Vec<Slot>,
    sizes: HashMap<ServerId, Size>,
}

type Key = (Size, ServerId);

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) shape: u32,
    pub(super) labels: u32,
    pub(super) free: bool,
}

impl Index {
    /// Takes a server in, or what has become of it.
    pub fn put(&mut self, candidate: Candidate<'_>) {
        let shape = Shape::from(candidate.hardware);
        if let Some(place) = self.place(candidate.name) {
            let slot = self.slots[place];
            let same = *self.shapes.get(slot.shape) == shape;
            if same && self.labels.get(slot.labels) == candidate.labels {
                self.slots[place].free = candidate.free;
                return;
            }
            self.remove(candidate.name);
        }
        let key = (shape.size(), candidate.name.clone());
        let place = self.keys.binary_search(&key).unwrap_or_else(|place| place);
        self.sizes.insert(candidate.name.clone(), key.0);
        self.keys.insert(place, key);
        let slot = self.slot(candidate, shape);
        self.slots.insert(place, slot);
    }

    fn slot(&mut self, candidate: Candidate<'_>, shape: Shape) -> Slot {
        let (shape, is_new) = self.shapes.take(shape);
        if is_new {
            self.columns.put(shape, self.shapes.get(shape));
        }
        let (labels, is_new) = self.labels.take(candidate.labels.clone());
        if is_new {
            self.postings.put(labels, candidate.labels);
        }
        Slot {
            shape,
            labels,
            free: candidate.free,
        }
    }

    /// Forgets a server.
    pub fn remove(&mut self, name: &ServerId) {
        if let Some(place) = self.place(name) {
            let slot = self.slots.remove(place);
            if let Some(shape) = self.shapes.release(slot.shape) {
                self.columns.remove(slot.shape, shape);
            }
            if let Some(labels) = self.labels.release(slot.labels) {
                self.postings.remove(slot.labels, labels);
            }
            self.keys.remove(place);
            self.sizes.remove(name);
        }
    }

    /// Says whether a server may be lent; a server that is not known stays unknown.
    pub fn set_free(&mut self, name: &ServerId, free: bool) {
        if let Some(place) = self.place(name) {
            self.slots[place].free = free;
        }
    }

    fn place(&self, name: &ServerId) -> Option<usize> {
        let key = (*self.sizes.get(name)?, name.clone());
        self.keys.binary_search(&key).ok()
    }

    pub(super) fn name(&self, place: usize) -> &ServerId {
        &self.keys[place].1
    }

    /// The best server.
    ///
    /// # Errors
    /// [`Refusal::NothingFits`].
    pub fn find(&self, query: &Query) -> Result<&ServerId, Refusal> {
        let mut judge = Judge::new(self, query);
        let best = match query.has_preferences() {
            false => (0..self.slots.len()).find(|place| judge.fits(*place)),
            true => {
                let fitting: Vec<_> = (0..self.slots.len()).filter(|place| judge.fits(*place)).collect();
                // Of equal ones the last is taken, so they are turned round.
                fitting.into_iter().rev().max_by_key(|place| judge.weight(*place))
            }
        };
        match best {
            Some(place) => Ok(self.name(place)),
            None => Err(super::answer::refusal(&mut judge, None)),
        }
    }

    /// The best servers for a group: of all sets that the group allows, the largest, and of these the one whose best server is best, then
    /// its second best, and so on.
    ///
    /// # Errors
    /// [`Refusal::NothingFits`], which says what is short when single servers do fit.
    pub fn choose(&self, query: &Query, group: &Group) -> Result<Vec<&ServerId>, Refusal> {
        let mut judge = Judge::new(self, query);
        let chosen = super::choose::choose(&mut judge, group);
        match chosen.is_empty() {
            false => Ok(chosen.into_iter().map(|place| self.name(place)).collect()),
            true => Err(super::answer::refusal(&mut judge, Some(group))),
        }
    }

    /// What [`Index::find`] or [`Index::choose`] would find, in numbers.
    pub fn look(&self, query: &Query, group: Option<&Group>) -> leaseboot_protocol::leases::SearchAnswer {
        let one = Group {
            count: NonZeroU32::MIN,
            take: leaseboot_protocol::requirements::Take::AllOrNothing,
            spread: None,
            together: None,
        };
        super::answer::answer(&mut Judge::new(self, query), group.unwrap_or(&one))
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl<'a> FromIterator<Candidate<'a>> for Index {
    /// Sorts once, which is faster than [`Index::put`] for each.
    fn from_iter<I: IntoIterator<Item = Candidate<'a>>>(candidates: I) -> Self {
        let mut index = Self::default();
        let mut all: Vec<(Key, Slot)> = Vec::new();
        for candidate in candidates {
            let shape = Shape::from(candidate.hardware);
            let key = (shape.size(), candidate.name.clone());
            let slot = index.slot(candidate, shape);
            index.sizes.insert(key.1.clone(), key.0);
            all.push((key, slot));
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        (index.keys, index.slots) = all.into_iter().unzip();
        index
    }
}
