//! A terminal on a server that stays in rescue mode, as it crosses the wire: first an HTTP/1.1 request that asks for [`UPGRADE`] (RFC 9110, 7.8), then
//! frames in both directions until one side says [`Frame::End`] or goes away.
//!
//! ```text
//!  person ──Input, Size, End──► manager ──► agent ──► shell
//!         ◄──────Output, End──         ◄──       ◄──
//! ```
//!
//! | bytes | what |
//! |---|---|
//! | 0 | kind: 1 input, 2 output, 3 size, 4 end |
//! | 1–2 | length of what follows, big endian, 1 to [`LONGEST_PAYLOAD`] |
//! | 3– | bytes of the terminal; columns and rows, 16 bits each; or the reason of the end in UTF-8 |
//!
//! Each side reads bytes of one that it does not trust, so a frame is bounded, a [`Decoder`] never holds more than one of them, and what a side may not say is an
//! error. How long a session may last and how much may pass is in [`session`].

pub mod session;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The protocol of the `Upgrade` header.
pub const UPGRADE: &str = "leaseboot-console";
/// Bytes of one frame behind its head.
pub const LONGEST_PAYLOAD: usize = 4096;
const HEAD: usize = 3;
/// The reason of an end that has none: a frame is not empty.
const NO_WORDS: &str = "over";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who sits at the terminal.
    Person,
    /// The server's agent.
    Server,
}

/// Columns and rows of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for WindowSize {
    /// What terminals had before windows.
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
        }
    }
}

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// What was typed.
    Input(Vec<u8>),
    /// What the terminal shows.
    Output(Vec<u8>),
    /// The terminal has this size from now on.
    Size(WindowSize),
    /// Nothing more comes, for this reason.
    End(String),
}

/// The other side does not speak this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is zero or too large.
    #[error("a frame of {0} bytes: 1 to {LONGEST_PAYLOAD} are allowed")]
    Length(usize),
    /// The kind is none, or not the speaker's.
    #[error("a frame of the kind {0}, which this side does not send")]
    Kind(u8),
    /// A size is two numbers of 16 bits.
    #[error("a size of {0} bytes")]
    Size(usize),
}

impl Frame {
    /// The frames that carry these bytes of the terminal, as short as the protocol wants them.
    pub fn of_bytes(from: Party, bytes: &[u8]) -> impl Iterator<Item = Frame> + '_ {
        bytes.chunks(LONGEST_PAYLOAD).map(move |piece| match from {
            Party::Person => Frame::Input(piece.to_vec()),
            Party::Server => Frame::Output(piece.to_vec()),
        })
    }

    /// The frame on the wire. What is too long for one is cut.
    pub fn encode(&self) -> Vec<u8> {
        let size;
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Input(bytes) => (1, bytes),
            Frame::Output(bytes) => (2, bytes),
            Frame::Size(WindowSize { columns, rows }) => {
                size = [columns.to_be_bytes(), rows.to_be_bytes()].concat();
                (3, &size)
            }
            Frame::End(reason) if reason.is_empty() => (4, NO_WORDS.as_bytes()),
            Frame::End(reason) => (
                4,
                &reason.as_bytes()[..reason.floor_char_boundary(LONGEST_PAYLOAD)],
            ),
        };
        let payload = &payload[..payload.len().min(LONGEST_PAYLOAD)];
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn decode(from: Party, kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        Ok(match (from, kind) {
            (Party::Person, 1) => Frame::Input(payload.to_vec()),
            (Party::Server, 2) => Frame::Output(payload.to_vec()),
            (Party::Person, 3) => {
                let &[c0, c1, r0, r1] = payload else {
                    return Err(FrameError::Size(payload.len()));
                };
                Frame::Size(WindowSize {
                    columns: u16::from_be_bytes([c0, c1]),
                    rows: u16::from_be_bytes([r0, r1]),
                })
            }
            (_, 4) => {
                // It is shown to a person, whose terminal must not obey it.
                let words = String::from_utf8_lossy(payload);
                let mut words: String = words.chars().filter(|c| !c.is_control()).collect();
                words.truncate(words.floor_char_boundary(LONGEST_PAYLOAD));
                Frame::End(if words.is_empty() {
                    NO_WORDS.to_owned()
                } else {
                    words
                })
            }
            (_, kind) => return Err(FrameError::Kind(kind)),
        })
    }

    /// Bytes of the terminal that it carries.
    pub fn terminal_bytes(&self) -> usize {
        match self {
            Frame::Input(bytes) | Frame::Output(bytes) => bytes.len(),
            Frame::Size(_) | Frame::End(_) => 0,
        }
    }
}

