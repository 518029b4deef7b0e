//! What an ATA disk says of itself: IDENTIFY DEVICE and DEVICE CONFIGURATION IDENTIFY, as pure functions of bytes that may be wrong.
//!
//! Words are from ATA/ATAPI Command Set 4 (ACS-4), "IDENTIFY DEVICE", and for what newer standards dropped, the host protected area and device
//! configuration, from ATA8-ACS.

use std::time::Duration;

/// Bytes of a page.
pub(in crate::wipe) const PAGE_BYTES: usize = 512;

/// Given when a disk does not say how long it takes: the longest that its field can say.
const UNKNOWN_TIME: Duration = Duration::from_secs(508 * 60);

/// The disk's security feature set, and what may be hidden from us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wipe) struct Identity {
    /// SECURITY ERASE UNIT is there (word 128, bit 0).
    pub(in crate::wipe) security: bool,
    /// It is there in the enhanced mode too (word 128, bit 5).
    pub(in crate::wipe) enhanced: bool,
    /// A password is set (bit 1).
    pub(in crate::wipe) enabled: bool,
    /// The disk is locked by a password (bit 2).
    pub(in crate::wipe) locked: bool,
    /// The firmware forbade security commands until the next power cycle (bit 3).
    pub(in crate::wipe) frozen: bool,
    /// Passwords were tried too often (bit 4).
    pub(in crate::wipe) expired: bool,
    /// How long the normal erase takes.
    pub(in crate::wipe) takes: Duration,
    /// How long the enhanced erase takes.
    pub(in crate::wipe) takes_enhanced: Duration,
    /// Sectors that can be addressed now.
    pub(in crate::wipe) sectors: u64,
    /// A host protected area can be there (word 82, bit 10).
    pub(in crate::wipe) protected_area: bool,
    /// The capacity can be reduced by device configuration (word 83, bit 11).
    pub(in crate::wipe) configuration: bool,
}

/// Reads an IDENTIFY DEVICE page; `None` when it is none (word 0, bit 15 says that it is no ATA disk).
pub(in crate::wipe) fn identity(page: &[u8]) -> Option<Identity> {
    let word = |number: usize| -> Option<u16> {
        let bytes = page.get(2 * number..2 * number + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    if page.len() < PAGE_BYTES || word(0)? & 0x8000 != 0 {
        return None;
    }
    let security = word(128)?;
    let bit = |word: u16, number: u32| word & (1 << number) != 0;
    // Words 82 to 84 count when bits 15:14 of word 83 are 01.
    let features = word(83)?;
    let valid = features >> 14 == 0b01;
    Some(Identity {
        security: bit(security, 0),
        enhanced: bit(security, 5),
        enabled: bit(security, 1),
        locked: bit(security, 2),
        frozen: bit(security, 3),
        expired: bit(security, 4),
        takes: takes(word(89)?),
        takes_enhanced: takes(word(90)?),
        sectors: sectors(word, bit(features, 10) && valid)?,
        protected_area: valid && bit(word(82)?, 10),
        configuration: valid && bit(features, 11),
    })
}

/// Words 89 and 90: minutes by two. Bit 15 says that bits 14:0 count, otherwise bits 7:0 do.
fn takes(word: u16) -> Duration {
    let minutes = match word & 0x8000 {
        0 => u64::from(word & 0xff) * 2,
        _ => u64::from(word & 0x7fff) * 2,
    };
    match minutes {
        0 => UNKNOWN_TIME,
        minutes => Duration::from_secs(minutes * 60),
    }
}

/// Words 100 to 103 with 48-bit addresses, words 60 and 61 without.
fn sectors(word: impl Fn(usize) -> Option<u16>, long: bool) -> Option<u64> {
    let numbers = if long { 100..104 } else { 60..62 };
    numbers
        .rev()
        .try_fold(0, |sum, number| Some(sum << 16 | u64::from(word(number)?)))
}

/// The sectors that a disk would have without reduction: words 3 to 6 of DEVICE CONFIGURATION IDENTIFY are its highest address.
pub(in crate::wipe) fn configured_sectors(page: &[u8]) -> Option<u64> {
    let bytes: [u8; 8] = page.get(6..14)?.try_into().ok()?;
    u64::from_le_bytes(bytes).checked_add(1)
}

/// The sectors that are kept from us, given what the disk calls its native size and its configured size, as far as it tells.
pub(in crate::wipe) fn hidden_sectors(visible: u64, native: Option<u64>, configured: Option<u64>) -> u64 {
    let largest = native.into_iter().chain(configured).max().unwrap_or(0);
    largest.saturating_sub(visible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(words: &[(usize, u16)]) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        for (number, word) in words {
            page[2 * number..2 * number + 2].copy_from_slice(&word.to_le_bytes());
        }
        page
    }

    #[test]
    fn a_disk_with_everything() {
        let words = [
            (82, 1 << 10),
            (83, 0x4000 | 1 << 11 | 1 << 10),
            (89, 30),
            (90, 0x8000 | 300),
            (100, 0x1000),
            (101, 1),
            (128, 0x21),
        ];
        let disk = identity(&page(&words)).unwrap();
        assert!(disk.security && disk.enhanced && disk.protected_area && disk.configuration);
        assert!(!disk.locked && !disk.frozen && !disk.enabled && !disk.expired);
        assert_eq!(
            (disk.takes, disk.takes_enhanced),
            (Duration::from_secs(3600), Duration::from_secs(600 * 60))
        );
        assert_eq!(disk.sectors, 0x1_1000);
    }

    #[test]
    fn states_of_security() {
        let disk = identity(&page(&[(128, 0b1_1111)])).unwrap();
        assert!(
            disk.security && disk.enabled && disk.locked && disk.frozen && disk.expired && !disk.enhanced
        );
        assert_eq!(disk.takes, UNKNOWN_TIME);
    }

    #[test]
    fn an_old_disk_and_no_disk() {
        // The feature words do not count without their mark; nor do the 48-bit addresses.
        let disk = identity(&page(&[(60, 7), (82, 1 << 10), (83, 1 << 10), (100, 9)])).unwrap();
        assert_eq!(
            (disk.sectors, disk.protected_area, disk.security),
            (7, false, false)
        );
        assert_eq!(identity(&page(&[(0, 0x85c0)])), None, "an optical drive");
        assert_eq!(identity(&[0; 100]), None);
    }

    #[test]
    fn what_is_hidden_is_the_difference_to_the_largest_size() {
        assert_eq!(hidden_sectors(100, None, None), 0);
        assert_eq!(hidden_sectors(100, Some(100), Some(100)), 0);
        assert_eq!(hidden_sectors(100, Some(120), None), 20);
        assert_eq!(hidden_sectors(100, Some(120), Some(150)), 50);
        assert_eq!(configured_sectors(&page(&[(3, 99)])), Some(100));
        assert_eq!(configured_sectors(&[]), None);
    }

    proptest! {
        #[test]
        fn no_page_is_too_strange(page in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = (identity(&page), configured_sectors(&page));
        }
    }
}
