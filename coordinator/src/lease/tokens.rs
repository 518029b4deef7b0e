//! Tokens: 32 random bytes in hexadecimal, known to one server and, as a digest, to the store.

use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::secret::Secret;
use zeroize::Zeroizing;

/// A new token.
///
/// # Errors
/// Those of getrandom(2).
pub(super) fn make() -> Result<Secret, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    Ok(Secret::new(hex::encode(bytes.as_ref())))
}

/// What the store knows of a token.
pub(super) fn digest(token: &str) -> Sha256 {
    Sha256::of(token.as_bytes())
}

/// A new name for a lease, such as `l-4f2a9c01`.
///
/// # Errors
/// Those of getrandom(2).
pub(super) fn lease_name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)?;
    Ok(format!("l-{}", hex::encode(bytes)))
}
