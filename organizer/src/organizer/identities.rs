//! What the service inside the tunnel asks about whoever speaks from an inner address.

use super::Organizer;
use crate::borrowing::driver::Denied;
use crate::borrowing::machine::Event;
use crate::gateway::Peers;
use crate::gateway::service::{Identities, Tenant};
use crate::now;
use leaseboot_console::Stream;
use leaseboot_protocol::boot_log::LogLines;
use leaseboot_protocol::console::CallId;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::rescue::RescueWord;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl<P: Peers> Identities for Organizer<P> {
    fn tenant(&self, address: IpAddr) -> Option<Tenant> {
        let live = self.live();
        let handle = live.get(&address)?;
        let state = handle.snapshot.borrow().state.clone();
        Some(Tenant {
            id: handle.id.clone(),
            order: Arc::clone(&handle.order),
            state,
        })
    }

    fn mirrors(&self) -> Vec<SocketAddr> {
        self.gateway.mirrors.clone()
    }

    async fn unseal(&self, address: IpAddr) -> Result<(), Denied> {
        self.input(address, Event::Unsealing).await
    }

    async fn log(&self, address: IpAddr, lines: &LogLines) -> Result<(), Denied> {
        let tenant = self.tenant(address).ok_or(Denied::NotNow)?;
        let kept = self
            .surroundings
            .store
            .keep_boot_log(&tenant.id, lines, now())
            .await;
        kept.map_err(|error| {
            tracing::error!(borrowing = %tenant.id, error = crate::error_chain(&error), "a server's log is not kept");
            Denied::Store
        })
    }

    async fn rescue(&self, address: IpAddr) -> Result<RescueWord, Denied> {
        match self.word_for(address).await {
            Ok(word) => word.ok_or(Denied::NotNow),
            Err(error) => {
                tracing::error!(%address, error = crate::error_chain(&error), "a server's question about rescue mode is not answered");
                Err(Denied::Store)
            }
        }
    }

    fn console(&self, address: IpAddr, call: &CallId, stream: Box<dyn Stream>) {
        self.console_answered(address, call, stream);
    }

    async fn gather(&self, address: IpAddr) -> Result<(), Denied> {
        self.input(address, Event::Gathering).await
    }

    async fn register(&self, address: IpAddr, key: WireguardPublicKey) -> Result<(), Denied> {
        self.input(address, Event::MemberKey(key)).await
    }

    async fn greet(&self, address: IpAddr) -> Result<(), Denied> {
        self.input(address, Event::MemberHello).await
    }
}
