//! The driver: a TUN device, a UDP socket and a clock around one [`Router`].
//!
//! Three tasks share the router behind a mutex that is held for the cryptography of one packet and never across an await. They
//! end when the [`Tunnel`] is dropped, and the device with them.

use crate::device::Device;
use crate::key::PrivateKey;
use crate::netlink::{Netlink, NetlinkError};
use crate::router::{Output, Router};
pub use crate::router::{PeerSettings, PeerStatus};
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const TICK: Duration = Duration::from_millis(250);
const LARGEST: usize = 65_535;

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
    /// The device could not be configured.
    #[error("cannot configure the tunnel's device")]
    Netlink(#[from] NetlinkError),
}

/// A running interface.
pub struct Tunnel {
    name: String,
    addresses: Vec<IpNet>,
    shared: Arc<Shared>,
    netlink: Netlink,
    tasks: JoinSet<()>,
}

struct Shared {
    router: Mutex<Router>,
    device: Device,
    socket: UdpSocket,
}

impl Tunnel {
    /// Creates the device, addresses it, brings it up and starts to carry packets.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left behind.
    pub async fn start(settings: InterfaceSettings) -> Result<Self, TunnelError> {
        let address = settings
            .listen
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let socket = UdpSocket::bind(address)
            .await
            .map_err(|source| TunnelError::Bind { address, source })?;
        let device = Device::create(&settings.name).map_err(|source| TunnelError::Device {
            name: settings.name.clone(),
            source,
        })?;
        let netlink = Netlink::open()?;
        for address in &settings.addresses {
            netlink.add_address(&settings.name, *address).await?;
        }
        netlink.set_up(&settings.name, Some(settings.mtu)).await?;
        let router = Mutex::new(Router::new(&settings.private_key));
        let shared = Arc::new(Shared {
            router,
            device,
            socket,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).carry_out());
        tasks.spawn(Arc::clone(&shared).carry_in());
        tasks.spawn(Arc::clone(&shared).keep_time());
        Ok(Self {
            name: settings.name,
            addresses: settings.addresses,
            shared,
            netlink,
            tasks,
        })
    }

    /// Adds a peer or changes its settings, and routes its AllowedIPs to the device. AllowedIPs move here from whoever had them.
    ///
    /// # Errors
    /// [`TunnelError::Netlink`] when a route cannot be made; the peer is set nevertheless.
    pub async fn set_peer(&self, peer: PeerSettings) -> Result<(), TunnelError> {
        self.shared.router().set_peer(&peer);
        let connected = |network: &IpNet| self.addresses.iter().any(|ours| ours.trunc().contains(network));
        for network in peer.allowed_ips.iter().filter(|network| !connected(network)) {
            self.netlink.add_route(*network, &self.name, None).await?;
        }
        Ok(())
    }

    /// Forgets a peer and its sessions at once. Routes stay with the device: they lead nowhere.
    pub fn remove_peer(&self, key: &WireguardPublicKey) {
        self.shared.router().remove_peer(key);
    }

    /// All peers as they stand, in no particular order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.shared.router().status()
    }

    /// Stops the tasks and waits until the device is gone.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    fn router(&self) -> MutexGuard<'_, Router> {
        // A panic in another task leaves at worst a session that a new handshake replaces.
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(self: Arc<Self>) {
        let mut buffer = vec![0; LARGEST];
        let mut outputs = Vec::new();
        loop {
            match self.device.read(&mut buffer).await {
                Ok(length) => self.router().from_device(&buffer[..length], &mut outputs),
                Err(error) => return tracing::error!(%error, "the TUN device is gone, the tunnel stops"),
            }
            self.emit(&mut outputs).await;
        }
    }

    async fn carry_in(self: Arc<Self>) {
        let mut buffer = vec![0; LARGEST];
        let mut outputs = Vec::new();
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => self.router().from_network(&buffer[..length], from, &mut outputs),
                // ICMP errors of earlier datagrams surface here; WireGuard's timers answer them.
                Err(error) => tracing::debug!(%error, "receiving a datagram failed"),
            }
            self.emit(&mut outputs).await;
        }
    }

    async fn keep_time(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut outputs = Vec::new();
        loop {
            ticks.tick().await;
            self.router().tick(&mut outputs);
            self.emit(&mut outputs).await;
        }
    }

    /// Sends and delivers. Both may fail for one packet (no route yet, device down): IP allows loss.
    async fn emit(&self, outputs: &mut Vec<Output>) {
        for output in outputs.drain(..) {
            let done = match &output {
                Output::Network { to, datagram } => self.socket.send_to(datagram, to).await,
                Output::Device(packet) => self.device.write(packet).await,
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a packet was lost");
            }
        }
    }
}
