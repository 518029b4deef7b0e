//! Whether things can be given out so that every wish gets one of its own.

/// How many, and of what kind.
pub(super) trait Wish {
    type Thing;
    fn count(&self) -> u32;
    fn suits(&self, thing: &Self::Thing) -> bool;
}

/// Whether the wish alone is met.
pub(super) fn is_met<W: Wish>(wish: &W, things: &[W::Thing]) -> bool {
    super::count(things.iter().filter(|thing| wish.suits(thing))) >= wish.count()
}

/// Of so many wishes every set is looked at; of more there would be too many.
const MOST_SETS: usize = 6;

/// Whether all wishes are met at once, each by things of its own.
pub(super) fn are_met<W: Wish>(wishes: &[W], things: &[W::Thing]) -> bool {
    if wishes.len() <= MOST_SETS {
        every_set_has_enough(wishes, things)
    } else {
        everyone_has_a_seat(wishes, things)
    }
}

/// Hall's theorem: they are, if for every set of wishes there are as many things that suit one of them as the set asks for.
fn every_set_has_enough<W: Wish>(wishes: &[W], things: &[W::Thing]) -> bool {
    // How many things suit exactly the wishes of a set, whose bits are the place.
    let mut suiting = [0u64; 1 << MOST_SETS];
    for thing in things {
        let suits = wishes.iter().enumerate();
        let set = suits.fold(0, |set, (bit, wish)| set | usize::from(wish.suits(thing)) << bit);
        suiting[set] += 1;
    }
    (1usize..1 << wishes.len()).all(|set| {
        let asked = wishes.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        let asked: u64 = asked.map(|(_, wish)| u64::from(wish.count())).sum();
        let there = suiting[..1 << wishes.len()]
            .iter()
            .enumerate()
            .filter(|(suits, _)| suits & set != 0);
        there.map(|(_, things)| things).sum::<u64>() >= asked
    })
}

/// A matching by augmenting paths (Kuhn).
fn everyone_has_a_seat<W: Wish>(wishes: &[W], things: &[W::Thing]) -> bool {
    let total: u64 = wishes.iter().map(|wish| u64::from(wish.count())).sum();
    if total > things.len() as u64 {
        return false;
    }
    let places: Vec<_> = wishes
        .iter()
        .flat_map(|wish| (0..wish.count()).map(move |_| wish))
        .collect();
    let mut holder: Vec<Option<usize>> = vec![None; things.len()];
    (0..places.len()).all(|place| {
        seat(
            place,
            &places,
            things,
            &mut holder,
            &mut vec![false; things.len()],
        )
    })
}

fn seat<W: Wish>(
    place: usize,
    places: &[&W],
    things: &[W::Thing],
    holder: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for (index, thing) in things.iter().enumerate() {
        if tried[index] || !places[place].suits(thing) {
            continue;
        }
        tried[index] = true;
        let available = match holder[index] {
            None => true,
            Some(other) => seat(other, places, things, holder, tried),
        };
        if available {
            holder[index] = Some(place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// So many numbers that are at least so large.
    impl Wish for (u32, u8, u8) {
        type Thing = u8;

        fn count(&self) -> u32 {
            self.0
        }

        fn suits(&self, thing: &u8) -> bool {
            (self.1..=self.2).contains(thing)
        }
    }

    proptest! {
        #[test]
        fn both_ways_say_the_same(
            wishes in prop::collection::vec((0u32..4, 0u8..6, 0u8..6), 0..=MOST_SETS),
            things in prop::collection::vec(0u8..6, 0..12),
        ) {
            prop_assert_eq!(every_set_has_enough(&wishes, &things), everyone_has_a_seat(&wishes, &things));
        }
    }
}
