//! Invitations, and the certificates that they bring (`leaseboot_protocol::enrolment`).
//!
//! Somebody without a certificate may ask here, so everything is bounded: the invitation's life, its attempts, and how often anybody may
//! ask at all. A code that does not count is refused in the same words whatever the reason.

use super::{Rate, RateLimiter};
use crate::audit::Deed;
use crate::pki::{Authority, PkiError};
use crate::store::{NewInvitation, Redemption, Store, StoreError};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::enrolment::{EnrolRequest, Enrolled, InvitationCode, NAME_BYTES, SECRET_BYTES};
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::timestamp::Timestamp;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Wrong secrets that an invitation bears.
const ATTEMPTS: u32 = 5;
/// A certificate signing request of the largest keys is smaller, in bytes.
const LONGEST_REQUEST: usize = 16 * 1024;
/// For all strangers together: enrolling is rare.
const STRANGERS: Rate = Rate {
    per_minute: NonZeroU32::new(60).expect("written as a positive number"),
    burst: NonZeroU32::new(20).expect("written as a positive number"),
};

/// Nobody was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Too many ask.
    #[error("too many enrolments at once: ask again in {} s", wait.as_secs().max(1))]
    Busy {
        /// How long to wait.
        wait: Duration,
    },
    /// The code does not count.
    #[error(
        "the invitation does not count: it may be used, out of time or mistyped; ask the lender for another"
    )]
    Refused,
    /// The certificate signing request cannot be used.
    #[error("the certificate signing request cannot be used: {problem}")]
    Request {
        /// What is wrong with it.
        problem: String,
    },
    /// This LM cannot sign.
    #[error(
        "this lease manager does not have the CA's key: enrol at the one that has it, or ask the lender for a bundle"
    )]
    NoKey,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// The desk where tenants enrol.
pub struct Enrolment {
    authority: Option<Authority>,
    ca_pem: String,
    erasure_key: String,
    strangers: Mutex<RateLimiter>,
}

impl Enrolment {
    /// `authority` is absent where the CA's key is kept elsewhere; `erasure_key` goes to whoever enrols, to verify erasure records with.
    pub fn new(authority: Option<Authority>, ca_pem: String, erasure_key: String) -> Self {
        Self {
            authority,
            ca_pem,
            erasure_key,
            strangers: Mutex::default(),
        }
    }

    /// Signs the request of somebody whose code counts.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn enrol(
        &self,
        store: &Store,
        request: &EnrolRequest,
        at: Timestamp,
    ) -> Result<Enrolled, EnrolError> {
        self.admit(at)?;
        let authority = self.authority.as_ref().ok_or(EnrolError::NoKey)?;
        if request.request.len() > LONGEST_REQUEST {
            let problem = format!("it is longer than {LONGEST_REQUEST} bytes");
            return Err(EnrolError::Request { problem });
        }
        let invited = store
            .invited(&request.invitation)
            .await?
            .ok_or(EnrolError::Refused)?;
        // Signed before the code is used up, so that a request that cannot be signed costs nothing; given away only after.
        let certificate = authority.sign(&invited, &request.request).map_err(bad_request)?;
        let secret = Sha256::of(request.secret.expose().as_bytes());
        let redeemed = store
            .redeem_invitation(&request.invitation, &secret, &certificate.sha256, at)
            .await?;
        match redeemed {
            Redemption::Good(tenant) => {
                tracing::info!(%tenant, "a tenant has enrolled");
                Ok(Enrolled {
                    tenant,
                    certificate: certificate.pem,
                    ca: self.ca_pem.clone(),
                    erasure_key: self.erasure_key.clone(),
                })
            }
            Redemption::Refused => {
                tracing::warn!(invitation = %request.invitation, "an invitation was shown that does not count");
                Err(EnrolError::Refused)
            }
        }
    }

    fn admit(&self, at: Timestamp) -> Result<(), EnrolError> {
        let everybody: TenantId = "everybody".parse().expect("a plain name");
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers
            .admit(&everybody, STRANGERS, at)
            .map_err(|wait| EnrolError::Busy { wait })
    }
}

fn bad_request(error: PkiError) -> EnrolError {
    use std::error::Error as _;
    let problem = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    EnrolError::Request { problem }
}

/// Invites a tenant; gives the code, which is shown once and kept nowhere.
///
/// # Errors
/// When there are no random numbers, or the store fails.
pub async fn invite(
    store: &Store,
    tenant: &TenantId,
    ca: &Sha256,
    life: Duration,
    at: Timestamp,
) -> Result<InvitationCode, StoreError> {
    let (mut name, mut secret) = ([0; NAME_BYTES], [0; SECRET_BYTES]);
    getrandom::fill(&mut name).map_err(StoreError::Random)?;
    getrandom::fill(&mut secret).map_err(StoreError::Random)?;
    let code = InvitationCode::new(name, secret, ca);
    let invitation = NewInvitation {
        name: code.name.clone(),
        tenant: tenant.clone(),
        sha256: Sha256::of(code.secret.expose().as_bytes()),
        expires: at + life,
        attempts: ATTEMPTS,
    };
    let deed = Deed::of_operator("invite a tenant").saying(format!("{tenant}, invitation {}", code.name));
    store.invite(&invitation, &deed, at).await?;
    Ok(code)
}
