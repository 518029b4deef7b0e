//! Messages that came through a relay (RFC 2131, section 4.1; RFC 3046).
//!
//! A relay hands the messages of a network that the LM does not stand on to the LM's port 67, with its own address in that network in `giaddr`. The answer goes back to it, whatever it is, with the
//! relay's option 82 as it came, because the relay finds its port by it.

use super::request::Request;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where relays listen.
const RELAY_PORT: u16 = 67;
/// Option codes.
const RELAY_AGENT_INFORMATION: u8 = 82;
const END: u8 = 255;

/// Through whom a message came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its address in the client's network.
    pub address: Ipv4Addr,
    /// Option 82 without its code and length, to be handed back.
    pub information: Option<Vec<u8>>,
}

/// Where answers through the relay of this message go.
pub(super) fn destination(request: &Request) -> Option<SocketAddrV4> {
    let relay = request.relay.as_ref()?;
    Some(SocketAddrV4::new(relay.address, RELAY_PORT))
}

/// Hands option 82 back as it came, behind all others, where RFC 3046, section 2.1, wants it. The encoder would put an option that it is given raw
/// in the order of the codes.
pub(super) fn append_information(bytes: &mut Vec<u8>, request: &Request) {
    let information = request
        .relay
        .as_ref()
        .and_then(|relay| relay.information.as_deref());
    let Some((information, length)) = information.and_then(|i| Some((i, u8::try_from(i.len()).ok()?))) else {
        return;
    };
    if bytes.last() == Some(&END) {
        bytes.pop();
    }
    bytes.extend([RELAY_AGENT_INFORMATION, length]);
    bytes.extend_from_slice(information);
    bytes.push(END);
}
