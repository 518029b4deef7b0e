//! WireGuard for both ends of a lending: the lent server (stage 1, stage 2, member) and the enterprise's gateway.
//!
//! ```text
//!           TUN device                       UDP socket
//!               │  packets, joined                │  datagrams, many at once
//!               ▼                                 ▼
//!   worker ─► Router::carry_out         Router::carry_in           Router::tick  (every 250 ms)
//!               │                                 │                      │
//!               └──────► Datagrams, Packets ◄─────┴──────────────────────┘
//! ```
//!
//! [`router`] is pure: packets, datagrams and ticks go in, packets and datagrams come out. It owns what boringtun leaves to its
//! caller: which peer a packet belongs to, AllowedIPs in both directions, roaming endpoints, limits of handshakes and messages, and life
//! after an expired connection. [`Tunnel`] is the thin driver over a TUN device, UDP sockets and [`netlink`].
//! [`KernelTunnel`] is the same for a host whose kernel has WireGuard, which then carries the packets itself.
//!
//! | module | does |
//! |---|---|
//! | [`router`], [`allowed_ips`] | which packet goes to whom, encrypted or decrypted |
//! | `offload` | splits and joins segments of TCP, as a network card would |
//! | [`datagrams`], [`packets`] | the buffers in which all of it lies |
//! | `batch`, `device` | the system calls |
//! | `worker`, `tunnel` | the threads, and their owner |
//! | [`kernel`] | the kernel's own WireGuard, by netlink |
//! | [`userspace`] | the tunnel without a device, for kernels that have none |
//! | `plane` | whichever of the two there is |

pub mod allowed_ips;
mod batch;
pub mod datagrams;
mod device;
pub mod kernel;
mod key;
pub mod netlink;
mod offload;
pub mod packets;
mod plane;
pub mod router;
mod tunnel;
pub mod userspace;
mod worker;

pub use kernel::{KernelError, KernelTunnel};
pub use key::{PrivateKey, PrivateKeyError};
pub use plane::{Plane, PlaneChoice};
pub use tunnel::{InterfaceSettings, PeerSettings, PeerStatus, Shape, Tunnel, TunnelError};
