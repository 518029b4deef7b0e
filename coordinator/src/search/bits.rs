//! Sets of small numbers, a bit for each. What is beyond the end is not in the set.

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
}

const WORD: usize = u64::BITS as usize;

impl Bits {
    /// Of the numbers below `bound`, those for which `is_in` says so.
    pub(super) fn of(bound: usize, is_in: impl Fn(usize) -> bool) -> Self {
        let word = |start: usize| {
            let numbers = start..(start + WORD).min(bound);
            numbers.fold(0, |word, number| {
                word | u64::from(is_in(number)) << (number - start)
            })
        };
        Self {
            words: (0..bound).step_by(WORD).map(word).collect(),
        }
    }

    /// The numbers of a list.
    pub(super) fn listed(numbers: &[u32]) -> Self {
        let mut bits = Self::default();
        numbers.iter().for_each(|number| bits.set(*number as usize, true));
        bits
    }

    pub(super) fn get(&self, number: usize) -> bool {
        self.words
            .get(number / WORD)
            .is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    pub(super) fn set(&mut self, number: usize, is_in: bool) {
        let (place, bit) = (number / WORD, 1 << (number % WORD));
        if is_in && place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        match self.words.get_mut(place) {
            Some(word) if is_in => *word |= bit,
            Some(word) => *word &= !bit,
            None => {}
        }
    }

    /// What is in both.
    #[must_use]
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.words.truncate(other.words.len());
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, other)| *word &= other);
        self
    }

    /// What is in one of them.
    #[must_use]
    pub(super) fn or(mut self, other: &Self) -> Self {
        self.words.resize(self.words.len().max(other.words.len()), 0);
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(word, other)| *word |= other);
        self
    }

    /// The numbers below `bound` that are not in it.
    #[must_use]
    pub(super) fn not(mut self, bound: usize) -> Self {
        self.words.resize(bound.div_ceil(WORD), 0);
        self.words.iter_mut().for_each(|word| *word = !*word);
        if let Some(last) = self.words.last_mut()
            && !bound.is_multiple_of(WORD)
        {
            *last &= (1 << (bound % WORD)) - 1;
        }
        self
    }

    /// The numbers in it, in order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(place * WORD + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn some() -> impl Strategy<Value = BTreeSet<u32>> {
        prop::collection::btree_set(0u32..200, 0..40)
    }

    proptest! {
        #[test]
        fn they_are_sets(a in some(), b in some(), bound in 0usize..200) {
            let bits = |set: &BTreeSet<u32>| Bits::listed(&set.iter().copied().collect::<Vec<_>>());
            let told = |bits: &Bits| bits.numbers().map(|number| number as u32).collect::<BTreeSet<_>>();
            prop_assert_eq!(&told(&bits(&a)), &a);
            prop_assert_eq!(told(&bits(&a).and(&bits(&b))), &a & &b);
            prop_assert_eq!(told(&bits(&a).or(&bits(&b))), &a | &b);
            let below: BTreeSet<_> = a.iter().copied().filter(|number| (*number as usize) < bound).collect();
            prop_assert_eq!(&told(&Bits::of(bound, |number| a.contains(&(number as u32)))), &below);
            let others: BTreeSet<_> = (0..bound as u32).filter(|number| !a.contains(number)).collect();
            let mut small = bits(&below);
            prop_assert_eq!(told(&small.clone().not(bound)), others);
            for number in 0..200 {
                prop_assert_eq!(small.get(number), below.contains(&(number as u32)));
                small.set(number, false);
            }
            prop_assert!(told(&small).is_empty());
        }
    }
}
