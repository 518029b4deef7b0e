//! `agent member announce`: runs once the installed system's services are up, and tells the PO that they can be used.

use super::read_facts;
use crate::backoff::Backoff;
use crate::errors::{AnyError, chain};
use crate::gateway::Gateway;
use leaseboot_protocol::gateway::MemberHello;
use std::path::Path;
use std::time::Duration;

/// Says hello through the member's tunnel, however long that takes: the unit's owner decides when to give up.
pub(crate) fn main(facts: &Path) -> Result<(), AnyError> {
    let gateway = Gateway::new(read_facts(facts)?.tunnel.gateway_service);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hello = MemberHello {
        boot_id: boot_id.trim().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        while let Err(error) = gateway.member_hello(&hello).await {
            eprintln!("{}; trying again", chain(&error).join(": "));
            backoff.wait().await;
        }
    });
    println!("the enterprise knows that this server is in service");
    Ok(())
}
