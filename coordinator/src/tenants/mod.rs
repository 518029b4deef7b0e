//! Tenants: who they are, what they may have, and how much of the LM's attention.
//!
//! ```text
//!            invite ──► code ──enrol──► certificate ──┐
//! nobody ──┤                                         ├──► known ──revoke──► revoked: refused at once, for good or until invited anew
//!            add ──────────────────────► bundle ─────┘
//! ```
//!
//! A tenant is known by the certificates that are on record for it ([`crate::store`]); one that is not on record is refused although the
//! CA signed it. Each request asks the store, so that a word of the operator counts from the next request on, in every Lease Manager.
//!
//! | module | what |
//! |---|---|
//! | `terms` | what the lender granted a tenant, and what that means for a lease: pure |
//! | `rate` | a bucket of requests for each tenant: pure |
//! | `enrolment` | invitations, and the certificates that they bring |

mod enrolment;
mod rate;
mod terms;

pub use enrolment::{EnrolError, Enrolment, invite};
pub use rate::{Rate, RateLimiter};
pub use terms::{OverQuota, Terms, Usage};
