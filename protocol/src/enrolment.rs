//! How a PO becomes known to an LM: `POST /v1/enrol`, the one route of tenants that needs no client certificate.
//!
//! The lender's operator makes an [`InvitationCode`] and gives it to the enterprise by another way: mail, telephone, a visit. It
//! carries both directions of trust. Its secret, good once and for a short time, tells the LM who comes; its digest of the LM's
//! CA tells the PO whom it has reached, before the secret goes out. The PO's private key is made by the PO and goes nowhere: what
//! crosses is a certificate signing request (PKCS #10, RFC 2986).
//!
//! ```text
//! lb1-4f2a9c01-7k3m…-a1b2…
//!  │   │        │     └ the first 16 bytes of the SHA-256 of the CA's certificate (DER), in hexadecimal digits
//!  │   │        └ the secret: 16 random bytes, in hexadecimal digits
//!  │   └ the name of the invitation: 4 random bytes, in hexadecimal digits
//!  └ this format
//! ```

use crate::digest::Sha256;
use crate::secret::{self, Secret};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

const FORMAT: &str = "lb1";
/// Bytes of an invitation's name.
pub const NAME_BYTES: usize = 4;
/// Bytes of its secret: 128 bits, which nobody guesses in the few attempts that an LM allows.
pub const SECRET_BYTES: usize = 16;
/// Bytes of the CA's digest that the code carries: 128 bits, against a second certificate with the same ones.
const CA_BYTES: usize = 16;

/// The code that an enterprise is given.
pub struct InvitationCode {
    /// The invitation's name, which is no secret.
    pub name: String,
    /// What proves that the bearer was invited.
    pub secret: Secret,
    ca: [u8; CA_BYTES],
}

/// The text is not such a code. It is not quoted, because part of it is a secret.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is not an invitation code: it looks like lb1-NAME-SECRET-CA, as `leaseboot-lm tenant invite` prints it, on one line"
)]
pub struct CodeError;

impl InvitationCode {
    /// A code of these random bytes, for an LM whose CA's certificate has this digest.
    pub fn new(name: [u8; NAME_BYTES], secret: [u8; SECRET_BYTES], ca: &Sha256) -> Self {
        let mut first = [0; CA_BYTES];
        first.copy_from_slice(&ca.as_bytes()[..CA_BYTES]);
        Self {
            name: hex::encode(name),
            secret: Secret::new(hex::encode(secret)),
            ca: first,
        }
    }

    /// Whether a certificate with this digest is the CA's that is meant.
    pub fn is_of_ca(&self, certificate: &Sha256) -> bool {
        certificate.as_bytes()[..CA_BYTES] == self.ca
    }

    /// The code in clear, to be shown once to whoever asked for it.
    pub fn expose(&self) -> String {
        let ca = hex::encode(self.ca);
        format!("{FORMAT}-{}-{}-{ca}", self.name, self.secret.expose())
    }
}

impl FromStr for InvitationCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let rest = text
            .trim()
            .strip_prefix(FORMAT)
            .and_then(|rest| rest.strip_prefix('-'));
        let parts: Vec<_> = rest.ok_or(CodeError)?.split('-').collect();
        let [name, secret, ca] = parts.as_slice() else {
            return Err(CodeError);
        };
        Ok(Self {
            name: hex::encode(bytes::<NAME_BYTES>(name)?),
            secret: Secret::new(hex::encode(bytes::<SECRET_BYTES>(secret)?)),
            ca: bytes(ca)?,
        })
    }
}

fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], CodeError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| CodeError)?;
    Ok(bytes)
}

/// Asks for a certificate.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolRequest {
    /// The invitation's name.
    pub invitation: String,
    /// Its secret.
    #[serde(serialize_with = "secret::expose")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub secret: Secret,
    /// The certificate signing request, in PEM. Its subject and extensions are not looked at: the LM decides them.
    pub request: String,
}

/// The answer: who the PO is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolled {
    /// The tenant's name.
    pub tenant: crate::ids::TenantId,
    /// The client certificate, in PEM.
    pub certificate: String,
    /// The LM's CA, in PEM, the only one to trust from now on.
    pub ca: String,
    /// The public key by which the lender's erasure records are verified, as [`crate::erasure`] writes it.
    pub erasure_key: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_survives_being_written_down() {
        let ca = Sha256::of(b"ca");
        let code = InvitationCode::new([1; NAME_BYTES], [2; SECRET_BYTES], &ca);
        let read: InvitationCode = format!(" {}\n", code.expose()).parse().unwrap();
        assert_eq!(read.name, "01010101");
        assert!(read.secret.matches(code.secret.expose()));
        assert!(read.is_of_ca(&ca) && !read.is_of_ca(&Sha256::of(b"other")));
    }

    #[test]
    fn what_is_not_a_code_is_refused_without_being_quoted() {
        let good = InvitationCode::new([1; NAME_BYTES], [2; SECRET_BYTES], &Sha256::of(b"ca")).expose();
        for text in [
            "",
            "lb1",
            "lb1-",
            "lb2-1-2-3",
            &good[..good.len() - 1],
            &format!("{good}-00"),
            &good[4..],
        ] {
            let error = text.parse::<InvitationCode>().err().expect("refused").to_string();
            assert!(
                text.is_empty() || text == "lb1" || text == "lb1-" || !error.contains(text),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn noise_is_no_code(text in "\\PC{0,100}") {
            let parsed = text.parse::<InvitationCode>();
            prop_assert!(parsed.is_err() || text.trim().starts_with("lb1-"));
        }
    }
}
