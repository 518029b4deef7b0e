//! Netlink's attributes (netlink(7), `struct nlattr`): a length with its header, a kind, the value, and padding to four bytes. Numbers are in the machine's byte order.

use super::message::Malformed;
use zeroize::Zeroizing;

const HEADER: usize = 4;
/// The upper two bits of a kind are flags, one of which says that the value is attributes again.
const NESTED: u16 = 1 << 15;
const KIND: u16 = 0x3fff;

/// Writes attributes one after the other. What it wrote is wiped when it is dropped, because a private key may be among it; so it never grows into another place.
pub(super) struct Writer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// With room for `capacity` bytes, which is all that may be written.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        debug_assert!(
            self.bytes.len() + bytes.len() <= self.bytes.capacity(),
            "a copy would be left behind"
        );
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.within(kind, |writer| writer.raw(value));
    }

    pub(super) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        self.within(kind | NESTED, write);
    }

    fn within(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let begin = self.bytes.len();
        self.raw(&[0; 2]);
        self.raw(&kind.to_ne_bytes());
        write(self);
        // Messages are kept far below 64 KiB by `message::MOST`.
        let length = u16::try_from(self.bytes.len() - begin).unwrap_or(u16::MAX);
        self.bytes[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        let padding = self.bytes.len().next_multiple_of(4) - self.bytes.len();
        self.raw(&[0; 3][..padding]);
    }

    pub(super) fn done(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The attributes of `bytes` in their order, each with its kind; ends after the first that does not fit.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let one = split(rest);
        rest = one.as_ref().map_or(&[], |(_, after)| after);
        Some(one.map(|(attribute, _)| attribute))
    })
}

type Split<'a> = ((u16, &'a [u8]), &'a [u8]);

fn split(bytes: &[u8]) -> Result<Split<'_>, Malformed> {
    let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Short)?;
    let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
    let value = bytes.get(HEADER..length).ok_or(Malformed::Length)?;
    // The last one may do without its padding.
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok(((kind, value), after))
}

/// A value of just this length.
pub(super) fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::Length)
}
