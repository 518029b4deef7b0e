//! Who may keep a TCP connection open when more want to than there are places.
//!
//! ```text
//!   accepted ──► Silent ── handshake, first head ──► Busy ── answered ──► Idle
//!                                                     ▲ └─ bytes move ─┐  │
//!                                                     └────────────────┴──┘ next head
//! ```
//!
//! A place costs memory, and opening a connection costs a stranger nothing. So a connection has a right to its place only while it is good
//! for something: when there is no room, the newcomer takes the place of one that is silent, idle, or was to be served and has moved
//! nothing for [`STALE`]. Of these it is one of the address that holds the most places, and of that address the one that has been
//! still for longest; so whoever opens many connections takes them from himself. Who has shown a certificate that was verified is asked last.
//!
//! [`Table`] is the rule, without a clock; [`Seats`] is what listeners share with their connections.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A connection that is being served and has moved nothing for so long may lose its place.
const STALE: Duration = Duration::from_secs(10);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) total: usize,
    /// That have not said anything yet: each can make us keep a half of something.
    pub(crate) silent: usize,
    /// From one address.
    pub(crate) per_address: usize,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Silent,
    Idle,
    Busy,
}

#[derive(Debug)]
struct Guest {
    address: IpAddr,
    standing: Standing,
    /// Whether the other side has shown who it is.
    known: bool,
    /// Since when nothing has moved.
    since: Instant,
}

impl Guest {
    fn may_be_asked_to_leave(&self, now: Instant) -> bool {
        self.standing != Standing::Busy || (!self.known && now >= self.since + STALE)
    }
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It has this number, and the other one must go.
    Seated {
        number: u64,
        instead_of: Option<u64>,
    },
    Refused,
}

/// The rule.
#[derive(Debug)]
struct Table {
    limits: Limits,
    guests: HashMap<u64, Guest>,
    per_address: HashMap<IpAddr, usize>,
    silent: usize,
    newcomers: u64,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            guests: HashMap::new(),
            per_address: HashMap::new(),
            silent: 0,
            newcomers: 0,
        }
    }

    /// Whether a newcomer could be seated, wherever it comes from.
    fn has_room(&self, now: Instant) -> bool {
        self.guests.len() < self.limits.total
            || self.guests.values().any(|guest| guest.may_be_asked_to_leave(now))
    }

    fn admit(&mut self, address: IpAddr, now: Instant) -> Verdict {
        let of_address = self.per_address.get(&address).copied().unwrap_or(0);
        let (own, silent) = (
            of_address >= self.limits.per_address,
            self.silent >= self.limits.silent,
        );
        if !own && !silent && self.guests.len() < self.limits.total {
            return self.seat(address, None, now);
        }
        // Whoever goes must make room under each limit that is reached.
        let instead_of = self.stillest(now, |guest| {
            (!own || guest.address == address) && (!silent || guest.standing == Standing::Silent)
        });
        match instead_of {
            Some(_) => self.seat(address, instead_of, now),
            None => Verdict::Refused,
        }
    }

    fn seat(&mut self, address: IpAddr, instead_of: Option<u64>, now: Instant) -> Verdict {
        if let Some(number) = instead_of {
            self.leave(number);
        }
        let number = self.newcomers;
        self.newcomers += 1;
        let guest = Guest {
            address,
            standing: Standing::Silent,
            known: false,
            since: now,
        };
        self.guests.insert(number, guest);
        *self.per_address.entry(address).or_default() += 1;
        self.silent += 1;
        Verdict::Seated { number, instead_of }
    }

    /// Strangers first, then those of the address with the most places, then the one that has been still for longest.
    fn stillest(&self, now: Instant, among: impl Fn(&Guest) -> bool) -> Option<u64> {
        let candidates = self
            .guests
            .iter()
            .filter(|(_, guest)| among(guest) && guest.may_be_asked_to_leave(now));
        let first = candidates.min_by_key(|(number, guest)| {
            let places = self.per_address.get(&guest.address).copied().unwrap_or(0);
            (guest.known, Reverse(places), guest.since, **number)
        });
        first.map(|(number, _)| *number)
    }

    fn is_at(&mut self, number: u64, standing: Standing, now: Instant) {
        if let Some(guest) = self.guests.get_mut(&number) {
            self.silent -= usize::from(guest.standing == Standing::Silent);
            self.silent += usize::from(standing == Standing::Silent);
            (guest.standing, guest.since) = (standing, now);
        }
    }

    fn is_known(&mut self, number: u64) {
        if let Some(guest) = self.guests.get_mut(&number) {
            guest.known = true;
        }
    }

    fn leave(&mut self, number: u64) {
        let Some(guest) = self.guests.remove(&number) else {
            return;
        };
        self.silent -= usize::from(guest.standing == Standing::Silent);
        if let Some(count) = self.per_address.get_mut(&guest.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&guest.address);
            }
        }
    }
}

/// The places of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    table: Table,
    leave: HashMap<u64, CancellationToken>,
}

