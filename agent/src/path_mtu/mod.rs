//! The largest packet that the tunnel carries to the gateway and back: found, not assumed.
//!
//! A transit may carry less than the lender's wire and drop the ICMP messages that would say so (RFC 2923): large packets then vanish
//! without a word, and a download stands still. So echoes of several sizes are sent through the tunnel (RFC 4821's idea, by ping): what
//! comes back has fit in both directions.
//!
//! ```text
//!   the configured size and the smallest ─ the large one is back ──────────────► it fits
//!              │ three times only the small one                 ┌───────────┐
//!              ├────────────────────────────────► sizes between ┤           ▼
//!              │                                       ▲        └─ gap small enough ─► the largest that came back
//!              │ nothing at all                        └─ narrower ┘
//!              └────────────────────────────────────────────────────────────► silent: nothing is known
//! ```
//!
//! What did not come back is *lost* only when something smaller that was sent behind it did: the largest size that is known to fit is asked in each round as a witness.
//! A round without any echo is a machine that is busy or a way that is down, and says nothing of sizes. So a slow host finds the same as a fast one, only later.
//!
//! [`Search`] is pure; [`driver`] sends, waits and sets the device's MTU, from which TCP takes its segments' size in both directions.
//! Where routers do tell, the kernel knows the outer path, and its word caps the search: packets would fit by fragmentation, and slowly.

pub(crate) mod driver;
mod echo;

use std::collections::BTreeSet;

/// Every host takes packets of this size (RFC 791, 3.1), so a path that carries less is none.
const SMALLEST: u16 = 576;
/// How often a size is asked, and not answered while others are, before it is held not to fit: packets are lost for other reasons, too.
const TRIES: u32 = 3;
/// So many rounds in a row without any echo end a search.
const PATIENCE: u32 = 10;
/// How many sizes are asked at once.
const AT_ONCE: u16 = 8;
/// A gap that is not worth another round.
const CLOSE_ENOUGH: u16 = 8;

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The largest packet, in bytes.
    Fits(u16),
    /// No echo came back, or none any more: the gateway is away, or something on the way drops echoes of any size.
    Silent,
}

/// A search under way.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The largest size that came back.
    fits: Option<u16>,
    /// The smallest size that did not, or the one above what is wanted.
    too_large: u16,
    /// What is asked now and has not come back.
    asked: BTreeSet<u16>,
    /// Rounds in which something came back, and not all.
    tries: u32,
    /// Whether anything came back in this round.
    heard: bool,
    /// Rounds in a row in which nothing did.
    silent: u32,
}

impl Search {
    /// Looks for the largest size up to `most` bytes.
    pub(crate) fn up_to(most: u16) -> Self {
        let most = most.max(SMALLEST);
        Self {
            fits: None,
            too_large: most + 1,
            asked: BTreeSet::from([SMALLEST, most]),
            tries: 0,
            heard: false,
            silent: 0,
        }
    }

