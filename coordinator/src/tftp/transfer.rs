//! One transfer, without a socket or a clock.
//!
//! ```text
//!             options                    ACK 0
//!   request ───────────► Negotiating ───────────► Sending ──┐ ACK: the window moves on
//!      │   no options                                ▲  ▲───┘
//!      └─────────────────────────────────────────────┘  │ silence: the window again, with backoff
//!
//!   either state ends: last block acknowledged · client's ERROR · nonsense · silence · too long
//! ```
//!
//! Two old faults shape the rules. *Sorcerer's apprentice*: an ACK that brings nothing new makes nobody send, except that with windows (RFC 7440) a client that
//! missed the first block of a window says so in just that way; it is believed once per window. *Amplification*: until the first ACK has
//! shown that the client is really there, things are sent [`UNCONFIRMED_SENDS`] times at most.

use super::negotiation::Terms;
use super::packet::{self, FromClient};
use bytes::Bytes;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How often the first packet is sent to an address that has not shown that it asked.
pub const UNCONFIRMED_SENDS: u32 = 3;
/// How often a window is sent to a client that has been heard.
pub const CONFIRMED_SENDS: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(1000);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// After this long any transfer ends; ROMs load boot programs in seconds.
const LONGEST_TRANSFER: Duration = Duration::from_secs(900);

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has every byte.
    Complete,
    /// The client gave up, as UEFI firmware does on purpose after it has asked for the size.
    ClientError {
        /// The number of RFC 1350.
        code: u16,
        /// The client's words.
        message: String,
    },
    /// There is no file of this name.
    NotFound,
    /// Something that is not TFTP came from the client's port.
    Nonsense,
    /// Nothing came any more.
    Silence,
    /// The client kept asking for longer than any boot program takes.
    TooLong,
    /// Its client has not confirmed it, and its place was needed for another.
    MadeRoom,
}

/// Something that a transfer reacts to.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A datagram from the client.
    Datagram(&'a [u8]),
    /// [`Transfer::deadline`] has come.
    Deadline,
}

/// A packet to send, to be encoded by [`Transfer::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The answer to the options.
    Oack,
    /// A block, counted from 1 without wrapping around.
    Block(u64),
}

/// A transfer that has not ended.
#[derive(Debug)]
pub struct Transfer {
    file: Bytes,
    terms: Terms,
    state: State,
    patience: Patience,
}

#[derive(Debug)]
enum State {
    /// The OACK was sent; ACK 0 is awaited.
    Negotiating,
    /// Blocks are under way.
    Sending(Window),
}

/// The blocks `first..next` are under way.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: u64,
    next: u64,
    /// Whether the window was already sent again because of an ACK that brought nothing new.
    repeated: bool,
}

#[derive(Debug)]
struct Patience {
    sends: u32,
    wait: Duration,
    deadline: Instant,
    end: Instant,
    confirmed: bool,
}

impl Transfer {
    /// Begins; `out` receives what to send first.
    pub fn start(file: Bytes, terms: Terms, now: Instant, out: &mut Vec<Outgoing>) -> Self {
        let wait = terms.timeout.unwrap_or(FIRST_WAIT).min(LONGEST_WAIT);
        let patience = Patience {
            sends: 1,
            wait,
            deadline: now + wait,
            end: now + LONGEST_TRANSFER,
            confirmed: false,
        };
        let state = if terms.granted.is_empty() {
            out.push(Outgoing::Block(1));
            State::Sending(Window {
                first: 1,
                next: 2,
                repeated: false,
            })
        } else {
            out.push(Outgoing::Oack);
            State::Negotiating
        };
        Self {
            file,
            terms,
            state,
            patience,
        }
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self) -> Instant {
        self.patience.deadline.min(self.patience.end)
    }

    /// Whether the client has shown that it is really there.
    pub fn is_confirmed(&self) -> bool {
        self.patience.confirmed
    }

