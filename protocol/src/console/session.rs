//! How long a session lasts and how much passes: a pure function of what came and when.
//!
//! ```text
//!                 ┌─ the person leaves, the server hangs up, either says what it may not
//!  open ──────────┼─ nothing was typed for `idle`, or it is open for `lasting`
//!                 └─ it is not permitted any more: the lease's state, the order to stay, the tenant's consent
//!                              └─► over, with an [`Ending`] in words for both sides and for the log
//! ```
//!
//! The rate is a bound on memory too: a manager that waits before it passes bytes on does not read, so what more comes stays at its sender.

use super::{Frame, Party};
use crate::timestamp::Timestamp;
use std::fmt;
use std::time::Duration;

/// What a session may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the terminal in a second, in each direction.
    pub rate: u32,
    /// Bytes that may come at once.
    pub burst: u32,
    /// How long nobody may type.
    pub idle: Duration,
    /// How long it may be open in all.
    pub lasting: Duration,
}

impl Default for Limits {
    /// More than a person reads, less than a file transfer wants.
    fn default() -> Self {
        Self {
            rate: 256 << 10,
            burst: 64 << 10,
            idle: Duration::from_secs(15 * 60),
            lasting: Duration::from_secs(8 * 3600),
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The person left, with these words or none.
    Left(String),
    /// The server ended it, with these words or none.
    HungUp(String),
    /// Nothing was typed for so long.
    Idle(Duration),
    /// It was open for so long.
    Long(Duration),
    /// It is not allowed any more.
    Forbidden(String),
    /// One of them said what it may not.
    Broken(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |time: &Duration| time.as_secs().div_ceil(60);
        match self {
            Ending::Left(words) if words.is_empty() => f.write_str("the person left"),
            Ending::Left(words) => write!(f, "the person left: {words}"),
            Ending::HungUp(words) if words.is_empty() => f.write_str("the server hung up"),
            Ending::HungUp(words) => write!(f, "the server ended it: {words}"),
            Ending::Idle(time) => write!(f, "nothing was typed for {} min", minutes(time)),
            Ending::Long(time) => write!(f, "a session lasts {} min at most", minutes(time)),
            Ending::Forbidden(why) => write!(f, "it is not allowed any more: {why}"),
            Ending::Broken(what) => write!(f, "the connection broke: {what}"),
        }
    }
}

/// What a session came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How long it was open.
    pub lasted: Duration,
    /// Bytes that were typed.
    pub typed: u64,
    /// Bytes that were shown.
    pub shown: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s, {} bytes typed, {} bytes shown",
            self.lasted.as_secs(),
            self.typed,
            self.shown
        )
    }
}

/// One open session.
#[derive(Clone, Debug)]
pub struct Session {
    limits: Limits,
    begun: Timestamp,
    typed_at: Timestamp,
    person: Flow,
    server: Flow,
}

/// One direction: how much came, and until when what came fills the rate.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    bytes: u64,
    full_until_us: u64,
}

impl Session {
    /// Opened at `now`.
    pub fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            limits,
            begun: now,
            typed_at: now,
            person: Flow::default(),
            server: Flow::default(),
        }
    }

    /// A frame of `from` is to be passed on at `now`: after how long, so that the rate is kept.
    ///
    /// # Errors
    /// [`Ending`] for a frame that ends the session.
    pub fn pass(&mut self, from: Party, frame: &Frame, now: Timestamp) -> Result<Duration, Ending> {
        match (from, frame) {
            (Party::Person, Frame::End(words)) => return Err(Ending::Left(words.clone())),
            (Party::Server, Frame::End(words)) => return Err(Ending::HungUp(words.clone())),
            (Party::Person, _) => self.typed_at = now,
            (Party::Server, _) => {}
        }
        let Limits { rate, burst, .. } = self.limits;
        let flow = match from {
            Party::Person => &mut self.person,
            Party::Server => &mut self.server,
        };
        Ok(flow.take(frame.terminal_bytes() as u64, rate, burst, now))
    }

    /// Whether it goes on at `now`.
    ///
    /// # Errors
    /// [`Ending`] when its time is over.
    pub fn look(&self, now: Timestamp) -> Result<(), Ending> {
        if now.since(self.begun) >= self.limits.lasting {
            Err(Ending::Long(self.limits.lasting))
        } else if now.since(self.typed_at) >= self.limits.idle {
            Err(Ending::Idle(self.limits.idle))
        } else {
            Ok(())
        }
    }

    /// What it has come to by `now`.
    pub fn tally(&self, now: Timestamp) -> Tally {
        Tally {
            lasted: now.since(self.begun),
            typed: self.person.bytes,
            shown: self.server.bytes,
        }
    }
}

