//! PO ↔ LM, over mutual TLS. The PO always dials; the LM never does. The tenant is the common name of the client certificate.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/search` | [`SearchRequest`] | [`SearchAnswer`]: what there is, without taking it |
//! | `POST /v1/leases` | [`LeaseRequest`] without `group` | 201 [`LeaseView`](crate::lease::LeaseView); 409 [`Refusal::NothingFits`] |
//! | `POST /v1/leases` | [`LeaseRequest`] with `group` | 201 [`LeaseList`], one lease for each server, taken all at once; 409 [`Refusal::NothingFits`] |
//! | `GET /v1/leases?limit=N&cursor=C` | | [`LeaseList`], a page of it |
//! | `GET /v1/leases/{id}` | | [`LeaseView`](crate::lease::LeaseView) |
//! | `PUT /v1/leases/{id}/settings` | [`InstallSettings`](crate::settings::InstallSettings) | [`Prepared`]; 422 [`Refusal::Merge`] |
//! | `POST /v1/leases/{id}/boot` | [`BootOrder`] | 202 [`LeaseView`](crate::lease::LeaseView) |
//! | `GET /v1/leases/{id}/events?after=N&wait_s=S` | | [`EventBatch`]; held until there is an event after `N`, at most `S` ≤ 30 s |
//! | `POST /v1/leases/{id}/installed` | | 202: the member's key is registered with the PO |
//! | `POST /v1/leases/{id}/in-service` | | 202: the member was seen through its own tunnel |
//! | `POST /v1/leases/{id}/renew` | [`RenewRequest`] | 202 [`LeaseView`](crate::lease::LeaseView) with the new end of the term |
//! | `DELETE /v1/leases/{id}` | | 202 [`LeaseView`](crate::lease::LeaseView): the server goes back |
//! | `GET /v1/leases/{id}/erasure` | | [`SignedErasure`](crate::erasure::SignedErasure); 404 until the server was erased |
//! | `GET /v1/erasure-key` | | [`ErasureKey`](crate::erasure::ErasureKey): the key that the lender signs erasures with |
//!
//! Every error is `application/problem+json` (RFC 9457) with the members of a [`Refusal`] beside its own. `POST` takes an `Idempotency-Key`. Orders may be repeated: an order that is already carried out answers as the first time.

use crate::digest::Sha256;
use crate::lease::{LeaseEvent, LeaseView};
use crate::requirements::{Group, Requirements};
use serde::{Deserialize, Serialize};

/// Asks for a server, or for several at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRequest {
    /// Chosen by the PO; the same identifier gives the same lease, so a request whose answer was lost can be repeated.
    pub request_id: String,
    /// What the server must have.
    pub requirements: Requirements,
    /// For how many seconds the server is wanted, counted from now. Without it the lender's default holds, and never more than its maximum.
    #[serde(default)]
    pub term_s: Option<u64>,
    /// For several servers, each of which must have all that. Without it, one server is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// Asks to keep the server for longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// For how many seconds more, counted from now; without it the lender's default.
    #[serde(default)]
    pub term_s: Option<u64>,
}

/// Asks what a [`LeaseRequest`] would find.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchRequest {
    /// What a server must have.
    pub requirements: Requirements,
    /// For several servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// What a request would find now. Nothing is taken, so it may be different a moment later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SearchAnswer {
    /// Servers that the same request for a lease would get; 0 when it would be refused.
    pub servers: u32,
    /// Free servers that were looked at.
    pub free: u32,
    /// Those of them that meet the requirements.
    pub fitting: u32,
    /// Servers that would fit but are lent or held back.
    pub busy: u32,
    /// What fits, servers of one kind together, the best first.
    pub offers: Vec<Offer>,
    /// Each requirement that some free server failed.
    pub unmet: Vec<Unmet>,
    /// When nothing fits: what the free server that came nearest still lacks.
    pub nearest: Vec<String>,
    /// When single servers fit but not as many, or not together as asked: what is missing.
    pub shortfall: Option<String>,
}

/// Free servers of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Offer {
    /// How many.
    pub servers: u32,
    /// Machine name as uname(2) gives it.
    pub architecture: String,
    /// Cores of each.
    pub cores: u32,
    /// Hardware threads of each.
    pub threads: u32,
    /// Memory of each, in MiB.
    pub memory_mib: u64,
    /// Disks of each, in words, such as `2 x NVMe 894 GiB`.
    pub disks: String,
    /// Ethernet cards of each, in words.
    pub nics: String,
    /// How the asked preferences rate them.
    pub weight: i64,
}

/// The answer to a [`LeaseRequest`]: one lease, or, when it had a group, those of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Lent {
    /// Of a request without group.
    One(Box<LeaseView>),
    /// Of a group: one lease for each server, the best first.
    Several(LeaseList),
}

