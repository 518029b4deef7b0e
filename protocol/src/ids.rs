//! Names of servers and leases. They appear in paths, tables and logs, so they are short and plain by construction.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name is not 1 to 63 characters of `a-z`, `0-9` and inner `-`.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a valid {what}: 1 to 63 characters of a-z, 0-9 and inner '-' are needed")]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn is_label(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(
            feature = "openapi",
            derive(utoipa::ToSchema),
            schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
        )]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                if is_label(&text) { Ok(Self(text)) } else { Err(NameError { what: $what, text }) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A server of the lender, such as `rack3-07`.
    ServerId, "server name"
);
name_type!(
    /// A lease, such as `l-4f2a9c`.
    LeaseId, "lease identifier"
);
name_type!(
    /// An enterprise as the lender knows it: the common name of its client certificate.
    TenantId, "tenant name"
);
name_type!(
    /// A host name without domain (RFC 1123, one label).
    Hostname, "host name"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_label() {
        for text in ["", "-a", "a-", "A", "a.b", "a/b", &"x".repeat(64)] {
            assert!(text.parse::<ServerId>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn survives_json(text in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?") {
            let id: LeaseId = text.parse().unwrap();
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<LeaseId>(&json).unwrap(), id);
        }
    }
}
