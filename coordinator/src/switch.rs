//! The switch hook: a program of the lender, run when a server's port is to be in a tenant's network or out of it, for the automation of
//! VLANs.
//!
//! ```text
//! attach ──success──► the server is switched on             detach: after the server is off
//!    └──failure──► it is not; the order is tried again, then told to the lease
//! ```
//!
//! It must take being run twice: each order that switches a lent server on is preceded by an attach, each that switches it off is followed
//! by a detach, and orders are tried again. Its environment:
//!
//! | variable | what |
//! |---|---|
//! | `LEASEBOOT_ACTION` | `attach` or `detach` |
//! | `LEASEBOOT_TENANT`, `LEASEBOOT_LEASE` | who has the server; empty when it is detached after its lease let go of it |
//! | `LEASEBOOT_SERVER`, `LEASEBOOT_MAC` | the server and its card on the lender's wire |
//! | `LEASEBOOT_PORT` | the server's label `port`; empty without it |

use crate::config::Server;
use crate::power::{PowerError, run_program};
use leaseboot_protocol::ids::{LeaseId, TenantId};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// The label that names a server's port.
const PORT_LABEL: &str = "port";

/// The `[switch]` table of `lm.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchConfig {
    /// The program with its arguments; without it, ports are left as they are.
    pub command: Vec<String>,
    /// How long it may take, in seconds; 60 where it is absent.
    pub patience_s: Option<std::num::NonZeroU32>,
}

/// What becomes of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchAction {
    /// It joins the tenant's network.
    Attach,
    /// It leaves it.
    Detach,
}

impl fmt::Display for SwitchAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SwitchAction::Attach => "attach",
            SwitchAction::Detach => "detach",
        })
    }
}

impl SwitchConfig {
    /// Runs the program to its end, if there is one.
    ///
    /// # Errors
    /// [`PowerError::Switch`].
    pub async fn run(
        &self,
        action: SwitchAction,
        server: &Server,
        holder: Option<(&LeaseId, &TenantId)>,
    ) -> Result<(), PowerError> {
        if self.command.is_empty() {
            return Ok(());
        }
        let port = server.labels.get(PORT_LABEL).cloned().unwrap_or_default();
        let environment = [
            ("LEASEBOOT_ACTION", action.to_string()),
            (
                "LEASEBOOT_TENANT",
                holder.map(|(_, tenant)| tenant.to_string()).unwrap_or_default(),
            ),
            (
                "LEASEBOOT_LEASE",
                holder.map(|(lease, _)| lease.to_string()).unwrap_or_default(),
            ),
            ("LEASEBOOT_SERVER", server.name.to_string()),
            ("LEASEBOOT_MAC", server.place.mac.to_string()),
            ("LEASEBOOT_PORT", port),
        ];
        let patience = self.patience_s.map_or(60, std::num::NonZeroU32::get);
        run_program(&self.command, &environment, Duration::from_secs(patience.into()))
            .await
            .map(drop)
            .map_err(|source| PowerError::Switch {
                action,
                source: Box::new(source),
            })
    }
}