    /// The sizes to send now, in this order: what is asked, and behind it the witness.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u16> + '_ {
        self.asked.iter().rev().copied().chain(self.fits)
    }

    /// Whether an echo is still awaited that would tell something new.
    pub(crate) fn awaits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// An echo of `size` bytes came back. One that was too large came in pieces, which does not count.
    pub(crate) fn came_back(&mut self, size: u16) {
        if size >= self.too_large {
            return;
        }
        self.heard = true;
        self.fits = self.fits.max(Some(size));
        // What fits says that all smaller ones do.
        self.asked.retain(|asked| *asked > size);
    }

    /// The path is known to carry `most` bytes at most.
    pub(crate) fn cap(&mut self, most: u16) {
        let most = most.max(SMALLEST);
        if most + 1 >= self.too_large {
            return;
        }
        self.too_large = most + 1;
        self.fits = self.fits.map(|fits| fits.min(most));
        self.asked.retain(|asked| *asked <= most);
        if self.fits.is_none_or(|fits| fits < most) && self.asked.insert(most) {
            self.tries = 0;
        }
    }

    /// The search's end, when nothing more need be asked.
    pub(crate) fn found(&self) -> Option<Found> {
        let fits = self.fits?;
        let gap = self.too_large - fits;
        // What was asked for as the most fits to the byte; between sizes that were tried, close is enough.
        (gap == 1 || (self.asked.is_empty() && gap <= CLOSE_ENOUGH)).then_some(Found::Fits(fits))
    }

    /// A wait for echoes is over: asks again, asks others, or ends.
    pub(crate) fn waited(&mut self) -> Option<Found> {
        if let Some(found) = self.found() {
            return Some(found);
        }
        let heard = std::mem::take(&mut self.heard);
        let Some(fits) = self.fits.filter(|_| heard || self.asked.is_empty()) else {
            self.silent += 1;
            return (self.silent >= PATIENCE).then_some(Found::Silent);
        };
        self.silent = 0;
        self.tries += 1;
        if !self.asked.is_empty() && self.tries < TRIES {
            return None;
        }
        if let Some(lost) = self.asked.first() {
            self.too_large = self.too_large.min(*lost);
        }
        let gap = self.too_large - fits;
        if gap <= CLOSE_ENOUGH {
            return Some(Found::Fits(fits));
        }
        let step = gap.div_ceil(AT_ONCE + 1);
        self.asked = (1..=AT_ONCE)
            .map(|n| fits.saturating_add(n * step))
            .filter(|size| *size < self.too_large)
            .collect();
        self.tries = 0;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches on a path that carries `carries` bytes and loses the packets that `lost` says; gives the end and the waits.
    fn search(most: u16, carries: u16, mut lost: impl FnMut() -> bool) -> (Found, u32) {
        let mut search = Search::up_to(most);
        for waits in 0..500 {
            let sizes: Vec<_> = search.sizes().collect();
            for size in sizes {
                if size <= carries && !lost() {
                    search.came_back(size);
                }
            }
            if let Some(found) = search.waited() {
                return (found, waits);
            }
        }
        panic!("the search for {carries} below {most} does not end");
    }

    #[test]
    fn a_path_that_carries_everything_is_known_at_the_first_echo() {
        let mut search = Search::up_to(1420);
        assert_eq!(search.sizes().collect::<Vec<_>>(), [1420, 576]);
        search.came_back(1420);
        assert_eq!(search.found(), Some(Found::Fits(1420)));
    }

    #[test]
    fn a_transit_of_1400_is_found_within_a_few_bytes_and_waits() {
        let (found, waits) = search(1420, 1340, || false);
        let Found::Fits(size) = found else {
            panic!("{found:?}")
        };
        assert!((1333..=1340).contains(&size), "{size}");
        assert!(waits < 10, "{waits}");
    }

    #[test]
    fn no_echo_at_all_is_no_answer() {
        assert_eq!(search(1420, 0, || false).0, Found::Silent);
    }

    #[test]
    fn what_the_kernel_knows_is_asked_next() {
        let mut search = Search::up_to(1420);
        search.came_back(576);
        assert_eq!(search.waited(), None);
        search.cap(1340);
        assert_eq!(search.sizes().collect::<Vec<_>>(), [1340, 576]);
        search.came_back(1340);
        assert_eq!(search.waited(), Some(Found::Fits(1340)));
        // It also holds for what came back in pieces.
        let mut search = Search::up_to(1420);
        search.cap(1340);
        search.came_back(1420);
        assert_eq!(search.sizes().collect::<Vec<_>>(), [1340, 576]);
        search.came_back(1340);
        assert_eq!(search.waited(), Some(Found::Fits(1340)));
    }

    #[test]
    fn a_machine_that_stands_still_for_a_while_finds_the_same() {
        let mut search = Search::up_to(1420);
        search.came_back(576);
        for _ in 0..TRIES {
            assert_eq!(search.waited(), None);
            search.came_back(576);
        }
        // Eight sizes are asked, and for some rounds nothing comes back, not even the witness.
        for _ in 1..PATIENCE {
            assert_eq!(search.waited(), None);
        }
        let asked: Vec<_> = search.sizes().collect();
        asked.iter().for_each(|size| search.came_back(*size));
        assert_eq!(search.waited(), None);
        search.came_back(1420);
        assert_eq!(search.found(), None, "it was lost thrice, while others came back");
        assert!(search.sizes().all(|size| size > 1300));
    }

    #[test]
    fn a_gateway_that_goes_away_in_the_middle_is_no_answer_either() {
        let mut search = Search::up_to(1420);
        search.came_back(576);
        let ends = (0..=PATIENCE).find_map(|_| search.waited());
        assert_eq!(ends, Some(Found::Silent));
    }

    proptest! {
        #[test]
        fn what_is_found_fits_and_not_much_more_would(most in 576u16..9000, carries in 576u16..9000) {
            let (found, _) = search(most, carries, || false);
            let Found::Fits(size) = found else { panic!("{found:?}") };
            let best = most.min(carries);
            prop_assert!(size <= best && best - size < CLOSE_ENOUGH, "{size} of {best}");
            if carries >= most {
                prop_assert_eq!(size, most);
            }
        }

        #[test]
        fn losses_never_make_it_too_large(
            most in 576u16..9000, carries in 0u16..9000, losses in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let mut losses = losses.iter().cycle();
            let (found, _) = search(most, carries, || *losses.next().unwrap());
            if let Found::Fits(size) = found {
                prop_assert!(size <= carries && size <= most);
            }
        }

        #[test]
        fn any_echo_at_any_time_keeps_it_sane(
            most in 0u16..9000, steps in prop::collection::vec((0u8..3, 0u16..9100), 0..60),
        ) {
            let mut search = Search::up_to(most);
            for (kind, size) in steps {
                match kind {
                    0 => search.came_back(size),
                    1 => search.cap(size),
                    _ => if let Some(Found::Fits(size)) = search.waited() { prop_assert!(size <= most.max(SMALLEST)) },
                }
            }
        }
    }
}
