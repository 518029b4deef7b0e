//! What is to be sent, gathered so that the kernel can take many datagrams at once. Pure; [`crate::batch`] sends it.
//!
//! Datagrams lie end to end in one buffer, where they are encrypted. Those to one address that are equally long form one message, which udp(7)'s `UDP_SEGMENT` sends in one
//! trip through the network stack; a shorter one ends it.

use std::net::SocketAddr;
use std::ops::Range;

/// The kernel's limits for one message (`UDP_MAX_SEGMENTS` of Linux 4.18 to 6.8, and the length of an IP packet).
const MOST_SEGMENTS: usize = 64;
const MOST_BYTES: usize = 65_000;

/// Datagrams that wait to be sent, in order.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// Longer than what is in use: growing means zeroing.
    bytes: Vec<u8>,
    used: usize,
    messages: Vec<Message>,
}

/// Datagrams to one address, of which only the last may be shorter than the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) to: SocketAddr,
    pub(crate) range: Range<usize>,
    /// The length of each but the last.
    pub(crate) segment: usize,
}

impl Datagrams {
    /// Room for one datagram of at most `length` bytes, which [`Datagrams::commit`] takes.
    pub(crate) fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.used + length;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// Adds the first `length` bytes of the room that was asked for last. WireGuard has no empty datagrams: none is added.
    pub(crate) fn commit(&mut self, to: SocketAddr, length: usize) {
        if length == 0 {
            return;
        }
        let range = self.used..self.used + length;
        self.used = range.end;
        match self.messages.last_mut() {
            Some(last) if last.takes(to, length) => last.range.end = range.end,
            _ => self.messages.push(Message {
                to,
                range,
                segment: length,
            }),
        }
    }

    /// Adds a datagram.
    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.room(datagram.len()).copy_from_slice(datagram);
        self.commit(to, datagram.len());
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.messages.clear();
    }

    /// Each datagram with where it goes.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.messages.iter().flat_map(|message| {
            let bytes = &self.bytes[message.range.clone()];
            bytes
                .chunks(message.segment)
                .map(|datagram| (message.to, datagram))
        })
    }
}

impl Message {
    fn takes(&self, to: SocketAddr, length: usize) -> bool {
        let so_far = self.range.len();
        self.to == to
            && length <= self.segment
            && so_far.is_multiple_of(self.segment)
            && so_far / self.segment < MOST_SEGMENTS
            && so_far + length <= MOST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_what_the_kernel_takes_and_lose_nothing(
            datagrams in prop::collection::vec((1u16..4, prop::sample::select(vec![1usize, 99, 100, 1452, 65_507])), 1..200),
        ) {
            let mut gathered = Datagrams::default();
            let datagrams: Vec<_> = datagrams.into_iter().enumerate().map(|(index, (port, length))| {
                (SocketAddr::from(([192, 0, 2, 1], port)), vec![u8::try_from(index).unwrap(); length])
            }).collect();
            for (to, datagram) in &datagrams {
                gathered.push(*to, datagram);
            }
            let again: Vec<_> = gathered.iter().map(|(to, datagram)| (to, datagram.to_vec())).collect();
            prop_assert_eq!(again, datagrams);
            for message in gathered.messages() {
                let count = message.range.len().div_ceil(message.segment);
                prop_assert!(count == 1 || count <= MOST_SEGMENTS && message.range.len() <= MOST_BYTES);
            }
        }
    }
}
