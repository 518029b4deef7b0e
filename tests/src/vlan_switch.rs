//! A switch's port with two networks on it: the native one without a tag, and one with a tag.
//!
//! ```text
//!                                  ┌─ without a tag ── the server's TAP device ── br0 ── 10.10.0.1 (LM)
//!   QEMU ── UDP on loopback ── switch
//!                                  └─ tag 20 ───────── `tagged`, 10.30.0.1 (router)
//! ```
//!
//! It runs in user space because not every host's kernel has `8021q` or bridges that filter VLANs. QEMU gives it whole Ethernet frames (`-netdev dgram`), so no
//! kernel of the host ever sees a tag. What carries another tag is dropped, as a switch would.

use crate::namespace::Service;
use crate::network::Network;
use crate::tap::Tap;
use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::UdpSocket;

/// The tag of the servers' network.
pub const TAG: u16 = 20;
/// A server's address in it.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 11);
/// Its router, which leads to the LM and to the gateway.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 1);
/// The length of its prefix.
pub const PREFIX: u8 = 24;
const NETWORK: &str = "10.30.0.0/24";
const PORT: &str = "tagged";

/// Where the switch takes frames from QEMU.
pub(crate) const SWITCH_END: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4020);
/// Where QEMU takes frames from the switch.
pub(crate) const SERVER_END: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4021);

/// IEEE 802.1Q: this value where the frame's type would be, then priority and tag, then the type.
const TAG_PROTOCOL: [u8; 2] = [0x81, 0x00];
const TAG_BITS: u16 = 0x0fff;
/// Two hardware addresses.
const ADDRESSES: usize = 12;
const HEADER: usize = ADDRESSES + 2;
const TAG_LENGTH: usize = 4;
/// More than any frame of the laboratory has.
const LONGEST: usize = 10 << 10;

/// A running switch; it stops when it is dropped.
pub struct VlanSwitch {
    seen: Arc<Seen>,
    _service: Service,
}

/// How many frames came from the server.
#[derive(Default)]
struct Seen {
    native: AtomicU64,
    tagged: AtomicU64,
    foreign: AtomicU64,
}

/// Frames that came from the server, up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Without a tag.
    pub native: u64,
    /// With the tag of the network.
    pub tagged: u64,
    /// With another one.
    pub foreign: u64,
}

impl VlanSwitch {
    /// Starts it between a server's TAP device `native`, which is wired to the LM's bridge, and a network of its own.
    pub(crate) async fn start(network: &Network, native: &str) -> Result<Self> {
        network
            .add_routed_tap(PORT, &format!("{ROUTER}/{PREFIX}"), NETWORK)
            .await?;
        let (native, seen) = (native.to_owned(), Arc::new(Seen::default()));
        let counted = seen.clone();
        let start = move || async move {
            let ports = Ports {
                native: Tap::attach(&native)?,
                tagged: Tap::attach(PORT)?,
                server: UdpSocket::bind(SWITCH_END)
                    .await
                    .context("cannot take the switch's port")?,
            };
            Ok(((), ports.run(counted)))
        };
        let (service, ()) = network.lender.serve("vlan-switch", start).await?;
        Ok(Self {
            seen,
            _service: service,
        })
    }

    /// What came from the server so far.
    pub fn frames(&self) -> Frames {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Frames {
            native: count(&self.seen.native),
            tagged: count(&self.seen.tagged),
            foreign: count(&self.seen.foreign),
        }
    }
}

struct Ports {
    native: Tap,
    tagged: Tap,
    server: UdpSocket,
}

impl Ports {
    /// Both directions of both networks, until dropped.
    async fn run(self, seen: Arc<Seen>) {
        let native = self.to_server(&self.native, None);
        let tagged = self.to_server(&self.tagged, Some(TAG));
        // Goal: none; a direction ends only when its socket breaks. The frame that another one holds is lost then.
        let ended = tokio::select! {
            ended = self.take_from_server(&seen) => ended,
            ended = native => ended,
            ended = tagged => ended,
        };
        if let Err(error) = ended {
            eprintln!("the switch of the tagged network ended: {error}");
        }
    }

    async fn take_from_server(&self, seen: &Seen) -> std::io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let (length, _) = self.server.recv_from(&mut buffer).await?;
            let counter = match Frame::read(&buffer[..length]) {
                Frame::Untagged(frame) => {
                    self.native.send(frame);
                    &seen.native
                }
                Frame::Tagged(TAG, frame) => {
                    self.tagged.send(&frame);
                    &seen.tagged
                }
                Frame::Tagged(..) | Frame::Short => &seen.foreign,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn to_server(&self, from: &Tap, tag: Option<u16>) -> std::io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = from.receive(&mut buffer).await?;
            let frame = &buffer[..length];
            let sent = match tag {
                None => self.server.send_to(frame, SERVER_END).await,
                Some(tag) => self.server.send_to(&with_tag(frame, tag), SERVER_END).await,
            };
            // A server without power hears nothing.
            drop(sent);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Frame<'a> {
    Untagged(&'a [u8]),
    /// The tag, and the frame without it.
    Tagged(u16, Vec<u8>),
    Short,
}

impl<'a> Frame<'a> {
    fn read(frame: &'a [u8]) -> Self {
        let Some((head, rest)) = frame.split_at_checked(ADDRESSES) else {
            return Self::Short;
        };
        match rest {
            [first, second, high, low, inner @ ..] if [*first, *second] == TAG_PROTOCOL => {
                let tag = u16::from_be_bytes([*high, *low]) & TAG_BITS;
                Self::Tagged(tag, [head, inner].concat())
            }
            _ if frame.len() < HEADER => Self::Short,
            _ => Self::Untagged(frame),
        }
    }
}

fn with_tag(frame: &[u8], tag: u16) -> Vec<u8> {
    let (head, rest) = frame.split_at(ADDRESSES.min(frame.len()));
    let mut tagged = Vec::with_capacity(frame.len() + TAG_LENGTH);
    for piece in [head, &TAG_PROTOCOL, &tag.to_be_bytes(), rest] {
        tagged.extend_from_slice(piece);
    }
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_on_and_taken_off() {
        let frame: Vec<u8> = (0..60).collect();
        assert_eq!(Frame::read(&frame), Frame::Untagged(&frame));
        let tagged = with_tag(&frame, TAG);
        assert_eq!((tagged.len(), &tagged[12..16]), (64, &[0x81, 0, 0, 20][..]));
        assert_eq!(Frame::read(&tagged), Frame::Tagged(TAG, frame.clone()));
        // The priority is no part of the tag.
        let mut urgent = tagged;
        urgent[14] |= 0xe0;
        assert_eq!(Frame::read(&urgent), Frame::Tagged(TAG, frame));
        assert_eq!(Frame::read(&[0; 13]), Frame::Short);
    }
}
