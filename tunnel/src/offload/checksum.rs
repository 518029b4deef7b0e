//! The checksum of the Internet (RFC 1071): a sum of 16-bit words in which the carry comes round.
//!
//! The sum is the same in any order of bytes but for a swap of the result (RFC 1071, section 2 B), and carries may come round at the end. So words of four bytes are added as they lie in memory,
//! to sums of eight bytes that a packet cannot fill, in a loop that compilers turn into vectors.

/// A sum that is not yet folded to 16 bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// With these bytes, which begin at an even place of what is summed.
    #[must_use]
    pub(super) fn with(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum = words.iter().fold(self.0, |sum, word| {
            sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)))
        });
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(sum.wrapping_add(u64::from(u32::from_ne_bytes(last))))
    }

    /// With a 16-bit number as it would be sent.
    #[must_use]
    pub(super) fn with_number(self, number: u16) -> Self {
        Self(
            self.0
                .wrapping_add(u64::from(u16::from_ne_bytes(number.to_be_bytes()))),
        )
    }

    /// The folded sum in the order of bytes in which it is sent.
    pub(super) fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
        let sum = sum as u16;
        sum.to_ne_bytes()
    }

    /// The checksum: the folded sum's complement.
    pub(super) fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// Whether what was summed, its checksum included, is as it was sent.
    pub(super) fn is_whole(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As RFC 1071 describes it, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_the_words_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..200), number: u16) {
            let both = [&number.to_be_bytes()[..], &bytes].concat();
            let sum = Sum::default().with_number(number).with(&bytes);
            prop_assert_eq!(u16::from_be_bytes(sum.folded()), plain(&both));
        }
    }

    #[test]
    fn the_largest_sums_come_round() {
        let sum = Sum::default().with(&[0xff; 4096]).with(&[0xff; 31]);
        assert!(!sum.is_whole() && sum.folded() == plain(&[0xff; 4127]).to_be_bytes());
        assert!(Sum::default().with(&[0xff; 64]).is_whole());
    }
}
