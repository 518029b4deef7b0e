//! Which methods a disk is tried with, strongest first: a pure function of what it says of itself.

use super::ata::pages::Identity;
use super::nvme::pages::Offers;
use leaseboot_protocol::erasure::EraseMethod;

/// What a disk says of itself, by its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// A namespace of an NVMe controller.
    pub(super) nvme: Option<Offers>,
    /// An ATA disk.
    pub(super) ata: Option<Identity>,
    /// The kernel can discard its blocks.
    pub(super) discard: bool,
}

/// The methods in the order in which they are tried.
///
/// A frozen or locked disk is still asked for its secure erase: the refusal says what to do about it. Writing zeros is always left.
pub(super) fn methods(features: &Features) -> Vec<EraseMethod> {
    let nvme = features.nvme.unwrap_or_default();
    let ata = features.ata.unwrap_or_default();
    let table = [
        (nvme.sanitize_crypto, EraseMethod::NvmeSanitizeCrypto),
        (nvme.sanitize_block, EraseMethod::NvmeSanitizeBlock),
        (nvme.format.is_some(), EraseMethod::NvmeFormat),
        (ata.security && ata.enhanced, EraseMethod::AtaSecureEraseEnhanced),
        (ata.security, EraseMethod::AtaSecureErase),
        (features.discard, EraseMethod::Discard),
        (true, EraseMethod::Overwrite),
    ];
    table
        .into_iter()
        .filter_map(|(offered, method)| offered.then_some(method))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wipe::nvme::pages::SecureErase;

    #[test]
    fn the_strongest_comes_first_and_zeros_come_last() {
        use EraseMethod::{
            AtaSecureErase, AtaSecureEraseEnhanced, Discard, NvmeFormat, NvmeSanitizeBlock,
            NvmeSanitizeCrypto, Overwrite,
        };
        assert_eq!(methods(&Features::default()), [Overwrite]);
        let nvme = Features {
            nvme: Some(Offers {
                sanitize_crypto: true,
                sanitize_block: true,
                format: Some(SecureErase::UserData),
            }),
            discard: true,
            ..Features::default()
        };
        assert_eq!(
            methods(&nvme),
            [
                NvmeSanitizeCrypto,
                NvmeSanitizeBlock,
                NvmeFormat,
                Discard,
                Overwrite
            ]
        );
        let ata = |identity| {
            methods(&Features {
                ata: Some(identity),
                ..Features::default()
            })
        };
        let secure = Identity {
            security: true,
            enhanced: true,
            frozen: true,
            ..Identity::default()
        };
        assert_eq!(ata(secure), [AtaSecureEraseEnhanced, AtaSecureErase, Overwrite]);
        // The enhanced mode is a mode of a feature set, and nothing without it.
        let odd = Identity {
            enhanced: true,
            ..Identity::default()
        };
        assert_eq!(ata(odd), [Overwrite]);
    }

    #[test]
    fn the_order_is_that_of_the_protocol() {
        let all = Features {
            nvme: Some(Offers {
                sanitize_crypto: true,
                sanitize_block: true,
                format: Some(SecureErase::Cryptographic),
            }),
            ata: Some(Identity {
                security: true,
                enhanced: true,
                ..Identity::default()
            }),
            discard: true,
        };
        assert!(methods(&all).is_sorted());
        assert_eq!(methods(&all).len(), 7);
    }
}
