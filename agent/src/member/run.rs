//! `agent member run`: the tunnel of the installed system, from boot to shutdown.

use crate::backoff::Backoff;
use crate::errors::{AnyError, chain};
use crate::gateway::Gateway;
use crate::stage1::dial;
use leaseboot_protocol::gateway::MemberHello;
use leaseboot_protocol::stage2::MemberFacts;
use leaseboot_tunnel::PrivateKey;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Carries the tunnel until SIGTERM.
pub(crate) fn main(facts: &Path) -> Result<(), AnyError> {
    let bytes = std::fs::read(facts).map_err(|error| format!("cannot read {}: {error}", facts.display()))?;
    let facts: MemberFacts = serde_json::from_slice(&bytes)?;
    let key = PrivateKey::from_base64(facts.private_key.expose())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        let tunnel = dial(&key, &facts.tunnel).await?;
        println!(
            "the tunnel {} to {} is up",
            facts.tunnel.address, facts.tunnel.gateway_endpoint
        );
        // Goal: carry until told to stop. The announcement may be dropped at any point: the next boot repeats it.
        tokio::select! {
            _ = stop.recv() => {}
            () = announce_and_stay(Gateway::new(facts.tunnel.gateway_service)) => {}
        }
        tunnel.shutdown().await;
        Ok(())
    })
}

/// Tells the PO that the installed system is there, however long that takes, and then waits.
async fn announce_and_stay(gateway: Gateway) {
    let hello = MemberHello {
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Err(error) = gateway.member_hello(&hello).await {
        eprintln!("{}; trying again", chain(&error).join(": "));
        backoff.wait().await;
    }
    println!("the enterprise knows that this server is in service");
    std::future::pending().await
}
