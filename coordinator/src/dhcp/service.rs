//! The socket around [`Dhcp`]: receives, asks the directory, answers.

use super::answer::Dhcp;
use super::config::{DhcpSettings, DhcpSettingsError};
use super::request::Request;
use super::solicitation::Solicitations;
use crate::boot::BootDirectory;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Where servers listen.
pub const SERVER_PORT: u16 = 67;
/// How long the directory may take. Clients ask again after a few seconds.
const DIRECTORY_TIME: Duration = Duration::from_secs(2);

/// The service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// The settings cannot work.
    #[error("the DHCP settings cannot work")]
    Settings(#[from] DhcpSettingsError),
    /// The socket cannot be had.
    #[error("cannot {attempted} for DHCP on interface {interface}: {advice}")]
    Socket {
        /// What was attempted.
        attempted: &'static str,
        /// The interface.
        interface: String,
        /// What to do.
        advice: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The socket broke.
    #[error("cannot receive DHCP messages on interface {interface}")]
    Receive {
        /// The interface.
        interface: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// A bound DHCP socket that nobody reads yet.
#[derive(Debug)]
pub struct DhcpService {
    socket: UdpSocket,
    core: Dhcp,
    solicitations: Option<Solicitations>,
}

impl DhcpService {
    /// Takes port 67 of the interface. Needs the rights to do so (root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW).
    ///
    /// # Errors
    /// [`DhcpError`].
    pub fn bind(settings: DhcpSettings) -> Result<Self, DhcpError> {
        Self::bind_port(settings, SERVER_PORT)
    }

    /// As [`DhcpService::bind`], on another port: for tests.
    ///
    /// # Errors
    /// [`DhcpError`].
    pub fn bind_port(settings: DhcpSettings, port: u16) -> Result<Self, DhcpError> {
        settings.check()?;
        let socket = open(&settings.interface, port)?;
        let solicitations = Some(&settings.interface)
            .filter(|_| settings.config.answer_router_solicitations)
            .and_then(|interface| match Solicitations::open(interface) {
                Ok(solicitations) => Some(solicitations),
                Err(error) => {
                    tracing::info!(interface, %error, "IPv6 router solicitations are not answered; iPXE will wait for a router");
                    None
                }
            });
        Ok(Self {
            socket,
            core: Dhcp::new(settings),
            solicitations,
        })
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// [`DhcpError::Receive`] when the socket breaks.
    pub async fn run(
        mut self,
        directory: Arc<dyn BootDirectory>,
        stop: CancellationToken,
    ) -> Result<(), DhcpError> {
        let mut buffer = vec![0; 4096];
        loop {
            // Goal: the next datagram. All three can be dropped: what was not returned stays in its socket.
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                answered = answer_solicitation(self.solicitations.as_ref()) => {
                    if let Err(error) = answered {
                        tracing::warn!(%error, "IPv6 router solicitations are answered no more");
                        self.solicitations = None;
                    }
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            let length = match received {
                Ok((length, _)) => length,
                // ENETDOWN and its like: the interface may come back.
                Err(error) if error.kind() == std::io::ErrorKind::NetworkDown => continue,
                Err(source) => {
                    let interface = self.core.settings().interface.clone();
                    return Err(DhcpError::Receive { interface, source });
                }
            };
            self.handle(&buffer[..length], directory.as_ref()).await;
        }
    }

    async fn handle(&mut self, datagram: &[u8], directory: &dyn BootDirectory) {
        let request = match Request::parse(datagram) {
            Ok(request) => request,
            Err(reason) => {
                tracing::debug!(%reason, "a datagram to the DHCP port was ignored");
                return;
            }
        };
        let fixed = match tokio::time::timeout(DIRECTORY_TIME, directory.address(request.mac)).await {
            Ok(Ok(fixed)) => fixed,
            Ok(Err(error)) => {
                tracing::error!(mac = %request.mac, error = &error as &dyn std::error::Error, "a DHCP message is left without an answer");
                return;
            }
            Err(_) => {
                tracing::error!(mac = %request.mac, "a DHCP message is left without an answer: the directory takes too long");
                return;
            }
        };
        let Some(reply) = self.core.answer(&request, fixed.as_ref(), Instant::now()) else {
            tracing::debug!(mac = %request.mac, kind = ?request.kind, "a DHCP message needs no answer");
            return;
        };
        match self.socket.send_to(&reply.bytes, reply.to).await {
            Ok(_) => {
                tracing::info!(mac = %request.mac, asked = ?request.kind, client = ?request.client, said = ?reply.kind, address = %reply.address, "dhcp");
            }
            Err(error) => {
                tracing::warn!(mac = %request.mac, to = %reply.to, %error, "a DHCP answer could not be sent");
            }
        }
    }
}

async fn answer_solicitation(solicitations: Option<&Solicitations>) -> std::io::Result<()> {
    match solicitations {
        Some(solicitations) => solicitations.answer_one().await,
        None => std::future::pending().await,
    }
}

fn open(interface: &str, port: u16) -> Result<UdpSocket, DhcpError> {
    let failed = |attempted, advice| {
        move |source: std::io::Error| DhcpError::Socket {
            attempted,
            interface: interface.to_owned(),
            advice,
            source,
        }
    };
    let errno = std::io::Error::from;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)
        .map_err(errno)
        .map_err(failed("make a socket", "see the cause"))?;
    // Without SO_REUSEADDR, so that a second server on the interface is refused.
    setsockopt(&fd, sockopt::Broadcast, &true)
        .map_err(errno)
        .map_err(failed("allow broadcasts", "see the cause"))?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(interface))
        .map_err(errno)
        .map_err(failed(
            "bind to the interface",
            "name an interface that exists, and run as root",
        ))?;
    let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    bind(fd.as_raw_fd(), &any).map_err(errno).map_err(failed(
        "take the port",
        "stop the other DHCP server on it, and run as root",
    ))?;
    UdpSocket::from_std(fd.into()).map_err(failed("use the socket", "see the cause"))
}
