//! The enterprise's gateway: WireGuard peers, and the service that they reach inside the tunnel.
//!
//! | module | does |
//! |---|---|
//! | [`service`] | answers servers by the rules of `leaseboot_protocol::gateway` |
//! | [`listener`] | bounds the connections that it answers on |
//! | this one | the peers, and whose key is whose |

pub mod listener;
mod rescue;
pub mod service;

use crate::borrowing::BorrowingId;
use crate::borrowing::machine::Peer;
use crate::config::{GatewayConfig, SealedError, read_sealed};
use crate::error_chain;
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_tunnel::{InterfaceSettings, PeerSettings, Plane, PrivateKey, PrivateKeyError, TunnelError};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// What the drivers need of WireGuard.
pub trait Peers: Send + Sync + 'static {
    /// Lets a peer in, or changes whether `address` belongs to it; the address moves here from whoever had it.
    fn let_in(&self, peer: Peer, address: IpAddr) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Forgets a peer at once.
    fn drop_out(&self, key: &WireguardPublicKey);

    /// Whether a session was agreed with the peer since it was let in.
    fn has_shaken_hands(&self, key: &WireguardPublicKey) -> bool;
}

impl Peers for Plane {
    async fn let_in(&self, peer: Peer, address: IpAddr) -> Result<(), TunnelError> {
        let addresses = peer.has_address.then(|| IpNet::from(address));
        self.set_peer(PeerSettings {
            public_key: peer.key,
            endpoint: None,
            allowed_ips: addresses.into_iter().collect(),
            keepalive_s: None,
        })
        .await
    }

    fn drop_out(&self, key: &WireguardPublicKey) {
        // Only a device that is gone refuses, and then nobody is in.
        if let Err(error) = self.remove_peer(key) {
            tracing::error!(%key, error = error_chain(&error), "a peer cannot be dropped");
        }
    }

    fn has_shaken_hands(&self, key: &WireguardPublicKey) -> bool {
        let status = self.status().unwrap_or_else(|error| {
            tracing::error!(error = error_chain(&error), "the peers cannot be looked at");
            Vec::new()
        });
        status
            .iter()
            .any(|peer| peer.public_key == *key && peer.last_handshake.is_some())
    }
}

/// Whose key is whose, over all borrowings: letting a key in for a second borrowing would take the first one's peer over.
#[derive(Default)]
pub struct KeyClaims {
    owners: Mutex<HashMap<WireguardPublicKey, Option<BorrowingId>>>,
}

impl KeyClaims {
    /// No claims but the gateway's own key.
    pub fn new(gateway: WireguardPublicKey) -> Self {
        Self {
            owners: Mutex::new(HashMap::from([(gateway, None)])),
        }
    }

    /// Takes `key` for a borrowing, unless somebody else has it.
    pub fn claim(&self, key: WireguardPublicKey, id: &BorrowingId) -> bool {
        let mut owners = self.owners();
        owners.entry(key).or_insert_with(|| Some(id.clone())).as_ref() == Some(id)
    }

    /// Whether `key` is the borrowing's or nobody's.
    pub fn is_free_for(&self, key: WireguardPublicKey, id: &BorrowingId) -> bool {
        self.owners()
            .get(&key)
            .is_none_or(|owner| owner.as_ref() == Some(id))
    }

    /// Gives up all of the borrowing's keys but `keys`.
    pub fn keep_only(&self, keys: &[WireguardPublicKey], id: &BorrowingId) {
        self.owners()
            .retain(|key, owner| owner.as_ref() != Some(id) || keys.contains(key));
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<WireguardPublicKey, Option<BorrowingId>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateway cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The key's file cannot be used.
    #[error("the gateway's private key cannot be used")]
    KeyFile(#[source] SealedError),
    /// The key's file holds no key.
    #[error("{} does not hold the gateway's private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PrivateKeyError,
    },
    /// WireGuard cannot be started.
    #[error("cannot start the gateway's tunnel")]
    Tunnel(#[source] TunnelError),
    /// The kernel does not forward.
    #[error(
        "cannot switch IP forwarding on in {FORWARDING}: run as root, or set net.ipv4.ip_forward=1 and restart"
    )]
    Forwarding(#[source] io::Error),
}

/// Reads the gateway's private key.
///
/// # Errors
/// [`GatewayError::KeyFile`] and [`GatewayError::Key`].
pub fn read_key(path: &Path) -> Result<PrivateKey, GatewayError> {
    let text = read_sealed(path).map_err(GatewayError::KeyFile)?;
    PrivateKey::from_base64(text.expose()).map_err(|source| GatewayError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Starts WireGuard on the endpoint's port, in the kernel or in this process as `config` says, and lets the kernel forward between tunnel and enterprise.
///
/// # Errors
/// [`GatewayError::Tunnel`] and [`GatewayError::Forwarding`].
pub async fn start(config: &GatewayConfig, private_key: PrivateKey) -> Result<Plane, GatewayError> {
    let settings = InterfaceSettings {
        name: config.interface.clone(),
        private_key,
        listen: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.endpoint.port()))),
        addresses: vec![config.tunnel.into()],
        mtu: config.mtu,
    };
    let tunnel = Plane::start(settings, config.plane)
        .await
        .map_err(GatewayError::Tunnel)?;
    tracing::info!(plane = %tunnel, interface = config.interface, "WireGuard's packets are carried");
    // A container may give the value and not the right to write it.
    let forwards = tokio::fs::read(FORWARDING)
        .await
        .is_ok_and(|value| value.starts_with(b"1"));
    if !forwards {
        let done = tokio::fs::write(FORWARDING, "1").await;
        done.map_err(GatewayError::Forwarding)?;
    }
    Ok(tunnel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_owner() {
        let [gateway, key] = [WireguardPublicKey([1; 32]), WireguardPublicKey([2; 32])];
        let [a, b] = ["a", "b"].map(BorrowingId::from_text);
        let claims = KeyClaims::new(gateway);
        assert!(claims.claim(key, &a) && claims.claim(key, &a));
        assert!(!claims.claim(key, &b) && !claims.is_free_for(key, &b));
        assert!(!claims.claim(gateway, &a) && !claims.is_free_for(gateway, &a));
        claims.keep_only(&[], &a);
        assert!(claims.claim(key, &b));
        claims.keep_only(&[], &b);
        assert!(!claims.is_free_for(gateway, &b));
    }
}
