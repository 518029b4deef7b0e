//! The driver: a TUN device, UDP sockets and worker threads around one [`Router`].
//!
//! The workers ([`crate::worker`]) end when the [`Tunnel`] is dropped, and the device with them. There is one for each processor, up to [`MOST_WORKERS`]: the kernel gives the datagrams of
//! one peer to one socket (`SO_REUSEPORT`) and the packets of one connection to one queue, so nothing is reordered and peers are worked on at the same time.

use crate::device::{self, Queue};
use crate::kernel::KernelError;
use crate::key::PrivateKey;
use crate::netlink::{Netlink, NetlinkError};
use crate::router::Router;
pub use crate::router::{PeerSettings, PeerStatus};
use crate::worker::{Stop, Worker};
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

const MOST_WORKERS: usize = 8;

/// One WireGuard interface.
#[derive(Clone)]
pub struct InterfaceSettings {
    /// The device's name, at most 15 bytes.
    pub name: String,
    /// This end's key.
    pub private_key: PrivateKey,
    /// Where to receive datagrams; `None` for any free port.
    pub listen: Option<SocketAddr>,
    /// This end's inner addresses with their networks.
    pub addresses: Vec<IpNet>,
    /// Largest inner packet in bytes.
    pub mtu: u16,
}

/// How the packets are carried; what is usual suits all but tests.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Threads.
    pub workers: usize,
    /// Whether the device is asked for offloads, which it may refuse.
    pub offloads: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: processors.min(MOST_WORKERS),
            offloads: true,
        }
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No TUN device.
    #[error("cannot create the TUN device {name}: is the tun module loaded, and are we root?")]
    Device {
        /// The device's name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No UDP socket.
    #[error(
        "cannot receive WireGuard's datagrams on {address}: another program may hold the port (ss -lnup tells which)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The plane without a device cannot have such an address.
    #[error("the tunnel without a device has one inner IPv4 address, and not {}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Inner {
        /// What was asked for.
        addresses: Vec<IpNet>,
    },
    /// No threads.
    #[error("cannot start the tunnel's workers")]
    Workers(#[source] io::Error),
    /// The device could not be configured.
    #[error("cannot configure the tunnel's device")]
    Netlink(#[from] NetlinkError),
    /// The kernel's WireGuard was asked for, and does not do it.
    #[error("the kernel's WireGuard cannot be used")]
    Kernel(#[from] KernelError),
}

/// A running interface.
pub struct Tunnel {
    name: String,
    addresses: Vec<IpNet>,
    router: Arc<Router>,
    netlink: Netlink,
    _workers: Workers,
}

/// The threads. Dropping it ends them and waits for that, a burst of packets at most.
struct Workers {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Tunnel {
    /// Creates the device, addresses it, brings it up and starts to carry packets.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left behind.
    pub async fn start(settings: InterfaceSettings) -> Result<Self, TunnelError> {
        Self::start_in_shape(settings, Shape::default()).await
    }

    /// As [`Tunnel::start`], in a shape other than the usual.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left behind.
    pub async fn start_in_shape(settings: InterfaceSettings, shape: Shape) -> Result<Self, TunnelError> {
        let workers = shape.workers.max(1);
        let address = settings
            .listen
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let sockets = bind(address, workers).map_err(|source| TunnelError::Bind { address, source })?;
        let queues = device::create(&settings.name, workers, shape.offloads).map_err(|source| {
            TunnelError::Device {
                name: settings.name.clone(),
                source,
            }
        })?;
        let netlink = Netlink::open()?;
        for address in &settings.addresses {
            netlink.add_address(&settings.name, *address).await?;
        }
        netlink.set_up(&settings.name, Some(settings.mtu)).await?;
        let router = Arc::new(Router::new(&settings.private_key));
        let workers = Workers::start(&router, queues, sockets).map_err(TunnelError::Workers)?;
        Ok(Self {
            name: settings.name,
            addresses: settings.addresses,
            router,
            netlink,
            _workers: workers,
        })
    }

    /// Adds a peer or changes its settings, and routes its AllowedIPs to the device. AllowedIPs move here from whoever had them.
    ///
    /// # Errors
    /// [`TunnelError::Netlink`] when a route cannot be made; the peer is set nevertheless.
    pub async fn set_peer(&self, peer: PeerSettings) -> Result<(), TunnelError> {
        self.router.set_peer(&peer);
        let connected = |network: &IpNet| self.addresses.iter().any(|ours| ours.trunc().contains(network));
        for network in peer.allowed_ips.iter().filter(|network| !connected(network)) {
            self.netlink.add_route(*network, &self.name, None).await?;
        }
        Ok(())
    }

    /// Forgets a peer and its sessions at once. Routes stay with the device: they lead nowhere.
    pub fn remove_peer(&self, key: &WireguardPublicKey) {
        self.router.remove_peer(key);
    }

    /// All peers as they stand, in no particular order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.router.status()
    }

    /// Sets the largest inner packet, in bytes; TCP's segments follow it at once, in both directions for connections that begin later.
    ///
    /// # Errors
    /// [`TunnelError::Netlink`].
    pub async fn set_mtu(&self, mtu: u16) -> Result<(), TunnelError> {
        Ok(self.netlink.set_up(&self.name, Some(mtu)).await?)
    }

    /// Stops the workers and waits until the device is gone.
    #[expect(
        clippy::unused_async,
        reason = "that dropping is enough is not the callers' concern"
    )]
    pub async fn shutdown(self) {
        drop(self);
    }
}

/// Several sockets on one port, among which the kernel divides the senders.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    // The first is bound alone: another program that has the port, be it one of ours, is found out.
    let first = UdpSocket::bind(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    if count > 1 {
        setsockopt(&sockets[0], sockopt::ReusePort, &true)?;
    }
    while sockets.len() < count {
        sockets.push(bind_beside(address)?);
    }
    Ok(sockets)
}

fn bind_beside(address: SocketAddr) -> io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    use std::os::fd::AsRawFd as _;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

impl Workers {
    fn start(router: &Arc<Router>, queues: Vec<Queue>, sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let mut workers = Self {
            stop: Arc::new(Stop::new()?),
            threads: Vec::new(),
        };
        for (index, (queue, socket)) in queues.into_iter().zip(sockets).enumerate() {
            let worker = Worker::new(
                Arc::clone(router),
                Arc::clone(&workers.stop),
                queue,
                socket,
                index == 0,
            );
            let thread = std::thread::Builder::new()
                .name(format!("tunnel-{index}"))
                .spawn(|| worker.run())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.say();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of the tunnel had panicked");
            }
        }
    }
}