    /// Reacts to an event; `out` receives what to send.
    ///
    /// # Errors
    /// [`End`]: the transfer is over, well or badly.
    pub fn step(mut self, event: Event<'_>, now: Instant, out: &mut Vec<Outgoing>) -> Result<Self, End> {
        if now >= self.patience.end {
            return Err(End::TooLong);
        }
        match event {
            Event::Deadline if now < self.patience.deadline => Ok(self),
            Event::Deadline => {
                self.patience.send_again(now)?;
                self.send_state(out);
                Ok(self)
            }
            Event::Datagram(bytes) => match FromClient::parse(bytes) {
                Ok(FromClient::Ack(number)) => self.acknowledged(number, now, out),
                Ok(FromClient::Error { code, message }) => Err(End::ClientError { code, message }),
                // The client's request once more: it crossed our first packet.
                Ok(FromClient::Read(_)) => Ok(self),
                Ok(FromClient::Write) | Err(_) => Err(End::Nonsense),
            },
        }
    }

    /// Writes a packet over the buffer.
    pub fn encode(&self, outgoing: Outgoing, buffer: &mut Vec<u8>) {
        match outgoing {
            Outgoing::Oack => packet::write_oack(buffer, &self.terms.granted),
            Outgoing::Block(number) => {
                let (head, part) = self.block_packet(number);
                buffer.clear();
                buffer.extend_from_slice(&head);
                buffer.extend_from_slice(&self.file[part]);
            }
        }
    }

    /// The file that is sent.
    pub fn file(&self) -> &Bytes {
        &self.file
    }

    /// The packet of a block: its head, and the part of [`Transfer::file`] that follows it. Nothing is copied.
    pub fn block_packet(&self, number: u64) -> ([u8; 4], Range<usize>) {
        (packet::data_head(wire_number(number)), self.block(number))
    }

    fn acknowledged(mut self, number: u16, now: Instant, out: &mut Vec<Outgoing>) -> Result<Self, End> {
        let window = match self.state {
            State::Negotiating if number == 0 => Window {
                first: 1,
                next: 1,
                repeated: false,
            },
            State::Negotiating => return Ok(self),
            State::Sending(window) => match window.after(number, self.terms.window) {
                Some(window) => window,
                None => return Ok(self),
            },
        };
        if window.first > self.last_block() {
            return Err(End::Complete);
        }
        let next = (window.first + self.terms.window).min(self.last_block() + 1);
        self.state = State::Sending(Window { next, ..window });
        self.patience.heard(now, window.repeated, &self.terms);
        self.send_state(out);
        Ok(self)
    }

    fn send_state(&self, out: &mut Vec<Outgoing>) {
        match self.state {
            State::Negotiating => out.push(Outgoing::Oack),
            State::Sending(window) => out.extend((window.first..window.next).map(Outgoing::Block)),
        }
    }

    /// The last block is the first one that is not full, so it may be empty.
    fn last_block(&self) -> u64 {
        (self.file.len() / self.terms.block_size) as u64 + 1
    }

    fn block(&self, number: u64) -> Range<usize> {
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let start = index.saturating_mul(self.terms.block_size).min(self.file.len());
        start..(start + self.terms.block_size).min(self.file.len())
    }
}

impl Window {
    /// The window after an ACK: it begins behind the acknowledged block. `None` when the ACK changes nothing.
    fn after(self, number: u16, size: u64) -> Option<Window> {
        // The ACK of the block before the window says that nothing of the window arrived.
        let acknowledged = (self.first - 1..self.next).find(|block| wire_number(*block) == number)?;
        if acknowledged >= self.first {
            Some(Window {
                first: acknowledged + 1,
                next: acknowledged + 1,
                repeated: false,
            })
        } else if size > 1 && !self.repeated {
            Some(Window {
                repeated: true,
                ..self
            })
        } else {
            None
        }
    }
}

impl Patience {
    fn send_again(&mut self, now: Instant) -> Result<(), End> {
        let most = if self.confirmed {
            CONFIRMED_SENDS
        } else {
            UNCONFIRMED_SENDS
        };
        if self.sends >= most {
            return Err(End::Silence);
        }
        self.sends += 1;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.deadline = now + self.wait;
        Ok(())
    }

    fn heard(&mut self, now: Instant, nothing_new: bool, terms: &Terms) {
        self.confirmed = true;
        if !nothing_new {
            self.sends = 1;
            self.wait = terms.timeout.unwrap_or(FIRST_WAIT).min(LONGEST_WAIT);
        }
        self.deadline = now + self.wait;
    }
}

/// Block numbers have 16 bits on the wire and go on from 65535 to 0.
#[expect(clippy::cast_possible_truncation, reason = "the wrap-around is meant")]
fn wire_number(block: u64) -> u16 {
    block as u16
}
