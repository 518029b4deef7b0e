//! The CLI's way to the daemon: HTTP over a Unix socket that only its owner may open.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/borrowings` | [`BorrowRequest`] | 201 [`BorrowingView`](crate::borrowing::view::BorrowingView) |
//! | `GET /v1/borrowings` | | a list of `BorrowingView` |
//! | `GET /v1/borrowings/{name}` | | `BorrowingView`; the name may be identifier, lease or host name |
//! | `GET /v1/borrowings/{id}/progress?after=N` | | [`Progress`](crate::progress::Progress) as JSON lines, until nothing more will come |
//! | `POST /v1/borrowings/{name}/release` | | 202 `BorrowingView`; with `?now=true` nothing is drained first |
//! | `GET /v1/announced` | | a list of [`Entry`](crate::announce::Entry) |
//! | `POST /v1/borrowings/{name}/renew` | [`RenewRequest`](leaseboot_protocol::leases::RenewRequest) | `BorrowingView` |
//! | `PUT /v1/borrowings/{name}/rescue` | [`RescueRequest`](leaseboot_protocol::rescue::RescueRequest) | [`RescueView`](leaseboot_protocol::rescue::RescueView) |
//! | `GET /v1/borrowings/{name}/console`, `Upgrade: leaseboot-console` | | 101, then frames |
//! | `GET /v1/borrowings/{name}/consoles` | | a list of [`ConsoleRecord`](crate::store::ConsoleRecord) |
//! | `GET /v1/profiles/{name}/courses` | | [`Course`](crate::progress::estimate::Course)s of its latest transfers |
//! | `GET /v1/events`, `POST /v1/events` | [`RaiseRequest`](crate::policy::control::RaiseRequest) | what stands; 202 |
//! | `GET /v1/policies` | | [`Report`](crate::policy::explain::Report) |
//!
//! Every error has the body [`Problem`].

pub mod client;
mod rescue;
pub mod server;

use leaseboot_protocol::ids::Hostname;
use serde::{Deserialize, Serialize};

/// Asks for a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BorrowRequest {
    /// The profile.
    pub profile: String,
    /// The server's name; absent for one by the profile's pattern.
    pub hostname: Option<Hostname>,
    /// The lenders to ask, in this order; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lenders: Vec<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The error with its causes.
    pub error: String,
}
