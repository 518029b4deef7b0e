//! `agent member run`: the tunnel of the installed system, from boot to shutdown.

use super::read_facts;
use crate::errors::{AnyError, chain};
use crate::network::Wire;
use crate::path_mtu;
use crate::plane::Plane;
use leaseboot_protocol::stage2::MemberFacts;
use leaseboot_tunnel::PrivateKey;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Carries the tunnel until SIGTERM.
pub(crate) fn main(facts: &Path) -> Result<(), AnyError> {
    let facts = read_facts(facts)?;
    let key = PrivateKey::from_base64(facts.private_key.expose())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        if facts.joins_the_wire {
            join_the_wire(&facts).await?;
        } else {
            close_the_wire(&facts).await;
        }
        let tunnel = Plane::by_tun(&key, &facts.tunnel).await?;
        println!(
            "the tunnel {} to {} is up",
            facts.tunnel.address, facts.tunnel.gateway_endpoint
        );
        // Goal: the way to the gateway is looked at until the machine goes down. A search that is dropped has changed nothing.
        tokio::select! {
            _ = stop.recv() => {}
            never = path_mtu::driver::keep(&tunnel, &facts.tunnel, facts.tunnel.mtu) => match never {},
        }
        drop(tunnel);
        Ok(())
    })
}

/// Nobody else does it in a written image. systemd starts the tunnel anew when it fails: the cable may come later.
async fn join_the_wire(facts: &MemberFacts) -> Result<(), AnyError> {
    let address = facts.address.clone();
    let address = address.ok_or("the member's facts do not say where on the lender's wire it stands")?;
    let on_the_wire = address.address;
    Wire::join_as_member(address, facts.tunnel.gateway_endpoint.ip()).await?;
    println!("the lender's wire has {on_the_wire}, and is closed to other tenants' servers");
    Ok(())
}

/// A member that cannot do it is still a member: the enterprise may have taken the wire into its own hands.
async fn close_the_wire(facts: &MemberFacts) {
    let Some(address) = facts.address.clone() else {
        return;
    };
    let closed = Wire::of_member(address, facts.tunnel.gateway_endpoint.ip()).await;
    match closed {
        Ok(()) => println!("the lender's wire is closed to other tenants' servers"),
        Err(error) => eprintln!("the lender's wire stays open: {}", chain(&error).join(": ")),
    }
}
