//! The sockets around [`Dhcp`]: receive in batches, ask the directory, answer in batches.
//!
//! The directory may have to ask the store, so what it said about a card is remembered for [`MEMORY`]: a client's REQUEST follows its DISCOVER at once, and a storm
//! asks the same again and again.

use super::Card;
use super::answer::{Dhcp, Reply};
use super::config::{DhcpMode, DhcpSettings, DhcpSettingsError};
use super::proxy::BOOT_SERVER_PORT;
use super::request::Request;
use super::solicitation::Solicitations;
use crate::boot::BootDirectory;
use crate::datagrams::{BATCH, Inbox, Outbox};
use leaseboot_protocol::network::MacAddress;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Where servers listen.
pub const SERVER_PORT: u16 = 67;
/// How long the directory may take. Clients ask again after a few seconds.
const DIRECTORY_TIME: Duration = Duration::from_secs(2);
/// How long the directory's word about a card is believed: shorter than any operator's change and next boot.
const MEMORY: Duration = Duration::from_secs(3);
/// Cards that are remembered; strangers can invent more.
const MOST_CARDS: usize = 8192;
/// No DHCP message on Ethernet is longer.
const LONGEST: usize = 1500;

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
        source: io::Error,
    },
    /// The socket broke.
    #[error("cannot receive DHCP messages on interface {interface}")]
    Receive {
        /// The interface.
        interface: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Bound DHCP sockets that nobody reads yet.
#[derive(Debug)]
pub struct DhcpService {
    socket: UdpSocket,
    /// Port 4011, in proxy mode.
    boot_server: Option<UdpSocket>,
    core: Dhcp,
    cards: Cards,
    solicitations: Option<Solicitations>,
}

/// What the directory said about cards a moment ago.
#[derive(Debug, Default)]
struct Cards {
    known: HashMap<MacAddress, (Instant, Option<Card>)>,
}

impl Cards {
    fn get(&self, mac: MacAddress, now: Instant) -> Option<&Option<Card>> {
        let (since, card) = self.known.get(&mac)?;
        (now < *since + MEMORY).then_some(card)
    }

    fn learn(&mut self, mac: MacAddress, card: Option<Card>, now: Instant) {
        if self.known.len() >= MOST_CARDS {
            self.known.clear();
        }
        self.known.insert(mac, (now, card));
    }
}

impl DhcpService {
    /// Takes port 67 of the interface, and in proxy mode port 4011. Needs the rights to do so (root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW).
    ///
    /// # Errors
    /// [`DhcpError`].
    pub fn bind(settings: DhcpSettings) -> Result<Self, DhcpError> {
        settings.check()?;
        let socket = open(&settings.interface, SERVER_PORT)?;
        let boot_server = match settings.config.mode {
            DhcpMode::Authoritative | DhcpMode::Off => None,
            DhcpMode::Proxy => Some(open(&settings.interface, BOOT_SERVER_PORT)?),
        };
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
            boot_server,
            core: Dhcp::new(settings),
            cards: Cards::default(),
            solicitations,
        })
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// [`DhcpError::Receive`] when a socket breaks.
    pub async fn run(
        mut self,
        directory: Arc<dyn BootDirectory>,
        stop: CancellationToken,
    ) -> Result<(), DhcpError> {
        let (mut inbox, mut outbox) = (Inbox::new(LONGEST), Outbox::default());
        loop {
            // Goal: a socket that has something. All can be dropped: nothing is taken before the branch is chosen.
            let from_boot_server = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                answered = answer_solicitation(self.solicitations.as_ref()) => {
                    if let Err(error) = answered {
                        tracing::warn!(%error, "IPv6 router solicitations are answered no more");
                        self.solicitations = None;
                    }
                    continue;
                }
                _ = self.socket.readable() => false,
                _ = readable(self.boot_server.as_ref()) => true,
            };
            let socket = match &self.boot_server {
                Some(socket) if from_boot_server => socket,
                _ => &self.socket,
            };
            match receive(socket, &mut inbox) {
                Ok(0) => continue,
                Ok(_) => {}
                // ENETDOWN and its like: the interface may come back.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
                Err(source) => {
                    let interface = self.core.settings().interface.clone();
                    return Err(DhcpError::Receive { interface, source });
                }
            }
            let requests = parsed(&inbox);
            if from_boot_server {
                for (from, request) in &requests {
                    post(&mut outbox, request, self.core.boot_server_answer(request, *from));
                }
            } else {
                self.ask(&requests, directory.as_ref()).await;
                self.answer(&requests, &mut outbox);
            }
            self.send(from_boot_server, &mut outbox);
        }
    }

    /// Learns what the directory says about the cards of a batch, all at once.
    async fn ask(&mut self, requests: &[(SocketAddrV4, Request)], directory: &dyn BootDirectory) {
        let now = Instant::now();
        let unknown = requests
            .iter()
            .map(|(_, request)| request.mac)
            .filter(|mac| self.cards.get(*mac, now).is_none());
        let questions = unknown.map(|mac| async move {
            let answer = tokio::time::timeout(DIRECTORY_TIME, directory.card(mac)).await;
            (mac, answer)
        });
        for (mac, answer) in futures_util::future::join_all(questions).await {
            match answer {
                Ok(Ok(card)) => self.cards.learn(mac, card, now),
                Ok(Err(error)) => {
                    tracing::error!(%mac, error = &error as &dyn std::error::Error, "a DHCP message is left without an answer");
                }
                Err(_) => {
                    tracing::error!(%mac, "a DHCP message is left without an answer: the directory takes too long");
                }
            }
        }
    }

    fn answer(&mut self, requests: &[(SocketAddrV4, Request)], outbox: &mut Outbox) {
        let now = Instant::now();
        for (_, request) in requests {
            // Without a word from the directory a server on record could be taken for a stranger.
            if let Some(fixed) = self.cards.get(request.mac, now) {
                post(outbox, request, self.core.answer(request, fixed.as_ref(), now));
            }
        }
    }

    fn send(&self, from_boot_server: bool, outbox: &mut Outbox) {
        let socket = match &self.boot_server {
            Some(socket) if from_boot_server => socket,
            _ => &self.socket,
        };
        if let Err(error) = outbox.send(socket.as_fd()) {
            tracing::warn!(%error, "a DHCP answer could not be sent");
        }
    }
}

fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<usize> {
    let taken = socket.try_io(Interest::READABLE, || match inbox.receive(socket.as_fd())? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        count => Ok(count),
    });
    match taken {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        taken => taken,
    }
}

fn parsed(inbox: &Inbox) -> Vec<(SocketAddrV4, Request)> {
    let mut requests = Vec::with_capacity(BATCH);
    for (from, bytes) in inbox.iter() {
        let SocketAddr::V4(from) = from else { continue };
        match Request::parse(bytes) {
            Ok(request) => requests.push((from, request)),
            Err(reason) => tracing::debug!(%reason, "a datagram to the DHCP port was ignored"),
        }
    }
    requests
}

fn post(outbox: &mut Outbox, request: &Request, reply: Option<Reply>) {
    let Some(reply) = reply else {
        tracing::debug!(mac = %request.mac, kind = ?request.kind, "a DHCP message needs no answer");
        return;
    };
    outbox.datagram(reply.to, &reply.bytes);
    tracing::info!(mac = %request.mac, asked = ?request.kind, client = ?request.client, said = ?reply.kind, address = %reply.address, to = %reply.to, "dhcp");
}

async fn readable(socket: Option<&UdpSocket>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}

async fn answer_solicitation(solicitations: Option<&Solicitations>) -> io::Result<()> {
    match solicitations {
        Some(solicitations) => solicitations.answer_one().await,
        None => std::future::pending().await,
    }
}

fn open(interface: &str, port: u16) -> Result<UdpSocket, DhcpError> {
    let failed = |attempted, advice| {
        move |source: io::Error| DhcpError::Socket {
            attempted,
            interface: interface.to_owned(),
            advice,
            source,
        }
    };
    let errno = io::Error::from;
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
    // A storm's messages wait here while a batch is worked on. Without CAP_NET_ADMIN the system's limit holds.
    let room = 4 << 20;
    if setsockopt(&fd, sockopt::RcvBufForce, &room).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &room)
            .map_err(errno)
            .map_err(failed("enlarge the buffer", "see the cause"))?;
    }
    let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    bind(fd.as_raw_fd(), &any).map_err(errno).map_err(failed(
        "take the port",
        "stop the other DHCP server on it, and run as root",
    ))?;
    UdpSocket::from_std(fd.into()).map_err(failed("use the socket", "see the cause"))
}
