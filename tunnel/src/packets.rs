//! What is to be handed to the device, lying end to end in the buffer where it was decrypted. Pure; [`crate::offload`] joins it.

use std::ops::Range;

/// Packets that wait for the device, in order.
#[derive(Debug, Default)]
pub struct Packets {
    /// Longer than what is in use: growing means zeroing.
    bytes: Vec<u8>,
    used: usize,
    ranges: Vec<Range<usize>>,
}

impl Packets {
    /// Room for one packet of at most `length` bytes, which [`Packets::commit`] takes.
    pub(crate) fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.used + length;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// Adds the first `length` bytes of the room that was asked for last.
    pub(crate) fn commit(&mut self, length: usize) {
        self.ranges.push(self.used..self.used + length);
        self.used += length;
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// All bytes, which may be changed, and where the packets lie.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &[Range<usize>]) {
        (&mut self.bytes, &self.ranges)
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.ranges.clear();
    }

    /// Each packet.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.bytes[range.clone()])
    }
}
