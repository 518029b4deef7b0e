//! Who may hold a server up in rescue mode, and who may open a console on it: pure, and the only place that says so. The reasons are in
//! docs/decisions/0048-consoles-between-strangers.md.
//!
//! | the server | the lender's console | the tenant's console |
//! |---|---|---|
//! | has no lease, and nothing of a tenant's is left on it | yes | |
//! | has no lease, and was not erased since its last one | with the consent of that tenant | |
//! | has a lease, up to the hand-over to the enterprise's kernel | with the consent of its tenant | yes, through its tunnel |
//! | has a lease, later | no: no agent of stage 1 runs | no |
//! | goes back, or is being erased | with the consent of its tenant | no: its lease is over |

use leaseboot_protocol::lease::LeaseState;
use std::fmt;

/// Whose server it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody's but the lender's.
    Lenders,
    /// No lease has it, and a tenant's data may be left on its disks.
    Unerased {
        /// Whether that tenant agreed to the lender's console.
        consent: bool,
    },
    /// A lease has it.
    Lent {
        /// Where the lease stands.
        state: LeaseState,
        /// Whether its tenant agreed to the lender's console.
        consent: bool,
    },
}

/// Why there is no console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The tenant has not agreed.
    NoConsent,
    /// What the last tenant left is on the disks, and it has not agreed.
    Remains,
    /// Stage 1 is over.
    HandedOver,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::NoConsent => {
                "a lease has the server, and its tenant has not agreed to a console of the lender's: it can with `leaseboot-po rescue LEASE --lender-console`"
            }
            Closed::Remains => {
                "the server was not erased since its last lease, and that tenant had not agreed: erase it, and say `leaseboot-lm servers erased SERVER`"
            }
            Closed::HandedOver => "the enterprise's own system runs on the server: there is no agent of stage 1 to ask",
        })
    }
}

impl std::error::Error for Closed {}

/// Whether the agent of stage 1 can be there at all.
fn has_agent(state: LeaseState) -> bool {
    use LeaseState::{Booting, Chained, Installing, Leased, Prepared, Returning, Stage1, TunnelUp, Wiping};
    // A server whose installer was only just entered may have come back to stage 1 before the LM hears of it.
    matches!(
        state,
        Leased | Prepared | Booting | Stage1 | TunnelUp | Chained | Installing | Returning | Wiping
    )
}

/// Whether the lender may open a console.
///
/// # Errors
/// [`Closed`].
pub fn lender(standing: Standing) -> Result<(), Closed> {
    match standing {
        Standing::Lenders | Standing::Unerased { consent: true } => Ok(()),
        Standing::Unerased { consent: false } => Err(Closed::Remains),
        Standing::Lent { state, .. } if !has_agent(state) => Err(Closed::HandedOver),
        Standing::Lent { consent: true, .. } => Ok(()),
        Standing::Lent { consent: false, .. } => Err(Closed::NoConsent),
    }
}

/// Whether a tenant may order that the agent stays, in this state of its lease.
pub fn tenant_may_hold(state: LeaseState) -> bool {
    has_agent(state) && state < LeaseState::Returning
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [LeaseState; 14] = [
        LeaseState::Moving,
        LeaseState::Leased,
        LeaseState::Prepared,
        LeaseState::Booting,
        LeaseState::Stage1,
        LeaseState::TunnelUp,
        LeaseState::Chained,
        LeaseState::Installing,
        LeaseState::Installed,
        LeaseState::InService,
        LeaseState::Returning,
        LeaseState::Wiping,
        LeaseState::Ended,
        LeaseState::Failed,
    ];

    #[test]
    fn no_state_of_a_lease_lets_the_lender_in_without_consent() {
        for state in STATES {
            let standing = Standing::Lent {
                state,
                consent: false,
            };
            assert!(lender(standing).is_err(), "{state}");
        }
        assert_eq!(
            lender(Standing::Unerased { consent: false }),
            Err(Closed::Remains)
        );
    }

    #[test]
    fn consent_is_good_only_while_the_agent_can_be_there() {
        for state in STATES {
            let granted = lender(Standing::Lent { state, consent: true }).is_ok();
            let gone = matches!(state, LeaseState::Installed | LeaseState::InService) || state.is_final();
            assert_eq!(granted, !gone && state != LeaseState::Moving, "{state}");
        }
        assert_eq!(lender(Standing::Unerased { consent: true }), Ok(()));
        assert_eq!(lender(Standing::Lenders), Ok(()));
    }

    #[test]
    fn a_tenant_holds_a_server_up_only_before_its_own_system_runs() {
        for state in STATES {
            let may = (LeaseState::Leased..=LeaseState::Installing).contains(&state);
            assert_eq!(tenant_may_hold(state), may, "{state}");
        }
    }
}
