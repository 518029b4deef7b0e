//! WireGuard private keys: made on the spot, wiped when dropped, never printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::secret::Secret;
use zeroize::Zeroizing;

/// A Curve25519 private key (RFC 7748).
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

/// A text that should be a private key is not one. The text itself is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the WireGuard private key is not 32 bytes of base64; make a new one")]
pub struct PrivateKeyError;

impl PrivateKey {
    /// A fresh key from the kernel's random numbers.
    ///
    /// # Panics
    /// When getrandom(2) fails: no key made without it would be a secret.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).expect("getrandom(2) gives random bytes once the kernel is up");
        Self(x25519::StaticSecret::from(*bytes))
    }

    /// Reads a key as wg(8) writes it.
    ///
    /// # Errors
    /// [`PrivateKeyError`] for anything but 32 bytes of base64.
    pub fn from_base64(text: &str) -> Result<Self, PrivateKeyError> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| PrivateKeyError)?);
        let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| PrivateKeyError)?;
        Ok(Self(x25519::StaticSecret::from(*Zeroizing::new(bytes))))
    }

    /// The key as wg(8) writes it.
    pub fn to_base64(&self) -> Secret {
        Secret::new(STANDARD.encode(Zeroizing::new(self.0.to_bytes()).as_slice()))
    }

    /// The public half.
    pub fn public(&self) -> WireguardPublicKey {
        WireguardPublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn inner(&self) -> &x25519::StaticSecret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_writing_and_never_repeats_itself() {
        let key = PrivateKey::generate();
        let again = PrivateKey::from_base64(key.to_base64().expose()).unwrap();
        assert_eq!(key.public(), again.public());
        assert_ne!(key.public(), PrivateKey::generate().public());
        assert!(PrivateKey::from_base64("AAAA").is_err());
    }

    #[test]
    fn agrees_with_rfc_7748() {
        // Alice's key pair of RFC 7748, section 6.1.
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let public = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert_eq!(
            PrivateKey::from_base64(private).unwrap().public().to_string(),
            public
        );
    }
}
