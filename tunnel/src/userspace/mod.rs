//! The tunnel without a device: WireGuard's datagrams on one side, TCP connections and UDP flows of this process on the other. It needs nothing of
//! the kernel but UDP, so it is the plane for kernels that have neither `wireguard` nor `tun`.
//!
//! | module | does |
//! |---|---|
//! | `stack`, `wire` | TCP and UDP over packets, sans-IO, by smoltcp |
//! | `stream` | connections and flows for tokio's programs |
//! | `driver` | the loop between socket, [`crate::router`] and stack |
//! | [`names`] | questions to name servers and their answers |
//!
//! It is IPv4 inside, as installers' networks are; an inner address of IPv6 is refused by name.

mod driver;
pub mod names;
mod stack;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use crate::router::{PeerSettings, PeerStatus, Router};
use crate::tunnel::{InterfaceSettings, TunnelError};
use driver::Driver;
use ipnet::IpNet;
use stack::Stack;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
pub use stream::{Flow, Stream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What streams and driver both have.
struct Shared {
    stack: Mutex<Stack>,
    /// The driver has something to do.
    work: Notify,
}

impl Shared {
    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running tunnel whose connections begin in this process. Dropping it stops it.
pub struct UserTunnel {
    dialler: Dialler,
    router: Arc<Router>,
    driver: JoinHandle<()>,
}

/// Opens connections through a [`UserTunnel`]; those outlive the tunnel as silence.
#[derive(Clone)]
pub struct Dialler {
    shared: Arc<Shared>,
}

impl UserTunnel {
    /// Opens the socket and begins to carry packets; must be called inside a tokio runtime. The interface's name is not used: there is none.
    ///
    /// # Errors
    /// [`TunnelError::Bind`], [`TunnelError::Inner`].
    pub fn start(settings: &InterfaceSettings) -> Result<Self, TunnelError> {
        let Some(IpNet::V4(address)) = settings.addresses.first() else {
            return Err(TunnelError::Inner {
                addresses: settings.addresses.clone(),
            });
        };
        let outside = settings
            .listen
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let failed = |source| TunnelError::Bind {
            address: outside,
            source,
        };
        let socket = UdpSocket::bind(outside).map_err(failed)?;
        let stack = Stack::new(*address, settings.mtu, seed(), Instant::now());
        let shared = Arc::new(Shared {
            stack: Mutex::new(stack),
            work: Notify::new(),
        });
        let router = Arc::new(Router::new(&settings.private_key));
        let driver = Driver::new(Arc::clone(&shared), Arc::clone(&router), socket).map_err(failed)?;
        Ok(Self {
            dialler: Dialler { shared },
            router,
            driver: tokio::spawn(driver.run()),
        })
    }

    /// Adds a peer or changes its settings.
    pub fn set_peer(&self, peer: &PeerSettings) {
        self.router.set_peer(peer);
    }

    /// All peers as they stand, in no particular order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.router.status()
    }

    /// Sets the largest inner packet, in bytes.
    pub fn set_mtu(&self, mtu: u16) {
        self.dialler.shared.stack().set_mtu(mtu, seed());
    }

    /// Opens connections for others.
    pub fn dialler(&self) -> Dialler {
        self.dialler.clone()
    }
}

impl Drop for UserTunnel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialler {
    /// Connects to an address behind the tunnel. There is no deadline but TCP's own: the caller sets one.
    ///
    /// # Errors
    /// Refused, silent for two minutes, or too many connections at once.
    pub async fn connect(&self, to: SocketAddrV4) -> io::Result<Stream> {
        Stream::connect(&self.shared, to).await
    }

    /// Opens a flow of UDP to an address behind the tunnel.
    ///
    /// # Errors
    /// Too many connections and flows at once.
    pub fn flow(&self, to: SocketAddrV4) -> io::Result<Flow> {
        Flow::open(&self.shared, to)
    }
}

fn seed() -> u64 {
    // Without random numbers there is no private key either: this cannot be reached then.
    getrandom::u64().unwrap_or_default()
}
