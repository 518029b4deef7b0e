//! IPv6 on the lender's wire and in the networks behind relays: DHCPv6 (RFC 8415; booting: RFC 5970) and the router advertisements that send hosts to it (RFC 4861).
//!
//! In the shape of [`crate::dhcp`]: [`Request::parse`] turns a datagram into what matters of it, [`Dhcp6::answer`] is the whole of the protocol without a socket or a clock, and
//! [`Dhcp6Service`] is the socket around the two. Leases live in memory, as DHCPv4's do: a client that renews names its address, and has it again after a restart of the LM.
//!
//! The services run where `lm.toml` has a `[dhcp6]` table.

mod advertisement;
mod answer;
mod bootfile;
mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod message;
mod request;
mod service;
#[cfg(test)]
mod tests;

pub use answer::{Dhcp6, Known, Reply};
pub use config::{Dhcp6Config, Dhcp6Problem, Dhcp6Settings, Subnet6Config};
pub use message::{Kind, Status};
pub use request::{Association, Ignored, Relay, Request};
pub use service::{Dhcp6Error, Dhcp6Service, SERVER_PORT};

use leaseboot_protocol::network::MacAddress;
use std::net::Ipv6Addr;
use std::time::Instant;

/// Everything that happens to a datagram between two sockets, in one call: for fuzzing and tests. Never panics, whatever the bytes.
///
/// # Errors
/// [`Ignored`] when the datagram is no message to this server.
pub fn handle_datagram(
    server: &mut Dhcp6,
    datagram: &[u8],
    from: Ipv6Addr,
    directory: impl FnOnce(MacAddress) -> Option<Known>,
    now: Instant,
) -> Result<Option<Reply>, Ignored> {
    let request = Request::parse(datagram, from)?;
    let known = request.card.and_then(directory);
    server.answer(&request, known.as_ref(), now)
}
