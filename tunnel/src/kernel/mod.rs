//! The kernel's own WireGuard, by generic netlink: where a host has it, packets need not come to us at all.
//!
//! ```text
//! Route::add_wireguard ──► device ◄── key, port ── addresses, MTU, up          [`KernelTunnel::start`]
//!                            ▲
//!                            └── set_peer, remove_peer, status                 one message or several, each answered at once
//! ```
//!
//! [`message`] is pure: what is asked becomes bytes, and the kernel's bytes become peers. `socket` carries both. The kernel answers within the call that asks, so nothing here waits or needs
//! a task.
//!
//! Failure paths: a kernel without WireGuard is told apart from one that refuses ([`KernelError::Absent`]); a device of the wanted name that has our own key was left by a process that was
//! killed, and is removed; any other device of that name is an error. The device is removed when the [`KernelTunnel`] is dropped, unless it is [left](KernelTunnel::leave) to whoever comes after.
//!
//! Why not a crate: those that speak this protocol keep keys in plain strings or arrays that can be printed, and pull in a second stack of netlink beside rtnetlink's.
//!
//! Source: the kernel's `include/uapi/linux/wireguard.h`, netlink(7), `include/uapi/linux/genetlink.h`.

mod attribute;
pub mod message;
mod socket;

use crate::netlink::{Netlink, NetlinkError};
use crate::router::{PeerSettings, PeerStatus};
use crate::tunnel::InterfaceSettings;
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use message::{DeviceChange, DeviceReport, Malformed, PeerChange, PeerReport};
use socket::{Family, Socket};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why the kernel's WireGuard cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel has none.
    #[error("this kernel has no WireGuard: load the module `wireguard`, or carry the packets in user space")]
    Absent,
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// Somebody else's device has the name.
    #[error(
        "there is a device {name} already, and it is not ours: remove it (ip link delete {name}), or choose another name"
    )]
    Taken {
        /// The name.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot {what}")]
    Request {
        /// What was attempted, on what.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer is not what its headers promise.
    #[error("cannot read the kernel's answer to the request to {what}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        #[source]
        source: Malformed,
    },
    /// The kernel's list of peers changed each time that it was read.
    #[error("the peers of {name} change faster than they can be read")]
    Unsteady {
        /// The device.
        name: String,
    },
    /// The device could not be made or configured.
    #[error("cannot configure the kernel's WireGuard device")]
    Netlink(#[from] NetlinkError),
}

/// Whether this kernel has WireGuard; its module is loaded for the question where that is allowed. Needs no rights.
pub fn is_available() -> bool {
    Socket::generic().is_ok_and(|socket| socket.wireguard().is_ok())
}

/// A WireGuard device of the kernel.
pub struct KernelTunnel {
    device: Device,
    addresses: Vec<IpNet>,
    netlink: Netlink,
}

/// A device, which goes with this value.
struct Device {
    name: String,
    index: u32,
    family: Family,
    socket: Socket,
    /// In the network namespace of the device, wherever the thread is that drops it.
    route: Socket,
    is_left: bool,
}

impl KernelTunnel {
    /// Creates the device, gives it its key, port and addresses, and brings it up. Of `settings.listen` only the port counts: the kernel receives on all addresses.
    ///
    /// # Errors
    /// [`KernelError`]; nothing is left behind. [`KernelError::Absent`] when user space has to do it.
    pub async fn start(settings: InterfaceSettings) -> Result<Self, KernelError> {
        let device = Device::create(&settings).await?;
        let change = DeviceChange {
            private_key: Some(&settings.private_key),
            listen_port: settings.listen.map(|address| address.port()),
            replace_peers: true,
            ..DeviceChange::default()
        };
        device.change(&change, &format!("give {} its key and port", device.name))?;
        let netlink = Netlink::open()?;
        for address in &settings.addresses {
            netlink.add_address(&device.name, *address).await?;
        }
        // Here the kernel takes the port.
        netlink.set_up(&device.name, Some(settings.mtu)).await?;
        Ok(Self {
            device,
            addresses: settings.addresses,
            netlink,
        })
    }

    /// Adds a peer or changes its settings, and routes its AllowedIPs to the device. AllowedIPs move here from whoever had them.
    ///
    /// # Errors
    /// [`KernelError::Request`]; [`KernelError::Netlink`] when a route cannot be made, and then the peer is set nevertheless.
    pub async fn set_peer(&self, peer: &PeerSettings) -> Result<(), KernelError> {
        self.set_peers(std::slice::from_ref(peer)).await
    }

    /// As [`KernelTunnel::set_peer`], for any number at once.
    ///
    /// # Errors
    /// As [`KernelTunnel::set_peer`].
    pub async fn set_peers(&self, peers: &[PeerSettings]) -> Result<(), KernelError> {
        let change = DeviceChange {
            peers: peers.iter().map(PeerChange::from).collect(),
            ..DeviceChange::default()
        };
        let device = &self.device;
        device.change(
            &change,
            &format!("let {} peers into {}", peers.len(), device.name),
        )?;
        let connected = |network: &IpNet| self.addresses.iter().any(|ours| ours.trunc().contains(network));
        let networks = peers.iter().flat_map(|peer| &peer.allowed_ips);
        for network in networks.filter(|network| !connected(network)) {
            self.netlink.add_route(*network, &device.name, None).await?;
        }
        Ok(())
    }

    /// Forgets a peer and its sessions at once; one that is not there is no error. Routes stay with the device: they lead nowhere.
    ///
    /// # Errors
    /// [`KernelError::Request`], when the device is gone.
    pub fn remove_peer(&self, key: &WireguardPublicKey) -> Result<(), KernelError> {
        let change = DeviceChange {
            peers: vec![PeerChange::removal(*key)],
            ..DeviceChange::default()
        };
        let device = &self.device;
        device.change(&change, &format!("drop the peer {key} out of {}", device.name))
    }

    /// Marks the datagrams that the device sends, for rules of routing; 0 for no mark.
    ///
    /// # Errors
    /// [`KernelError::Request`].
    pub fn set_mark(&self, mark: u32) -> Result<(), KernelError> {
        let change = DeviceChange {
            mark: Some(mark),
            ..DeviceChange::default()
        };
        let device = &self.device;
        device.change(&change, &format!("mark the datagrams of {}", device.name))
    }

    /// All peers as they stand, in no particular order. The kernel's counters are of bytes outside, with WireGuard's headers and its handshakes.
    ///
    /// # Errors
    /// [`KernelError`], when the device is gone or its peers change all the time.
    pub fn status(&self) -> Result<Vec<PeerStatus>, KernelError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let status = |peer: PeerReport| peer.status(since_1970);
        Ok(self.report()?.peers.into_iter().map(status).collect())
    }

    /// All that the kernel tells of the device.
    ///
    /// # Errors
    /// As [`KernelTunnel::status`].
    pub fn report(&self) -> Result<DeviceReport, KernelError> {
        let Device {
            socket,
            family,
            index,
            name,
            ..
        } = &self.device;
        socket.device(*family, *index, name)
    }

    /// Sets the largest inner packet, in bytes.
    ///
    /// # Errors
    /// [`KernelError::Netlink`].
    pub async fn set_mtu(&self, mtu: u16) -> Result<(), KernelError> {
        Ok(self.netlink.set_up(&self.device.name, Some(mtu)).await?)
    }

    /// Leaves the device to whoever comes after: it goes on without this process.
    pub fn leave(mut self) {
        self.device.is_left = true;
    }
}

