//! Rescue mode: the agent stays where it is, so that somebody can look at the server by a console.
//!
//! | request | who | answer |
//! |---|---|---|
//! | `GET /v1/agent/rescue` at the LM, session token | agent, every few seconds | [`RescueWord`] |
//! | `GET /v1/rescue` at the PO, inside the tunnel | agent, every few seconds | [`RescueWord`] |
//! | `GET /v1/agent/console/{call}` at the LM, `GET /v1/console/{call}` at the PO, `Upgrade: leaseboot-console` | agent | 101, then frames ([`crate::console`]) |
//! | `GET /v1/agent/shell` at the LM, session token | agent | the program that serves as shell; its digest is in stage 1 |
//! | `PUT`, `GET`, `DELETE /v1/leases/{id}/rescue` at the LM, mutual TLS | PO | [`RescueView`] |
//!
//! The agent only ever dials: nothing listens on the server. Each side asks for a console at its own manager; the manager puts a [`ConsoleCall`] into its next word,
//! and the agent answers it. Who may call is each manager's to decide, and the agent holds the lender's calls against the enterprise's word: while a lease goes on it
//! answers them only when the enterprise has said so *through the tunnel*.

use crate::console::CallId;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Where stage 1 holds the SHA-256 of the shell that its builder took, as 64 hexadecimal digits.
pub const SHELL_DIGEST_PATH: &str = "/leaseboot/shell.sha256";
/// The name of the shell among the boot files.
pub const SHELL_FILE: &str = "rescue/busybox";

/// What a manager says to an agent that could stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RescueWord {
    /// Whether it is to stay.
    pub stay: bool,
    /// Whether the enterprise agrees to a console of the lender's; only the PO's word counts.
    #[serde(default)]
    pub lender_console: bool,
    /// Somebody waits for a console.
    #[serde(default)]
    pub call: Option<ConsoleCall>,
}

/// Somebody waits for a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleCall {
    /// To be named when it is answered.
    pub id: CallId,
    /// The API of the Lease Manager that waits, of those that share a store; none for the one that was asked.
    #[serde(default)]
    pub lm_url: Option<String>,
}

/// What a tenant wants of rescue mode. The same again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RescueRequest {
    /// The agent is to stay before it hands over.
    pub stay: bool,
    /// The lender may open a console too.
    #[serde(default)]
    pub lender_console: bool,
}

/// How a lease stands to rescue mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RescueView {
    /// Until when the agent stays by the tenant's order; none without one.
    pub stay_until: Option<Timestamp>,
    /// Until when it stays by the lender's; none without one.
    pub lender_stay_until: Option<Timestamp>,
    /// Whether the tenant has agreed to a console of the lender's.
    pub lender_console: bool,
}