impl Seats {
    pub(crate) fn new(limits: Limits) -> Self {
        let shared = Shared {
            table: Table::new(limits),
            leave: HashMap::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Whether it makes sense to accept a connection now; if not, it may wait in the kernel's queue.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().table.has_room(Instant::now())
    }

    /// A place for a newcomer from this address; `None` when it can have none, and must be closed.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Seat> {
        let mut shared = self.lock();
        let Verdict::Seated { number, instead_of } = shared.table.admit(address, Instant::now()) else {
            return None;
        };
        if let Some(other) = instead_of.and_then(|other| shared.leave.remove(&other)) {
            other.cancel();
        }
        let leave = CancellationToken::new();
        shared.leave.insert(number, leave.clone());
        Some(Seat {
            seats: self.clone(),
            number,
            leave,
        })
    }

    /// Nothing that is done under the lock can break the table half-way.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    number: u64,
    leave: CancellationToken,
}

impl Seat {
    /// The other side has asked for something, or has taken a good part of it.
    pub(crate) fn busy(&self) {
        self.is_at(Standing::Busy);
    }

    /// Nothing is asked for.
    pub(crate) fn idle(&self) {
        self.is_at(Standing::Idle);
    }

    /// The other side has shown who it is.
    pub(crate) fn known(&self) {
        self.seats.lock().table.is_known(self.number);
    }

    /// Resolves when the place has been given to somebody else: the connection must be closed.
    pub(crate) async fn given_away(&self) {
        self.leave.cancelled().await;
    }

    fn is_at(&self, standing: Standing) {
        self.seats
            .lock()
            .table
            .is_at(self.number, standing, Instant::now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = self.seats.lock();
        shared.table.leave(self.number);
        shared.leave.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        total: 8,
        silent: 6,
        per_address: 4,
    };

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn second(now: Instant, number: u64) -> Instant {
        now + Duration::from_secs(number)
    }

    fn seated(verdict: Verdict) -> (u64, Option<u64>) {
        match verdict {
            Verdict::Seated { number, instead_of } => (number, instead_of),
            Verdict::Refused => panic!("refused"),
        }
    }

    #[test]
    fn who_opens_many_connections_takes_them_from_himself() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        let (other, _) = seated(table.admit(address(1), now));
        for number in 0..40 {
            let (_, instead_of) = seated(table.admit(address(2), second(now, 1 + number)));
            assert_ne!(instead_of, Some(other));
        }
        assert_eq!(table.per_address[&address(2)], 4);
    }

    #[test]
    fn of_many_addresses_the_stillest_makes_room() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        for number in 0..6 {
            assert_eq!(
                seated(table.admit(address(number), second(now, number.into()))).1,
                None
            );
        }
        let later = second(now, 20);
        assert_eq!(
            seated(table.admit(address(100), later)).1,
            Some(0),
            "the silent are too many"
        );
        // Who has spoken is not silent any more, and is asked later.
        table.is_at(1, Standing::Idle, later);
        table.is_at(2, Standing::Busy, later);
        assert_eq!(seated(table.admit(address(101), later)).1, None);
        assert_eq!(seated(table.admit(address(102), later)).1, None);
        assert_eq!(seated(table.admit(address(103), later)).1, Some(3));
    }

    #[test]
    fn who_is_served_stays_and_who_does_not_take_it_goes() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        for number in 0..8 {
            let (number, _) = seated(table.admit(address(number), now));
            table.is_at(number, Standing::Busy, now);
        }
        table.is_known(0);
        assert!(!table.has_room(now));
        assert_eq!(table.admit(address(50), now), Verdict::Refused);
        table.is_at(1, Standing::Busy, second(now, 5));
        assert!(table.has_room(second(now, 10)));
        assert_eq!(seated(table.admit(address(50), second(now, 10))).1, Some(2));
        table.is_at(0, Standing::Idle, now);
        for standing in 3..8 {
            table.is_at(standing, Standing::Busy, second(now, 10));
        }
        table.is_at(8, Standing::Busy, second(now, 10));
        table.is_at(1, Standing::Busy, second(now, 10));
        assert_eq!(
            seated(table.admit(address(51), second(now, 10))).1,
            Some(0),
            "the known are asked last"
        );
    }

    proptest! {
        #[test]
        fn the_limits_hold_and_nothing_is_forgotten(
            steps in prop::collection::vec((0u8..6, 0u8..5, 0u64..40, 0u64..4), 0..300),
        ) {
            let (mut table, mut now) = (Table::new(LIMITS), Instant::now());
            let mut there = std::collections::BTreeSet::new();
            for (from, action, number, wait) in steps {
                now = second(now, wait);
                match action {
                    0 => table.is_at(number, Standing::Idle, now),
                    1 => table.is_at(number, Standing::Busy, now),
                    2 => { table.leave(number); there.remove(&number); }
                    _ => if let Verdict::Seated { number, instead_of } = table.admit(address(from), now) {
                        there.insert(number);
                        instead_of.map(|other| there.remove(&other));
                    }
                }
                prop_assert!(table.guests.len() <= LIMITS.total && table.silent <= LIMITS.silent);
                prop_assert_eq!(table.guests.keys().copied().collect::<std::collections::BTreeSet<_>>(), there.clone());
                let silent = table.guests.values().filter(|guest| guest.standing == Standing::Silent);
                prop_assert_eq!(table.silent, silent.count());
                for (address, count) in &table.per_address {
                    let of = table.guests.values().filter(|guest| guest.address == *address).count();
                    prop_assert!(of == *count && of <= LIMITS.per_address);
                }
            }
        }
    }
}