impl PeerReport {
    /// `since_1970` is the time now: the kernel tells when it last shook hands.
    fn status(self, since_1970: Duration) -> PeerStatus {
        PeerStatus {
            public_key: self.public_key,
            endpoint: self.endpoint,
            last_handshake: self.last_handshake.map(|then| since_1970.saturating_sub(then)),
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
        }
    }
}

impl Device {
    async fn create(settings: &InterfaceSettings) -> Result<Self, KernelError> {
        let name = settings.name.clone();
        let socket = Socket::generic()?;
        let family = socket.wireguard()?;
        let route = Socket::route()?;
        let netlink = Netlink::open()?;
        if let Some(index) = netlink.find(&name).await?
            && !remove_if_ours(&socket, family, index, settings)?
        {
            return Err(KernelError::Taken { name });
        }
        match netlink.add_wireguard(&name).await {
            Err(NetlinkError::Unsupported { .. }) => return Err(KernelError::Absent),
            done => done?,
        }
        let index = netlink.index(&name).await?;
        Ok(Self {
            name,
            index,
            family,
            socket,
            route,
            is_left: false,
        })
    }

    fn change(&self, change: &DeviceChange<'_>, what: &str) -> Result<(), KernelError> {
        for body in change.messages(self.index) {
            self.socket.tell(self.family, &body, what)?;
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        if let Err(error) = self.route.remove_link(self.index, &self.name) {
            tracing::warn!(name = self.name, %error, "the kernel's WireGuard device stays");
        }
    }
}

/// Removes the device of this name that an earlier process left, if there is one with our key; any other is let be.
///
/// # Errors
/// [`KernelError`], but not for a kernel without WireGuard.
pub(crate) async fn remove_leftover(settings: &InterfaceSettings) -> Result<(), KernelError> {
    let socket = Socket::generic()?;
    let family = match socket.wireguard() {
        Err(KernelError::Absent) => return Ok(()),
        family => family?,
    };
    match Netlink::open()?.find(&settings.name).await? {
        Some(index) => remove_if_ours(&socket, family, index, settings).map(drop),
        None => Ok(()),
    }
}

/// Whether the device was ours, and is removed.
fn remove_if_ours(
    socket: &Socket,
    family: Family,
    index: u32,
    settings: &InterfaceSettings,
) -> Result<bool, KernelError> {
    let name = &settings.name;
    // Another kind of device gives an error here.
    let found = socket.device(family, index, name).ok();
    let is_ours = found.and_then(|device| device.public_key) == Some(settings.private_key.public());
    if is_ours {
        tracing::info!(name, "removing the device that an earlier process left");
        Socket::route()?.remove_link(index, name)?;
    }
    Ok(is_ours)
}