impl Flow {
    fn take(&mut self, bytes: u64, rate: u32, burst: u32, now: Timestamp) -> Duration {
        let us = |bytes: u64| bytes.saturating_mul(1_000_000) / u64::from(rate.max(1));
        let now_us = now.0.saturating_mul(1000);
        self.bytes = self.bytes.saturating_add(bytes);
        self.full_until_us = self.full_until_us.max(now_us).saturating_add(us(bytes));
        Duration::from_micros(
            self.full_until_us
                .saturating_sub(now_us)
                .saturating_sub(us(burst.into())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits() -> Limits {
        Limits {
            rate: 1000,
            burst: 500,
            idle: 15 * MINUTE,
            lasting: 60 * MINUTE,
        }
    }

    fn typed() -> Frame {
        Frame::Input(b"x".to_vec())
    }

    #[test]
    fn a_server_that_talks_does_not_keep_a_session_open_and_a_person_that_types_does() {
        let begun = Timestamp(0);
        let mut session = Session::new(limits(), begun);
        let shown = Frame::Output(vec![0; 10]);
        session.pass(Party::Server, &shown, begun + 14 * MINUTE).unwrap();
        assert_eq!(session.look(begun + 14 * MINUTE), Ok(()));
        assert_eq!(session.look(begun + 15 * MINUTE), Err(Ending::Idle(15 * MINUTE)));
        session
            .pass(Party::Person, &typed(), begun + 14 * MINUTE)
            .unwrap();
        assert_eq!(session.look(begun + 15 * MINUTE), Ok(()));
    }

    #[test]
    fn a_session_has_an_end_however_busy_it_is() {
        let mut session = Session::new(limits(), Timestamp(0));
        for minute in 0..60 {
            let now = Timestamp(0) + MINUTE * minute;
            assert_eq!(session.look(now), Ok(()));
            session.pass(Party::Person, &typed(), now).unwrap();
        }
        assert_eq!(
            session.look(Timestamp(0) + 60 * MINUTE),
            Err(Ending::Long(60 * MINUTE))
        );
    }

    #[test]
    fn who_ends_it_is_told_apart() {
        let mut session = Session::new(limits(), Timestamp(0));
        let end = Frame::End("bye".to_owned());
        let left = session.pass(Party::Person, &end, Timestamp(0)).unwrap_err();
        assert_eq!(left.to_string(), "the person left: bye");
        let ended = session.pass(Party::Server, &end, Timestamp(0)).unwrap_err();
        assert_eq!(ended.to_string(), "the server ended it: bye");
    }

    proptest! {
        #[test]
        fn no_more_passes_than_rate_and_burst_allow(pieces in proptest::collection::vec((1usize..=4096, 0u64..5000), 1..60)) {
            let mut session = Session::new(limits(), Timestamp(0));
            let (mut now, mut passed) = (Timestamp(0), 0_u64);
            for (length, pause) in pieces {
                now = Timestamp(now.0 + pause);
                let wait = session.pass(Party::Server, &Frame::Output(vec![0; length]), now).unwrap();
                now = now + wait + Duration::from_millis(1);
                passed += length as u64;
                // Each piece has waited until it fits.
                prop_assert!(passed <= 500 + now.0 + 1, "{passed} bytes after {now:?}");
            }
            prop_assert_eq!(session.tally(now).shown, passed);
        }
    }
}
