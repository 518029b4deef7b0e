//! DHCP for the lender's wire and the networks behind relays (RFC 2131, 2132, 3046; PXE: RFC 4578): authoritative, or beside another server as its [`proxy`].
//!
//! [`Request::parse`] turns a datagram into what matters of it, [`Dhcp::answer`] is the whole of the protocol without a socket or a clock, and
//! [`DhcpService`] is the socket around the two. A server on record always gets its fixed address; any other gets one of a small
//! pool so that it can report its hardware.

mod answer;
mod bootfile;
mod config;
mod loader;
mod pool;
pub mod proxy;
mod relay;
mod request;
mod service;
mod solicitation;
#[cfg(test)]
mod tests;

pub use answer::{Dhcp, Reply};
pub(crate) use bootfile::{Shelf, choose as boot_program};
pub use config::{DhcpConfig, DhcpMode, DhcpSettings, DhcpSettingsError, MAX_POOL, PoolConfig, SubnetConfig};
pub use loader::{ArchitectureLoaders, FirstLoader, IpxeChain, LoaderChoice, LoaderRule};
pub(crate) use pool::{Pool, PoolClient};
pub use relay::Relay;
pub use request::{Client, Ignored, Platform, Request};
pub use service::{DhcpError, DhcpService, SERVER_PORT};

use leaseboot_protocol::network::{LenderAddress, MacAddress};
use std::net::Ipv6Addr;
use std::time::Instant;

/// What the directory has on record about a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its fixed place on the lender's wire.
    pub place: LenderAddress,
    /// Its fixed address of IPv6, where the lender wrote one down.
    pub address6: Option<Ipv6Addr>,
    /// Which loaders its server is sent.
    pub choice: LoaderChoice,
}

/// Everything that happens to a datagram between two sockets, in one call: for fuzzing and tests. Never panics, whatever the bytes.
///
/// # Errors
/// [`Ignored`] when the datagram is no message to this server.
pub fn handle_datagram(
    server: &mut Dhcp,
    datagram: &[u8],
    directory: impl FnOnce(MacAddress) -> Option<Card>,
    now: Instant,
) -> Result<Option<Reply>, Ignored> {
    let request = Request::parse(datagram)?;
    let fixed = directory(request.mac);
    Ok(server.answer(&request, fixed.as_ref(), now))
}
