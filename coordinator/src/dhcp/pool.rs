//! Addresses for clients that nobody wrote down: cards in DHCPv4; cards, or DUIDs where the card cannot be told, in DHCPv6.
//!
//! They live in memory: a server that asks again after a restart of the LM says which address it had and gets it again. Anybody on the wire can invent cards,
//! so the pool remembers one holder per address and nothing more; when it is full, the oldest offer that nobody accepted gives way. Servers on record have fixed addresses and cannot be crowded out.
//!
//! A flood of invented cards asks a pool that is full, time and again, so that must be cheap too: holdings are kept in the order in which they end.

use super::config::PoolConfig;
use leaseboot_protocol::network::MacAddress;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long an offer waits for its client to accept.
const OFFER_TIME: Duration = Duration::from_secs(30);
/// Addresses that are tried for a card before those are looked for that are free.
const TRIES: usize = 16;
/// How long an address that a client found in use is left alone.
const DECLINE_TIME: Duration = Duration::from_secs(600);

/// An address that can be counted up from another one.
pub(crate) trait PoolAddress: Copy + Ord {
    /// Its number.
    fn number(self) -> u128;
    /// The address of this number, which is between those of two addresses.
    fn of(number: u128) -> Self;
}

impl PoolAddress for Ipv4Addr {
    fn number(self) -> u128 {
        u32::from(self).into()
    }

    fn of(number: u128) -> Self {
        u32::try_from(number).unwrap_or(u32::MAX).into()
    }
}

impl PoolAddress for Ipv6Addr {
    fn number(self) -> u128 {
        self.into()
    }

    fn of(number: u128) -> Self {
        number.into()
    }
}

/// Whom an address is given to.
pub(crate) trait PoolClient: Clone + Eq + Hash {
    /// What tells clients apart, mostly: where in the range an address is looked for first.
    fn bytes(&self) -> &[u8];
}

impl PoolClient for MacAddress {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Who holds which address of the range, until when.
#[derive(Debug)]
pub(crate) struct Pool<A = Ipv4Addr, C = MacAddress> {
    range: PoolConfig<A>,
    held: BTreeMap<A, Holding<C>>,
    by_client: HashMap<C, A>,
    /// All of `held` in the order in which they end.
    ends: BTreeSet<(Instant, A)>,
    /// Those of them that are offers.
    offers: BTreeSet<(Instant, A)>,
    /// Every address below this one is held, or was reserved.
    untouched: u128,
}

#[derive(Clone, Debug)]
struct Holding<C> {
    holder: Holder<C>,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder<C> {
    Offered(C),
    Bound(C),
    Declined,
    /// It was given back.
    Nobody,
}

impl<A: PoolAddress, C: PoolClient> Pool<A, C> {
    pub(crate) fn new(range: PoolConfig<A>) -> Self {
        Self {
            range,
            held: BTreeMap::new(),
            by_client: HashMap::new(),
            ends: BTreeSet::new(),
            offers: BTreeSet::new(),
            untouched: range.first.number(),
        }
    }

    pub(crate) fn lease_time(&self) -> Duration {
        Duration::from_secs(self.range.lease_time_s.into())
    }

    /// Reserves an address for a short while: the one that the card has, else the one that it wants, else any. `reserved` says which are nobody's to lend.
    pub(crate) fn offer(
        &mut self,
        client: &C,
        wanted: Option<A>,
        reserved: impl Fn(A) -> bool,
        now: Instant,
    ) -> Option<A> {
        if let Some(address) = self.by_client.get(client).copied() {
            self.extend_offer(address, now);
            return Some(address);
        }
        let free = |pool: &Self, address: &A| pool.is_free(*address, now) && !reserved(*address);
        let address = wanted
            .filter(|wanted| self.range.contains(*wanted) && free(self, wanted))
            .or_else(|| {
                self.candidates(client)
                    .take(TRIES)
                    .find(|address| free(self, address))
            })
            .or_else(|| self.next_untouched(&reserved))
            .or_else(|| self.first_ended(&reserved, now))
            .or_else(|| self.offers.first().map(|(_, address)| *address))?;
        self.hold(client, address, Holder::Offered(client.clone()), now, OFFER_TIME);
        Some(address)
    }

