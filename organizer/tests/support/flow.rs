//! Whole transfers in one call.

use super::{Enterprise, Running, key};
use leaseboot_po::borrowing::BorrowingId;
use leaseboot_protocol::lease::LeaseState;

/// Borrows a server and plays lender, agent and member until it is in service. `n` counts the leases of this lender from 1; the server's
/// keys are `2 n - 1` and `2 n`.
pub async fn into_service(enterprise: &Enterprise, po: &Running, n: u8) -> BorrowingId {
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    serve_lease(enterprise, po, &view.address.to_string(), n).await;
    view.id
}

/// Plays lender, agent and member of a borrowing that began, until it is in service.
pub async fn serve_lease(enterprise: &Enterprise, po: &Running, address: &str, n: u8) {
    let (lender, lease) = (&enterprise.lender, format!("l-{n}"));
    lender.ordered(&format!("boot {lease}")).await;
    lender.moves(&lease, LeaseState::Booting);
    lender.moves(&lease, LeaseState::Stage1);
    lender.agent_key(&lease, key(2 * n - 1));
    lender.moves(&lease, LeaseState::Chained);
    lender.moves(&lease, LeaseState::Installing);
    let server = po.server(address);
    let member = key(2 * n);
    let registered = async { while server.register(member).await.status() != 200 {} };
    tokio::time::timeout(super::PATIENCE, registered).await.unwrap();
    enterprise.peers.shake(member);
    server.joins().await;
    lender.ordered(&format!("in-service {lease}")).await;
}
