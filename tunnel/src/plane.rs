//! Either data plane behind one face: the kernel's, where the host has it, else ours.
//!
//! An owner that only lets peers in and out need not know which. What differs is told where it differs: the kernel counts bytes outside, ours inside; the kernel receives on all addresses.

use crate::kernel::{self, KernelError, KernelTunnel};
use crate::router::{PeerSettings, PeerStatus};
use crate::tunnel::{InterfaceSettings, Tunnel, TunnelError};
use leaseboot_protocol::network::WireguardPublicKey;
use std::fmt;

/// Who shall carry the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaneChoice {
    /// The kernel where it has WireGuard, else user space.
    #[default]
    Auto,
    /// The kernel, or nobody.
    Kernel,
    /// User space, even where the kernel could.
    User,
}

/// A running interface of either kind.
pub enum Plane {
    /// The kernel carries the packets.
    Kernel(KernelTunnel),
    /// This process does.
    User(Tunnel),
}

impl Plane {
    /// Creates the device, addresses it and brings it up.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left behind. That the kernel has no WireGuard is one only when the kernel was asked for by name.
    pub async fn start(settings: InterfaceSettings, choice: PlaneChoice) -> Result<Self, TunnelError> {
        if choice == PlaneChoice::User {
            // An earlier process may have used the kernel and been killed.
            kernel::remove_leftover(&settings).await?;
            return Tunnel::start(settings).await.map(Self::User);
        }
        match KernelTunnel::start(settings.clone()).await {
            Ok(tunnel) => Ok(Self::Kernel(tunnel)),
            Err(KernelError::Absent) if choice == PlaneChoice::Auto => {
                Tunnel::start(settings).await.map(Self::User)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a peer or changes its settings, and routes its AllowedIPs to the device. AllowedIPs move here from whoever had them.
    ///
    /// # Errors
    /// [`TunnelError`]; when a route cannot be made, the peer is set nevertheless.
    pub async fn set_peer(&self, peer: PeerSettings) -> Result<(), TunnelError> {
        match self {
            Self::Kernel(tunnel) => Ok(tunnel.set_peer(&peer).await?),
            Self::User(tunnel) => tunnel.set_peer(peer).await,
        }
    }

    /// Forgets a peer and its sessions at once; one that is not there is no error.
    ///
    /// # Errors
    /// [`TunnelError::Kernel`], when the kernel's device is gone.
    pub fn remove_peer(&self, key: &WireguardPublicKey) -> Result<(), TunnelError> {
        match self {
            Self::Kernel(tunnel) => Ok(tunnel.remove_peer(key)?),
            Self::User(tunnel) => {
                tunnel.remove_peer(key);
                Ok(())
            }
        }
    }

    /// All peers as they stand, in no particular order.
    ///
    /// # Errors
    /// [`TunnelError::Kernel`], when the kernel's device is gone.
    pub fn status(&self) -> Result<Vec<PeerStatus>, TunnelError> {
        match self {
            Self::Kernel(tunnel) => Ok(tunnel.status()?),
            Self::User(tunnel) => Ok(tunnel.status()),
        }
    }

    /// Sets the largest inner packet, in bytes.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn set_mtu(&self, mtu: u16) -> Result<(), TunnelError> {
        match self {
            Self::Kernel(tunnel) => Ok(tunnel.set_mtu(mtu).await?),
            Self::User(tunnel) => tunnel.set_mtu(mtu).await,
        }
    }
}

/// Who carries the packets, for people.
impl fmt::Display for Plane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kernel(_) => "kernel",
            Self::User(_) => "user",
        })
    }
}
