//! Equal values under one small number, so that what is true of a value is found out once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Values with their number of users. A value without users makes room for another.
#[derive(Clone, Debug)]
pub(super) struct Interner<T> {
    numbers: HashMap<Arc<T>, u32>,
    values: Vec<(Arc<T>, u32)>,
    unused: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
            unused: Vec::new(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The number of the value, which has one more user now, and whether it is the first.
    pub(super) fn take(&mut self, value: T) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&value) {
            self.values[*number as usize].1 += 1;
            return (*number, false);
        }
        let value = Arc::new(value);
        let number = match self.unused.pop() {
            Some(number) => {
                self.values[number as usize] = (value.clone(), 1);
                number
            }
            None => {
                self.values.push((value.clone(), 1));
                u32::try_from(self.values.len() - 1).expect("fewer values than servers")
            }
        };
        self.numbers.insert(value, number);
        (number, true)
    }

    /// The value has one user less; gives it when that was the last.
    pub(super) fn release(&mut self, number: u32) -> Option<&T> {
        let (value, users) = &mut self.values[number as usize];
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.numbers.remove(value);
        self.unused.push(number);
        Some(&**value)
    }

    pub(super) fn get(&self, number: u32) -> &T {
        &self.values[number as usize].0
    }

    /// As [`Interner::get`]; a number that is not in use gives what it last stood for.
    pub(super) fn at(&self, number: usize) -> &T {
        &self.values[number].0
    }

    /// Numbers are below this.
    pub(super) fn bound(&self) -> usize {
        self.values.len()
    }
}
