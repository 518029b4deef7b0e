//! A search under way: which shapes and sets of labels meet which checks, and with that which servers do.

use super::bits::Bits;
use super::check::Check;
use super::index::{Index, Slot};
use super::query::Query;
use super::shape::Shape;
use leaseboot_protocol::labels::Labels;

/// The search.
pub(super) struct Judge<'a> {
    pub(super) index: &'a Index,
    pub(super) query: &'a Query,
    /// For each check of the labels, the sets of labels that meet it, by their numbers.
    labels: Vec<Bits>,
    all_labels: Bits,
    /// For each check of the hardware, the shapes that meet it, by their numbers; `None` for one that is made when a server comes to it.
    hardware: Vec<Option<Bits>>,
    all_hardware: Bits,
    /// The outcome of those, of the shapes that were come to.
    come_to: Vec<Option<bool>>,
    /// By the numbers of sets of labels; empty without preferences.
    weights: Vec<i64>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(index: &'a Index, query: &'a Query) -> Self {
        let (shapes, sets) = (index.shapes.bound(), index.labels.bound());
        let labels: Vec<_> = query
            .labels
            .iter()
            .map(|check| index.postings.meeting(check))
            .collect();
        let hardware: Vec<_> = query
            .hardware
            .iter()
            .map(|check| index.columns.meeting(check))
            .collect();
        let one_by_one = hardware.iter().any(Option::is_none);
        Self {
            index,
            query,
            all_labels: labels.iter().fold(Bits::default().not(sets), Bits::and),
            labels,
            all_hardware: hardware
                .iter()
                .flatten()
                .fold(Bits::default().not(shapes), Bits::and),
            hardware,
            come_to: vec![None; if one_by_one { shapes } else { 0 }],
            weights: weights(index, query),
        }
    }

    pub(super) fn is_free(&self, place: usize) -> bool {
        self.index.slots[place].free && !self.query.leaves_out(self.index.name(place))
    }

    pub(super) fn fits(&mut self, place: usize) -> bool {
        let Slot { shape, labels, free } = self.index.slots[place];
        free && self.all_hardware.get(shape as usize)
            && self.all_labels.get(labels as usize)
            && self.is_free(place)
            && self.meets_the_others(shape)
    }

    /// Whether the shape meets the checks that are not answered for all shapes at once.
    fn meets_the_others(&mut self, shape: u32) -> bool {
        let Some(come_to) = self.come_to.get_mut(shape as usize) else {
            return true;
        };
        let others = self.query.hardware.iter().zip(&self.hardware);
        *come_to.get_or_insert_with(|| {
            let mut others = others.filter(|(_, met)| met.is_none());
            others.all(|(check, _)| check.is_met(self.index.shapes.get(shape)))
        })
    }

    /// All that fit, the smallest first.
    pub(super) fn fitting(&mut self) -> Vec<usize> {
        (0..self.index.slots.len())
            .filter(|place| self.fits(*place))
            .collect()
    }

    /// For each check, in the order of their numbers, the sets of labels that fail it, then the shapes that do.
    pub(super) fn failing(&self) -> (Vec<Bits>, Vec<Bits>) {
        let (shapes, sets) = (self.index.shapes.bound(), self.index.labels.bound());
        let labels = self.labels.iter().map(|met| met.clone().not(sets));
        let hardware = self
            .query
            .hardware
            .iter()
            .zip(&self.hardware)
            .map(|(check, met)| match met {
                Some(met) => met.clone().not(shapes),
                None => self.failing_one_by_one(check),
            });
        (labels.collect(), hardware.collect())
    }

    fn failing_one_by_one(&self, check: &Check) -> Bits {
        let shapes = &self.index.shapes;
        Bits::of(shapes.bound(), |number| !check.is_met(shapes.at(number)))
    }

    pub(super) fn weight(&self, place: usize) -> i64 {
        let labels = self.index.slots[place].labels as usize;
        self.weights.get(labels).copied().unwrap_or(0)
    }

    pub(super) fn labels_of(&self, place: usize) -> &'a Labels {
        self.index.labels.get(self.index.slots[place].labels)
    }

    pub(super) fn shape_of(&self, place: usize) -> &'a Shape {
        self.index.shapes.get(self.index.slots[place].shape)
    }
}

/// How much better than others a server with these labels is.
fn weights(index: &Index, query: &Query) -> Vec<i64> {
    if !query.has_preferences() {
        return Vec::new();
    }
    let mut weights = vec![0; index.labels.bound()];
    for preference in query.preferences() {
        for liked in index.postings.matching(&preference.matching).numbers() {
            weights[liked] += i64::from(preference.weight);
        }
    }
    weights
}