    /// Gives an address to a card that asks for exactly this one. `false` when it cannot have it.
    pub(crate) fn bind(
        &mut self,
        client: &C,
        address: A,
        reserved: impl Fn(A) -> bool,
        now: Instant,
    ) -> bool {
        let has_it = self.by_client.get(client) == Some(&address);
        let may_have_it = self.range.contains(address) && !reserved(address) && self.is_free(address, now);
        if has_it || may_have_it {
            self.hold(
                client,
                address,
                Holder::Bound(client.clone()),
                now,
                self.lease_time(),
            );
        }
        has_it || may_have_it
    }

    /// The card does not want its address any more.
    pub(crate) fn release(&mut self, client: &C, now: Instant) {
        if let Some(address) = self.by_client.remove(client) {
            self.set(address, Holder::Nobody, now);
        }
    }

    /// The card found that somebody else uses its address.
    pub(crate) fn decline(&mut self, client: &C, now: Instant) {
        if let Some(address) = self.by_client.remove(client) {
            self.set(address, Holder::Declined, now + DECLINE_TIME);
        }
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert!(self.by_client.len() <= self.held.len());
        self.held.len()
    }

    /// What the client holds.
    pub(crate) fn address_of(&self, client: &C) -> Option<A> {
        self.by_client.get(client).copied()
    }

    fn extend_offer(&mut self, address: A, now: Instant) {
        if let Some(Holding { holder, until }) = self.held.get(&address).cloned() {
            self.set(address, holder, until.max(now + OFFER_TIME));
        }
    }

    /// The one place where holdings change; gives who had the address before.
    fn set(&mut self, address: A, holder: Holder<C>, until: Instant) -> Option<Holder<C>> {
        let is_offer = matches!(holder, Holder::Offered(_));
        let before = self.held.insert(address, Holding { holder, until });
        if let Some(before) = &before {
            self.ends.remove(&(before.until, address));
            self.offers.remove(&(before.until, address));
        }
        self.ends.insert((until, address));
        if is_offer {
            self.offers.insert((until, address));
        }
        before.map(|before| before.holder)
    }

    fn is_free(&self, address: A, now: Instant) -> bool {
        self.held.get(&address).is_none_or(|holding| holding.until <= now)
    }

    /// Every address once, from a place that depends on the card, so that a card mostly finds its old address after a restart.
    fn candidates(&self, client: &C) -> impl Iterator<Item = A> + use<A, C> {
        let (first, last) = (self.range.first.number(), self.range.last.number());
        let size = last - first + 1;
        let start = client.bytes().iter().fold(0u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add((*byte).into())
        });
        let start = u128::from(start) % size;
        (0..size).map(move |step| A::of(first + (start + step) % size))
    }

    /// An address that nobody ever had.
    fn next_untouched(&mut self, reserved: impl Fn(A) -> bool) -> Option<A> {
        while self.untouched <= self.range.last.number() {
            let address = A::of(self.untouched);
            if !self.held.contains_key(&address) && !reserved(address) {
                return Some(address);
            }
            self.untouched += 1;
        }
        None
    }

    fn first_ended(&self, reserved: impl Fn(A) -> bool, now: Instant) -> Option<A> {
        let ended = self.ends.iter().take_while(|(until, _)| *until <= now);
        ended
            .map(|(_, address)| *address)
            .find(|address| !reserved(*address))
    }

