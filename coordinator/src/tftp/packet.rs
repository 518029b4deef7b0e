//! The packets of TFTP (RFC 1350; options: RFC 2347), as bytes.

use std::fmt;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// What a client may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// It wants to read a file.
    Read(ReadRequest),
    /// It wants to write a file.
    Write,
    /// It has the block of this number, and all before it.
    Ack(u16),
    /// It gives up.
    Error {
        /// The number of RFC 1350.
        code: u16,
        /// Its words, printable and not long.
        message: String,
    },
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file's name as it was sent.
    pub name: String,
    /// The transfer mode in lower case.
    pub mode: String,
    /// Options in the order in which they were sent, names in lower case.
    pub options: Vec<(String, String)>,
}

/// A datagram is not a packet that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a TFTP packet from a client")]
pub struct Malformed;

/// Longer requests than one datagram of RFC 2347 are not read.
const LONGEST_REQUEST: usize = 512;

impl FromClient {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        let (opcode, body) = take_u16(datagram)?;
        match opcode {
            RRQ => Ok(Self::Read(ReadRequest::parse(body)?)),
            WRQ => Ok(Self::Write),
            ACK => Ok(Self::Ack(take_u16(body)?.0)),
            ERROR => {
                let (code, words) = take_u16(body)?;
                let end = words
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(words.len())
                    .min(100);
                let message = String::from_utf8_lossy(&words[..end]).escape_debug().to_string();
                Ok(Self::Error { code, message })
            }
            _ => Err(Malformed),
        }
    }
}

impl ReadRequest {
    fn parse(body: &[u8]) -> Result<Self, Malformed> {
        if body.len() > LONGEST_REQUEST {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(body).map_err(|_| Malformed)?;
        // Each string ends with a zero byte; some ROMs pad the packet with more of them.
        let mut words = text.strip_suffix('\0').ok_or(Malformed)?.split('\0');
        let name = words
            .next()
            .filter(|name| !name.is_empty())
            .ok_or(Malformed)?
            .to_owned();
        let mode = words.next().ok_or(Malformed)?.to_ascii_lowercase();
        let mut options = Vec::new();
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            if !option.is_empty() {
                options.push((option.to_ascii_lowercase(), value.to_owned()));
            }
        }
        Ok(Self { name, mode, options })
    }
}

fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    Ok((u16::from_be_bytes(*number), rest))
}

/// Error numbers of RFC 1350.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    Undefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// It may not be had.
    AccessViolation = 2,
    /// Not now.
    Busy = 3,
    /// The packet makes no sense.
    Illegal = 4,
}

/// What stands before the content in a DATA packet.
pub(super) fn data_head(number: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (DATA.to_be_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

/// Writes an OACK packet over the buffer.
pub(super) fn write_oack(buffer: &mut Vec<u8>, options: &[(&'static str, u64)]) {
    start(buffer, OACK);
    for (name, value) in options {
        buffer.extend_from_slice(name.as_bytes());
        buffer.push(0);
        buffer.extend_from_slice(value.to_string().as_bytes());
        buffer.push(0);
    }
}

/// An ERROR packet.
pub(super) fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    start(&mut packet, ERROR);
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend_from_slice(message.as_bytes());
    packet.push(0);
    packet
}

fn start(buffer: &mut Vec<u8>, opcode: u16) {
    buffer.clear();
    buffer.extend_from_slice(&opcode.to_be_bytes());
}

impl fmt::Display for ReadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        self.options
            .iter()
            .try_for_each(|(name, value)| write!(f, " {}={}", name.escape_debug(), value.escape_debug()))
    }
}
