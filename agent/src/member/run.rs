//! `agent member run`: the tunnel of the installed system, from boot to shutdown.

use super::read_facts;
use crate::errors::AnyError;
use crate::stage1::dial;
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
        let tunnel = dial(&key, &facts.tunnel).await?;
        println!(
            "the tunnel {} to {} is up",
            facts.tunnel.address, facts.tunnel.gateway_endpoint
        );
        stop.recv().await;
        tunnel.shutdown().await;
        Ok(())
    })
}
