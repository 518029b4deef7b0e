//! Values that must not be seen: tokens, private keys, sealed settings.
//!
//! [`Secret`] has no `Debug` and no `Serialize`, and is wiped when dropped. The few messages whose purpose is to carry a secret
//! say so at the field, with `#[serde(serialize_with = "secret::expose")]`.

use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A text that is neither printed nor serialized by accident, and is zeroized on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its duration where the first difference stands.
    pub fn matches(&self, other: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.as_bytes());
        let differing = ours.iter().zip(theirs).fold(0, |seen, (a, b)| seen | (a ^ b));
        ours.len() == theirs.len() && std::hint::black_box(differing) == 0
    }
}

/// Serializes a secret in clear, for a message that exists to carry it over a protected channel.
///
/// # Errors
/// Those of the serializer.
pub fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    secret.0.serialize(serializer)
}

/// As [`expose`], for a map of named secrets.
///
/// # Errors
/// Those of the serializer.
pub fn expose_map<S: Serializer>(
    secrets: &std::collections::BTreeMap<String, Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(secrets.iter().map(|(name, secret)| (name, &secret.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_itself() {
        let secret = Secret::new("abc");
        assert!(secret.matches("abc"));
        assert!(
            !secret.matches("abd") && !secret.matches("ab") && !secret.matches("abcd") && !secret.matches("")
        );
    }
}