    fn hold(&mut self, client: &C, address: A, holder: Holder<C>, now: Instant, time: Duration) {
        if let Some(old) = self.by_client.insert(client.clone(), address)
            && old != address
        {
            self.set(old, Holder::Nobody, now);
        }
        if let Some(Holder::Offered(before) | Holder::Bound(before)) = self.set(address, holder, now + time)
            && before != *client
        {
            self.by_client.remove(&before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(first: u8, last: u8) -> Pool {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        Pool::new(PoolConfig {
            first: address(first),
            last: address(last),
            lease_time_s: 600,
        })
    }

    fn mac(number: u16) -> MacAddress {
        let [a, b] = number.to_be_bytes();
        MacAddress([2, 0, 0, 0, a, b])
    }

    #[test]
    fn a_card_keeps_its_address_and_gets_it_again_after_a_restart() {
        let now = Instant::now();
        let mut before = pool(100, 150);
        let address = before.offer(&mac(1), None, |_| false, now).unwrap();
        assert!(before.bind(&mac(1), address, |_| false, now));
        assert_eq!(
            before.offer(&mac(1), None, |_| false, now + Duration::from_secs(9999)),
            Some(address)
        );
        let mut after = pool(100, 150);
        assert!(after.bind(&mac(1), address, |_| false, now));
        assert!(!after.bind(&mac(2), address, |_| false, now));
    }

    #[test]
    fn strangers_cannot_push_out_a_bound_card_but_offers_give_way() {
        let now = Instant::now();
        let mut pool = pool(100, 101);
        let address = pool.offer(&mac(1), None, |_| false, now).unwrap();
        assert!(pool.bind(&mac(1), address, |_| false, now));
        for stranger in 2..500 {
            let offered = pool.offer(&mac(stranger), None, |_| false, now).unwrap();
            assert_ne!(offered, address);
        }
        assert_eq!(pool.len(), 2);
        let other = pool.offer(&mac(500), None, |_| false, now).unwrap();
        assert!(pool.bind(&mac(500), other, |_| false, now));
        assert_eq!(pool.offer(&mac(501), None, |_| false, now), None);
        assert!(
            pool.offer(&mac(501), None, |_| false, now + Duration::from_secs(601))
                .is_some()
        );
    }

    /// Looking at every address for each card would take a minute here.
    #[test]
    fn a_full_pool_costs_as_little_as_an_empty_one() {
        let (begun, now) = (Instant::now(), Instant::now());
        let mut pool = Pool::new(PoolConfig {
            first: Ipv4Addr::new(10, 0, 0, 1),
            last: Ipv4Addr::new(10, 0, 31, 254),
            lease_time_s: 600,
        });
        let card = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            MacAddress([2, 0, a, b, c, d])
        };
        let size = 32 * 256 - 2;
        for number in 0..size {
            let address = pool.offer(&card(number), None, |_| false, now).unwrap();
            assert!(pool.bind(&card(number), address, |_| false, now));
        }
        for number in size..3 * size {
            assert_eq!(pool.offer(&card(number), None, |_| false, now), None);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        pool.release(&card(7), now);
        assert!(pool.offer(&card(size), None, |_| false, now).is_some());
    }

    #[test]
    fn a_declined_address_rests() {
        let now = Instant::now();
        let mut pool = pool(100, 100);
        assert!(pool.offer(&mac(1), None, |_| false, now).is_some());
        pool.decline(&mac(1), now);
        assert_eq!(pool.offer(&mac(1), None, |_| false, now), None);
        assert!(pool.offer(&mac(1), None, |_| false, now + DECLINE_TIME).is_some());
    }

    proptest! {
        /// Whatever happens, no two cards believe in the same address, and nothing outside the range is lent.
        #[test]
        fn no_address_has_two_holders(steps in prop::collection::vec((0u16..12, 0u8..4, 95u8..112, 0u64..400), 0..200)) {
            let mut pool = pool(100, 107);
            let mut now = Instant::now();
            for (card, action, address, wait) in steps {
                now += Duration::from_secs(wait);
                let address = Ipv4Addr::new(10, 0, 0, address);
                let reserved = |address: Ipv4Addr| address.octets()[3] == 103;
                match action {
                    0 => if let Some(offered) = pool.offer(&mac(card), Some(address), reserved, now) {
                        prop_assert!(pool.range.contains(offered) && !reserved(offered));
                    },
                    1 => { pool.bind(&mac(card), address, reserved, now); }
                    2 => pool.release(&mac(card), now),
                    _ => pool.decline(&mac(card), now),
                }
                prop_assert!(pool.len() <= 8);
                let ends = pool.held.iter().map(|(address, holding)| (holding.until, *address));
                prop_assert_eq!(&ends.collect::<BTreeSet<_>>(), &pool.ends);
                let offers = pool.held.iter().filter(|(_, holding)| matches!(holding.holder, Holder::Offered(_)));
                prop_assert_eq!(&offers.map(|(address, holding)| (holding.until, *address)).collect::<BTreeSet<_>>(), &pool.offers);
                for (card, address) in &pool.by_client {
                    let holder = &pool.held[address].holder;
                    prop_assert!(matches!(holder, Holder::Offered(m) | Holder::Bound(m) if m == card));
                }
            }
        }
    }
}