/// Makes frames of what one party sends, in whatever pieces it comes.
#[derive(Debug)]
pub struct Decoder {
    from: Party,
    /// The beginning of a frame whose end has not come.
    held: Vec<u8>,
}

impl Decoder {
    /// Of what `from` sends.
    pub fn new(from: Party) -> Self {
        Self {
            from,
            held: Vec::new(),
        }
    }

    /// The frames that these bytes complete, in order.
    ///
    /// # Errors
    /// [`FrameError`]; nothing that follows can be understood then.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        self.held.extend_from_slice(bytes);
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(&[kind, high, low]) = self.held.get(at..at + HEAD) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(1..=LONGEST_PAYLOAD).contains(&length) {
                return Err(FrameError::Length(length));
            }
            let begin = at + HEAD;
            let Some(payload) = self.held.get(begin..begin + length) else {
                break;
            };
            frames.push(Frame::decode(self.from, kind, payload)?);
            at = begin + length;
        }
        self.held.drain(..at);
        Ok(frames)
    }
}

/// Names one session that a manager waits for the agent to open: 128 random bits as 32 lower-case hexadecimal digits. Whoever knows it still has to be the
/// server that was called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
pub struct CallId(String);

/// The text is no name of a call.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a console's call: 32 lower-case hexadecimal digits are needed")]
pub struct CallIdError;

impl CallId {
    /// Of 128 random bits.
    pub fn of(bits: [u8; 16]) -> Self {
        Self(hex::encode(bits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CallId {
    type Error = CallIdError;

    fn try_from(text: String) -> Result<Self, CallIdError> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits && text.len() == 32)
            .then_some(Self(text))
            .ok_or(CallIdError)
    }
}

impl FromStr for CallId {
    type Err = CallIdError;

    fn from_str(text: &str) -> Result<Self, CallIdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<CallId> for String {
    fn from(id: CallId) -> String {
        id.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(party: Party) -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..=LONGEST_PAYLOAD);
        let end = "[a-z ü]{1,40}".prop_map(Frame::End);
        match party {
            Party::Person => prop_oneof![
                bytes().prop_map(Frame::Input),
                any::<(u16, u16)>().prop_map(|(columns, rows)| Frame::Size(WindowSize { columns, rows })),
                end,
            ]
            .boxed(),
            Party::Server => prop_oneof![bytes().prop_map(Frame::Output), end].boxed(),
        }
    }

    fn party() -> impl Strategy<Value = Party> {
        prop_oneof![Just(Party::Person), Just(Party::Server)]
    }

    proptest! {
        #[test]
        fn frames_arrive_as_they_were_sent_in_whatever_pieces(
            (party, frames) in party().prop_flat_map(|party| (Just(party), proptest::collection::vec(of(party), 0..6))),
            piece in 1usize..3000,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let mut decoder = Decoder::new(party);
            let mut read = Vec::new();
            for piece in wire.chunks(piece) {
                read.extend(decoder.read(piece).unwrap());
                prop_assert!(decoder.held.len() < HEAD + LONGEST_PAYLOAD);
            }
            prop_assert_eq!(read, frames);
            prop_assert!(decoder.held.is_empty());
        }

        #[test]
        fn noise_is_refused_or_waited_for_and_never_held_without_bound(party in party(), noise in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let mut decoder = Decoder::new(party);
            for piece in noise.chunks(4096) {
                if decoder.read(piece).is_err() {
                    break;
                }
                prop_assert!(decoder.held.len() < HEAD + LONGEST_PAYLOAD);
            }
        }
    }

    #[test]
    fn nobody_says_what_is_the_others_to_say() {
        let input = Frame::Input(b"ls\n".to_vec()).encode();
        assert_eq!(Decoder::new(Party::Server).read(&input), Err(FrameError::Kind(1)));
        let output = Frame::Output(b"x".to_vec()).encode();
        assert_eq!(
            Decoder::new(Party::Person).read(&output),
            Err(FrameError::Kind(2))
        );
        let size = Frame::Size(WindowSize::default()).encode();
        assert_eq!(Decoder::new(Party::Server).read(&size), Err(FrameError::Kind(3)));
    }

    #[test]
    fn the_reason_of_an_end_moves_no_cursor_and_is_bounded() {
        let end = Frame::End("\u{1b}[2Jidle".to_owned()).encode();
        let read = Decoder::new(Party::Server).read(&end).unwrap();
        assert_eq!(read, [Frame::End("[2Jidle".to_owned())]);
        let long = Frame::End("ü".repeat(LONGEST_PAYLOAD)).encode();
        assert!(long.len() <= HEAD + LONGEST_PAYLOAD);
        assert!(Decoder::new(Party::Server).read(&long).is_ok());
    }
}