/// Leases of the tenant, oldest first: a page of the list, or those that one request brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseList {
    /// The leases.
    pub leases: Vec<LeaseView>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The outcome of a merge, for the PO to look at before it orders the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prepared {
    /// The merged kickstart, marks still in place.
    pub kickstart: String,
    /// Its digest.
    pub kickstart_sha256: Sha256,
}

/// The PO's consent to a merged kickstart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootOrder {
    /// The digest of the kickstart that the PO looked at. The LM refuses when it has merged another one since.
    pub kickstart_sha256: Sha256,
}

/// The next events of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventBatch {
    /// The lease as it stands.
    pub lease: LeaseView,
    /// Events in order; empty when none came in time.
    pub events: Vec<LeaseEvent>,
}

/// Why the LM did not do what was asked. What only the lender may know stays in the lender's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// No free server meets the requirements.
    NothingFits {
        /// Free servers that were looked at.
        free: u32,
        /// Servers that would fit but are lent or held back.
        busy: u32,
        /// Free servers that meet the requirements, when several were asked for and they are too few.
        #[serde(default)]
        fitting: u32,
        /// Each requirement that some free server failed.
        unmet: Vec<Unmet>,
        /// What the free server that came nearest still lacks.
        nearest: Vec<String>,
        /// When single servers fit but not as many, or not together as asked: what is missing.
        #[serde(default)]
        shortfall: Option<String>,
    },
    /// The settings and the hardware do not go together.
    Merge {
        /// Every reason at once.
        problems: Vec<MergeProblem>,
    },
    /// The order does not fit the lease's state, or the message is not well formed.
    Invalid {
        /// What is wrong, and what to do.
        message: String,
    },
    /// There is no such lease, or it is not this tenant's.
    NotFound {
        /// What was looked for.
        message: String,
    },
    /// The certificate or the token is missing, unknown or used up.
    Unauthorized {
        /// What is missing.
        message: String,
    },
    /// More would be more than the lender granted.
    Quota {
        /// Which limit, and what to do.
        message: String,
    },
    /// Too many requests; this one was not looked at.
    Busy {
        /// Seconds to wait before it is sent again.
        retry_after_s: u64,
    },
    /// The LM failed; the details are in the lender's log under this number.
    Internal {
        /// The number to quote.
        incident: String,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Refusal {
    /// Too many requests, for whoever may come again after `wait`.
    pub fn busy(wait: std::time::Duration) -> Self {
        // Rounded up, so that whoever waits so long is not too early.
        let retry_after_s = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        Refusal::Busy {
            retry_after_s: retry_after_s.max(1),
        }
    }
}

/// A requirement that free servers failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unmet {
    /// The requirement in words, such as `memory at least 65536 MiB`.
    pub requirement: String,
    /// How many free servers failed it.
    pub servers: u32,
}

/// One reason why settings and hardware do not go together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MergeProblem {
    /// What is wrong and what to do.
    pub message: String,
    /// The enterprise's line, when it is about one.
    pub enterprise: Option<Line>,
    /// The lender's line that it clashes with, when there is one.
    pub lender: Option<Line>,
}

/// A line of a text that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Line {
    /// The file, as its owner names it.
    pub origin: String,
    /// Counted from 1.
    pub number: usize,
    /// The line itself.
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.origin, self.number, self.text.trim())
    }
}

impl std::fmt::Display for MergeProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        for (side, line) in [("enterprise", &self.enterprise), ("lender", &self.lender)] {
            if let Some(line) = line {
                write!(f, "\n  {side}: {line}")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NothingFits {
                free,
                busy,
                fitting,
                unmet,
                nearest,
                shortfall,
            } => {
                match shortfall {
                    Some(shortfall) => write!(
                        f,
                        "{shortfall} ({free} free, {fitting} of them fit, {busy} that would fit are not free)"
                    )?,
                    None => write!(
                        f,
                        "no free server fits ({free} free, {busy} that would fit are not free)"
                    )?,
                }
                for unmet in unmet {
                    write!(
                        f,
                        "\n  {} of {free} free servers fail: {}",
                        unmet.servers, unmet.requirement
                    )?;
                }
                if !nearest.is_empty() {
                    write!(f, "\n  the nearest lacks: {}", nearest.join("; "))?;
                }
                Ok(())
            }
            Refusal::Merge { problems } => {
                f.write_str("the install settings cannot work on the leased server:")?;
                problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
            }
            Refusal::Invalid { message }
            | Refusal::NotFound { message }
            | Refusal::Unauthorized { message }
            | Refusal::Quota { message } => f.write_str(message),
            Refusal::Busy { retry_after_s } => {
                write!(f, "too many requests: send it again in {retry_after_s} s")
            }
            Refusal::Internal { incident } => {
                write!(
                    f,
                    "the lease manager failed; its operator finds the cause in its log under {incident}"
                )
            }
            Refusal::Unknown => f.write_str("refused for a reason that this version does not know"),
        }
    }
}
