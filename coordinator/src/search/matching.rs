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

/// Whether all wishes are met at once, each by things of its own: a matching by augmenting paths (Kuhn).
pub(super) fn are_met<W: Wish>(wishes: &[W], things: &[W::Thing]) -> bool {
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
