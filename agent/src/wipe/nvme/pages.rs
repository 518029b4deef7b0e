//! What a controller says of itself: the pages that decide how it can be erased, as pure functions of bytes that may be wrong.
//!
//! Offsets are from the NVM Express Base Specification 2.0, figures "Identify Controller Data Structure" and "Sanitize Status Log Page", and
//! from the NVM Command Set Specification 1.0, figure "Identify Namespace Data Structure".

/// Bytes of an identify page.
pub(in crate::wipe) const IDENTIFY_BYTES: usize = 4096;
/// Bytes of the sanitize status page that are read.
pub(in crate::wipe) const SANITIZE_STATUS_BYTES: usize = 32;

const OACS: usize = 256;
const SANICAP: usize = 328;
const FNA: usize = 524;
const FLBAS: usize = 26;

/// What a controller can do to erase its media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wipe) struct Offers {
    /// Sanitize by forgetting the media's key.
    pub(in crate::wipe) sanitize_crypto: bool,
    /// Sanitize by erasing the media's blocks.
    pub(in crate::wipe) sanitize_block: bool,
    /// Format NVM, and with which secure erase.
    pub(in crate::wipe) format: Option<SecureErase>,
}

/// The secure erase settings of Format NVM (Base Specification 2.0, "Format NVM command").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wipe) enum SecureErase {
    /// All user data is erased.
    UserData,
    /// The key of the user data is erased.
    Cryptographic,
}

/// Reads an Identify Controller page; what is missing from a short one counts as not offered.
pub(in crate::wipe) fn offers(controller: &[u8]) -> Offers {
    let byte = |at: usize| controller.get(at).copied().unwrap_or(0);
    let format = match (byte(OACS) & 0b10 != 0, byte(FNA) & 0b100 != 0) {
        (false, _) => None,
        (true, false) => Some(SecureErase::UserData),
        (true, true) => Some(SecureErase::Cryptographic),
    };
    Offers {
        sanitize_crypto: byte(SANICAP) & 0b01 != 0,
        sanitize_block: byte(SANICAP) & 0b10 != 0,
        format,
    }
}

/// The number of the LBA format that a namespace has, from its Identify Namespace page: formatting keeps it. Bits 6:5 are the upper
/// bits of numbers above 15.
pub(in crate::wipe) fn lba_format(namespace: &[u8]) -> Option<u8> {
    namespace
        .get(FLBAS)
        .map(|flbas| (flbas & 0x0f) | ((flbas & 0x60) >> 1))
}

/// How a sanitize operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wipe) enum Sanitize {
    /// There never was one.
    Never,
    /// The latest one ended well.
    Done,
    /// One is at work; its part in 65,536ths.
    Running(u16),
    /// The latest one failed.
    Failed,
    /// The page makes no sense.
    Unknown,
}

/// Reads a Sanitize Status log page.
pub(in crate::wipe) fn sanitize_status(page: &[u8]) -> Sanitize {
    let Some(&[low, high, status, _]) = page.first_chunk() else {
        return Sanitize::Unknown;
    };
    match status & 0b111 {
        0 => Sanitize::Never,
        // 4: all media were deallocated although the command asked to keep them allocated.
        1 | 4 => Sanitize::Done,
        2 => Sanitize::Running(u16::from_le_bytes([low, high])),
        3 => Sanitize::Failed,
        _ => Sanitize::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn controller(set: &[(usize, u8)]) -> Vec<u8> {
        let mut page = vec![0; IDENTIFY_BYTES];
        for (at, byte) in set {
            page[*at] = *byte;
        }
        page
    }

    #[test]
    fn a_controller_offers_what_its_bits_say() {
        assert_eq!(offers(&controller(&[])), Offers::default());
        let all = offers(&controller(&[(OACS, 0x0a), (SANICAP, 0x03), (FNA, 0x04)]));
        assert!(all.sanitize_crypto && all.sanitize_block);
        assert_eq!(all.format, Some(SecureErase::Cryptographic));
        let formats = offers(&controller(&[(OACS, 0x02), (SANICAP, 0x04)]));
        assert_eq!(formats.format, Some(SecureErase::UserData));
        assert!(
            !formats.sanitize_crypto && !formats.sanitize_block,
            "overwriting is no offer"
        );
        // Crypto erase without Format NVM is nothing.
        assert_eq!(offers(&controller(&[(FNA, 0x04)])).format, None);
    }

    #[test]
    fn the_format_in_use_may_be_above_fifteen() {
        assert_eq!(lba_format(&controller(&[(FLBAS, 0x03)])), Some(3));
        assert_eq!(
            lba_format(&controller(&[(FLBAS, 0x13)])),
            Some(3),
            "bit 4 is about metadata"
        );
        assert_eq!(lba_format(&controller(&[(FLBAS, 0x21)])), Some(0x11));
        assert_eq!(lba_format(&[]), None);
    }

    #[test]
    fn a_sanitize_is_followed_to_its_end() {
        assert_eq!(sanitize_status(&[0xff, 0xff, 0x01, 0x01]), Sanitize::Done);
        assert_eq!(
            sanitize_status(&[0x00, 0x80, 0x02, 0x00]),
            Sanitize::Running(0x8000)
        );
        assert_eq!(sanitize_status(&[0, 0, 3, 0]), Sanitize::Failed);
        assert_eq!(sanitize_status(&[0, 0, 0, 0]), Sanitize::Never);
        assert_eq!(sanitize_status(&[0, 0]), Sanitize::Unknown);
    }

    proptest! {
        #[test]
        fn no_page_is_too_strange(page in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = (offers(&page), lba_format(&page), sanitize_status(&page));
        }
    }
}
