//! The sockets around [`Dhcp6`] and the router advertisements: receive, ask the directory, answer.

use super::advertisement::{Advertiser, INTERVAL};
use super::answer::{Dhcp6, Known};
use super::config::Dhcp6Settings;
use super::request::Request;
use crate::boot::BootDirectory;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Where servers listen.
pub const SERVER_PORT: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers`.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// How long the directory may take. Clients ask again after a few seconds.
const DIRECTORY_TIME: Duration = Duration::from_secs(2);
/// No message on Ethernet is longer.
const LONGEST: usize = 9216;
/// Messages that wait here while one is worked on.
const ROOM: usize = 4 << 20;

/// The service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Dhcp6Error {
    /// A socket cannot be had.
    #[error("cannot {attempted} for IPv6 on interface {interface}: {advice}")]
    Socket {
        /// What was attempted.
        attempted: &'static str,
        /// The interface.
        interface: String,
        /// What to do.
        advice: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A socket broke.
    #[error("cannot receive DHCPv6 messages on interface {interface}")]
    Receive {
        /// The interface.
        interface: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Bound sockets that nobody reads yet.
#[derive(Debug)]
pub struct Dhcp6Service {
    socket: UdpSocket,
    advertiser: Option<Advertiser>,
    core: Dhcp6,
}

impl Dhcp6Service {
    /// Takes the port on the interface, and what router advertisements need.
    ///
    /// # Errors
    /// [`Dhcp6Error::Socket`].
    pub fn bind(settings: Dhcp6Settings) -> Result<Self, Dhcp6Error> {
        let name = settings.interface.clone();
        let failed = |attempted, advice| {
            let interface = name.clone();
            move |source: io::Error| Dhcp6Error::Socket {
                attempted,
                interface,
                advice,
                source,
            }
        };
        let index = nix::net::if_::if_nametoindex(name.as_str())
            .map_err(io::Error::from)
            .map_err(failed("find the interface", "`ip link` shows their names"))?;
        let socket = open(&name, index).map_err(failed(
            "take UDP port 547",
            "stop the other DHCPv6 server on it, and run as root",
        ))?;
        let server_id = server_id(&name).map_err(failed("read the hardware address", "see the cause"))?;
        let advertiser = settings
            .config
            .router_advertisements
            .then(|| Advertiser::open(&settings, index))
            .transpose()
            .map_err(failed(
                "open a socket of ICMPv6",
                "run as root, or turn dhcp6.router_advertisements off",
            ))?;
        Ok(Self {
            socket,
            advertiser,
            core: Dhcp6::new(settings, server_id),
        })
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// [`Dhcp6Error::Receive`] when a socket breaks.
    pub async fn run(
        mut self,
        directory: Arc<dyn BootDirectory>,
        stop: CancellationToken,
    ) -> Result<(), Dhcp6Error> {
        let mut buffer = vec![0; LONGEST];
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            // Goal: a message, a solicitation, or the time for an advertisement. Receiving and waiting are cancel-safe.
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = self.socket.recv_from(&mut buffer) => received,
                solicited = solicited(self.advertiser.as_ref()) => {
                    match (&mut self.advertiser, solicited) {
                        (Some(advertiser), Ok(from)) => advertiser.answer(from, Instant::now()),
                        (_, Err(error)) => {
                            tracing::warn!(%error, "IPv6 router solicitations are answered no more");
                            self.advertiser = None;
                        }
                        (None, Ok(_)) => {}
                    }
                    continue;
                }
                _ = interval.tick() => {
                    if let Some(advertiser) = &mut self.advertiser {
                        advertiser.tell_all(Instant::now());
                    }
                    continue;
                }
            };
            match received {
                Ok((length, SocketAddr::V6(from))) => {
                    self.answer(&buffer[..length], from, directory.as_ref()).await;
                }
                Ok(_) => {}
                // ENETDOWN and its like: the interface may come back.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => {}
                Err(source) => {
                    let interface = self.core.settings().interface.clone();
                    return Err(Dhcp6Error::Receive { interface, source });
                }
            }
        }
    }

    async fn answer(&mut self, bytes: &[u8], from: SocketAddrV6, directory: &dyn BootDirectory) {
        let request = match Request::parse(bytes, *from.ip()) {
            Ok(request) => request,
            Err(reason) => {
                tracing::debug!(%reason, %from, "a datagram to the DHCPv6 port was ignored");
                return;
            }
        };
        // Without a word from the directory a server on record could be taken for a stranger.
        let Some(known) = look_up(&request, directory).await else {
            return;
        };
        let reply = match self.core.answer(&request, known.as_ref(), Instant::now()) {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                tracing::debug!(card = ?request.card, kind = ?request.kind, "a DHCPv6 message needs no answer");
                return;
            }
            Err(reason) => {
                tracing::debug!(%reason, %from, "a DHCPv6 message was ignored");
                return;
            }
        };
        let to = SocketAddrV6::new(*from.ip(), reply.port, 0, from.scope_id());
        if let Err(error) = self.socket.try_send_to(&reply.bytes, to.into()) {
            tracing::warn!(%error, %to, "a DHCPv6 answer could not be sent");
        }
        let (card, address) = (Shown(request.card), Shown(reply.address));
        tracing::info!(%card, asked = ?request.kind, client = ?request.client, said = ?reply.kind, %address, %to, "dhcpv6");
    }
}

/// What is on record about the card; `None` when the directory fails or takes too long.
async fn look_up(request: &Request, directory: &dyn BootDirectory) -> Option<Option<Known>> {
    let Some(mac) = request.card else {
        return Some(None);
    };
    match tokio::time::timeout(DIRECTORY_TIME, directory.card(mac)).await {
        Ok(Ok(card)) => Some(card.map(|card| Known {
            address: card.address6,
            choice: card.choice,
        })),
        Ok(Err(error)) => {
            tracing::error!(%mac, error = &error as &dyn std::error::Error, "a DHCPv6 message is left without an answer");
            None
        }
        Err(_) => {
            tracing::error!(%mac, "a DHCPv6 message is left without an answer: the directory takes too long");
            None
        }
    }
}

/// For the log: a value, or a dash.
struct Shown<T>(Option<T>);

impl<T: std::fmt::Display> std::fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

async fn solicited(advertiser: Option<&Advertiser>) -> io::Result<SocketAddr> {
    match advertiser {
        Some(advertiser) => advertiser.solicited().await,
        None => std::future::pending().await,
    }
}

/// Our DUID, a DUID-LL (RFC 8415, section 11.4): the interface's hardware address, so that it needs no place to be kept in.
fn server_id(interface: &str) -> io::Result<Vec<u8>> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let mac: leaseboot_protocol::network::MacAddress = text.trim().parse().map_err(io::Error::other)?;
    Ok([&[0, 3, 0, 1], &mac.0[..]].concat())
}

fn open(interface: &str, index: u32) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(interface))?;
    // Without CAP_NET_ADMIN the system's limit holds.
    if setsockopt(&fd, sockopt::RcvBufForce, &ROOM).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &ROOM)?;
    }
    let any = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0));
    bind(fd.as_raw_fd(), &any)?;
    let socket = std::net::UdpSocket::from(fd);
    socket.join_multicast_v6(&ALL_SERVERS, index)?;
    UdpSocket::from_std(socket)
}
