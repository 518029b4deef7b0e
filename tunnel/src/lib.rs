//! WireGuard for both ends of a lending: the lent server (stage 1, stage 2, member) and the enterprise's gateway.
//!
//! ```text
//!           TUN device                     UDP socket
//!               │  packets                     │  datagrams
//!               ▼                              ▼
//!   driver ──► Router::from_device      Router::from_network      Router::tick  (every 250 ms)
//!               │                              │                      │
//!               └──────────────► Vec<Output> ◄─┴──────────────────────┘
//! ```
//!
//! [`router`] is pure: packets, datagrams and ticks go in, packets and datagrams come out. It owns what boringtun leaves to its
//! caller: which peer a packet belongs to, AllowedIPs in both directions, roaming endpoints, the shared handshake limit, and life
//! after an expired connection. [`Tunnel`] is the thin driver over a TUN device, a UDP socket and [`netlink`].

pub mod allowed_ips;
mod device;
mod key;
pub mod netlink;
pub mod router;
mod tunnel;

pub use key::{PrivateKey, PrivateKeyError};
pub use tunnel::{InterfaceSettings, PeerSettings, PeerStatus, Tunnel, TunnelError};
