//! The sets of labels of a fleet by the labels in them, so that an expression is answered for all of them at once.

use super::bits::Bits;
use super::check::LabelCheck;
use leaseboot_protocol::labels::{LabelExpression, Labels, Sets};
use std::collections::HashMap;

/// The postings, by the numbers of the sets of labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Postings {
    names: HashMap<String, Values>,
    /// Numbers are below this.
    bound: usize,
}

#[derive(Clone, Debug, Default)]
struct Values {
    there: Bits,
    /// Lists, because a label may have a value of its own for each server.
    each: HashMap<String, Vec<u32>>,
}

impl Postings {
    /// Takes a set of labels in under its number.
    pub(super) fn put(&mut self, number: u32, labels: &Labels) {
        self.bound = self.bound.max(number as usize + 1);
        for (name, value) in labels {
            let values = self.names.entry(name.clone()).or_default();
            values.there.set(number as usize, true);
            values.each.entry(value.clone()).or_default().push(number);
        }
    }

    /// The number is used no more.
    pub(super) fn remove(&mut self, number: u32, labels: &Labels) {
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            values.there.set(number as usize, false);
            if let Some(numbers) = values.each.get_mut(value) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    values.each.remove(value);
                }
            }
            if values.each.is_empty() {
                self.names.remove(name);
            }
        }
    }

    pub(super) fn meeting(&self, check: &LabelCheck) -> Bits {
        match check {
            LabelCheck::Is(name, value) => self.with_value(name, value),
            LabelCheck::Where(expression) => self.matching(expression),
        }
    }

    /// The sets of labels that the expression means.
    pub(super) fn matching(&self, expression: &LabelExpression) -> Bits {
        expression.select(self)
    }
}

impl Sets for Postings {
    type Set = Bits;

    fn with(&self, name: &str) -> Bits {
        self.names
            .get(name)
            .map(|values| values.there.clone())
            .unwrap_or_default()
    }

    fn with_value(&self, name: &str, value: &str) -> Bits {
        let numbers = self.names.get(name).and_then(|values| values.each.get(value));
        numbers.map(|numbers| Bits::listed(numbers)).unwrap_or_default()
    }

    fn all(&self) -> Bits {
        Bits::default().not(self.bound)
    }

    fn none(&self) -> Bits {
        Bits::default()
    }

    fn not(&self, set: Bits) -> Bits {
        set.not(self.bound)
    }

    fn and(&self, a: Bits, b: Bits) -> Bits {
        a.and(&b)
    }

    fn or(&self, a: Bits, b: Bits) -> Bits {
        a.or(&b)
    }
}
