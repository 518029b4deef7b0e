//! The service as the rest of the LM sees it: settings, names, and a task that stops when it is told to. The work is done by a thread, see [`Engine`].

use super::engine::{self, Engine, Sockets, Wake};
use super::sessions::Sessions;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Where clients send their requests.
pub const SERVER_PORT: u16 = 69;
/// Where the files come from: names, never paths into a file system.
pub trait TftpNames: Send + Sync + 'static {
    /// The content under exactly this name, which has no slash in front; `None` when there is nothing.
    fn open<'a>(&'a self, name: &'a str, from: IpAddr) -> BoxFuture<'a, Option<Bytes>>;
}

/// What the service works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    /// The LM's address on the lender's wire.
    pub address: IpAddr,
    /// The port: [`SERVER_PORT`], or 0 for any in tests.
    pub port: u16,
    /// Requests from elsewhere are not answered, so that nobody can aim the answers at strangers.
    pub clients: Vec<IpNet>,
    /// The largest IP packet that the wire carries.
    pub mtu: u16,
}

/// The header of IPv6 is longer than that of IPv4 by so many bytes.
const LONGER_HEADER: u16 = 20;

impl TftpSettings {
    /// The largest packet, for a reckoning with the header of IPv4.
    pub(super) fn negotiated_mtu(&self) -> u16 {
        match self.address {
            IpAddr::V4(_) => self.mtu,
            IpAddr::V6(_) => self.mtu.saturating_sub(LONGER_HEADER),
        }
    }
}

/// The service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The port cannot be had.
    #[error("cannot take {address} for TFTP: stop the other TFTP server on it, and run as root")]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The socket broke.
    #[error("cannot receive TFTP requests on {address}")]
    Receive {
        /// Address and port.
        address: SocketAddr,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Bound TFTP sockets that nobody reads yet.
#[derive(Debug)]
pub struct TftpService {
    sockets: Sockets,
    address: SocketAddr,
    settings: TftpSettings,
}

impl TftpService {
    /// Takes the port.
    ///
    /// # Errors
    /// [`TftpError::Bind`].
    pub fn bind(settings: TftpSettings) -> Result<Self, TftpError> {
        let open = |port| {
            let address = SocketAddr::new(settings.address, port);
            let failed = move |source| TftpError::Bind { address, source };
            engine::open(address).map_err(failed)
        };
        let requests = open(settings.port)?;
        let address = requests.local_addr().map_err(|source| TftpError::Bind {
            address: SocketAddr::from((settings.address, settings.port)),
            source,
        })?;
        let sockets = Sockets {
            requests,
            lanes: [open(0)?, open(0)?, open(0)?, open(0)?],
        };
        Ok(Self {
            sockets,
            address,
            settings,
        })
    }

    /// Address and port that were taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; transfers that are under way end then. Dropping it has the same effect.
    ///
    /// # Errors
    /// [`TftpError::Receive`] when a socket breaks.
    pub async fn run(self, names: Arc<dyn TftpNames>, stop: CancellationToken) -> Result<(), TftpError> {
        let address = self.address;
        let failed = |source| TftpError::Receive { address, source };
        let wake = Arc::new(Wake::new().map_err(failed)?);
        let sessions = Sessions::new(self.settings, Instant::now());
        let engine = Engine::new(self.sockets, sessions, names, wake.clone(), Handle::current());
        let stopper = Stopper(wake);
        let mut thread = tokio::task::spawn_blocking(move || engine.run());
        // Goal: the thread's end, which is asked for once. The handle can be polled again after the other branch.
        let ended = tokio::select! {
            ended = &mut thread => ended,
            () = stop.cancelled() => {
                drop(stopper);
                thread.await
            }
        };
        ended.map_err(std::io::Error::other).flatten().map_err(failed)
    }
}

/// Stops the thread when it is dropped.
struct Stopper(Arc<Wake>);

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.stop();
    }
}
