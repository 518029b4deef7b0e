//! The sockets around [`Transfer`]: port 69 for requests, and one socket, so one transfer identifier, for each transfer.

use super::negotiation::Terms;
use super::packet::{self, ErrorCode, FromClient, ReadRequest};
use super::transfer::{End, Event, Outgoing, Transfer};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ipnet::Ipv4Net;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where clients send their requests.
pub const SERVER_PORT: u16 = 69;
/// Transfers at once, in all.
const MOST_TRANSFERS: usize = 512;
/// Transfers at once to one address: firmware runs one, a person at a console a few.
const MOST_PER_ADDRESS: usize = 8;

/// Where the files come from: names, never paths into a file system.
pub trait TftpNames: Send + Sync + 'static {
    /// The content under exactly this name, which has no slash in front; `None` when there is nothing.
    fn open<'a>(&'a self, name: &'a str, from: IpAddr) -> BoxFuture<'a, Option<Bytes>>;
}

/// What the service works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    /// The LM's address on the lender's wire.
    pub address: Ipv4Addr,
    /// The port: [`SERVER_PORT`], or 0 for any in tests.
    pub port: u16,
    /// Requests from elsewhere are not answered, so that nobody can aim the answers at strangers.
    pub clients: Ipv4Net,
    /// The largest IP packet that the wire carries.
    pub mtu: u16,
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

/// A bound TFTP socket that nobody reads yet.
#[derive(Debug)]
pub struct TftpService {
    socket: UdpSocket,
    address: SocketAddr,
    settings: TftpSettings,
}

impl TftpService {
    /// Takes the port.
    ///
    /// # Errors
    /// [`TftpError::Bind`].
    pub async fn bind(settings: TftpSettings) -> Result<Self, TftpError> {
        let wanted = SocketAddr::from((settings.address, settings.port));
        let bound = |source| TftpError::Bind {
            address: wanted,
            source,
        };
        let socket = UdpSocket::bind(wanted).await.map_err(bound)?;
        let address = socket.local_addr().map_err(bound)?;
        Ok(Self {
            socket,
            address,
            settings,
        })
    }

    /// Address and port that were taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; transfers that are under way end then.
    ///
    /// # Errors
    /// [`TftpError::Receive`] when the socket breaks.
    pub async fn run(self, names: Arc<dyn TftpNames>, stop: CancellationToken) -> Result<(), TftpError> {
        let mut transfers = Transfers::default();
        let mut buffer = vec![0; 2048];
        loop {
            // Goal: the next request. Both other branches may be dropped at any time: receiving and joining are cancel-safe.
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(ended) = transfers.tasks.join_next_with_id() => {
                    transfers.forget(ended);
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            let (length, client) = match received {
                Ok(received) => received,
                // An ICMP answer to an ERROR packet that nobody waited for.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(source) => {
                    return Err(TftpError::Receive {
                        address: self.address,
                        source,
                    });
                }
            };
            if let Err(refusal) = self.request(&buffer[..length], client, &names, &mut transfers) {
                tracing::info!(%client, refusal = refusal.1, "tftp request refused");
                // One short packet for one request; when it gets lost, the client asks again.
                let _ = self
                    .socket
                    .try_send_to(&packet::error(refusal.0, refusal.1), client);
            }
        }
    }

    fn request(
        &self,
        datagram: &[u8],
        client: SocketAddr,
        names: &Arc<dyn TftpNames>,
        transfers: &mut Transfers,
    ) -> Result<(), (ErrorCode, &'static str)> {
        let IpAddr::V4(from) = client.ip() else {
            return Ok(());
        };
        if !self.settings.clients.contains(&from) || client.port() == 0 {
            tracing::debug!(%client, "a TFTP request from outside the lender's wire was ignored");
            return Ok(());
        }
        let request = match FromClient::parse(datagram) {
            Ok(FromClient::Read(request)) => request,
            Ok(FromClient::Write) => return Err((ErrorCode::AccessViolation, "this server is read-only")),
            // Not answered: two servers must not be made to talk to each other.
            Ok(FromClient::Ack(_) | FromClient::Error { .. }) | Err(_) => return Ok(()),
        };
        if request.mode != "octet" {
            return Err((ErrorCode::Illegal, "only mode octet is served"));
        }
        if transfers.is_repetition(client, &request) {
            return Ok(());
        }
        if transfers.count_of(from) >= MOST_PER_ADDRESS || transfers.running.len() >= MOST_TRANSFERS {
            return Err((ErrorCode::Busy, "too many transfers, try again"));
        }
        let confirmed = Arc::new(AtomicBool::new(false));
        let task = Task {
            client,
            settings: self.settings.clone(),
            request: request.clone(),
            names: names.clone(),
            confirmed: confirmed.clone(),
        };
        let id = transfers.tasks.spawn(task.run()).id();
        transfers.running.insert(
            id,
            Running {
                client,
                request,
                confirmed,
            },
        );
        Ok(())
    }
}

#[derive(Default)]
struct Transfers {
    tasks: JoinSet<()>,
    running: HashMap<tokio::task::Id, Running>,
}

struct Running {
    client: SocketAddr,
    request: ReadRequest,
    confirmed: Arc<AtomicBool>,
}

impl Transfers {
    /// The same request once more from the same port, while its transfer has not got through yet: the first answer is on its way, or will be sent again.
    fn is_repetition(&self, client: SocketAddr, request: &ReadRequest) -> bool {
        self.running.values().any(|running| {
            running.client == client
                && !running.confirmed.load(Ordering::Relaxed)
                && running.request == *request
        })
    }

    fn count_of(&self, address: Ipv4Addr) -> usize {
        self.running
            .values()
            .filter(|running| running.client.ip() == IpAddr::V4(address))
            .count()
    }

    fn forget(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a TFTP transfer failed inside the LM");
                error.id()
            }
        };
        self.running.remove(&id);
    }
}

struct Task {
    client: SocketAddr,
    settings: TftpSettings,
    request: ReadRequest,
    names: Arc<dyn TftpNames>,
    confirmed: Arc<AtomicBool>,
}

impl Task {
    async fn run(self) {
        let started = Instant::now();
        match self.transfer().await {
            Ok((End::Complete, bytes)) => {
                let seconds = started.elapsed().as_secs_f32();
                tracing::info!(client = %self.client, request = %self.request, bytes, seconds, "tftp transfer complete");
            }
            Ok((end, _)) => {
                tracing::info!(client = %self.client, request = %self.request, ?end, "tftp transfer ended early");
            }
            Err(error) => {
                tracing::warn!(client = %self.client, request = %self.request, %error, "tftp transfer failed");
            }
        }
    }

    async fn transfer(&self) -> std::io::Result<(End, usize)> {
        let socket = UdpSocket::bind((self.settings.address, 0)).await?;
        socket.connect(self.client).await?;
        let name = self.request.name.strip_prefix('/').unwrap_or(&self.request.name);
        let Some(file) = self.names.open(name, self.client.ip()).await else {
            socket
                .send(&packet::error(ErrorCode::NotFound, "no such file"))
                .await?;
            return Ok((End::NotFound, 0));
        };
        let size = file.len();
        let terms = Terms::negotiate(&self.request, size as u64, self.settings.mtu);
        let (mut packet, mut out) = (Vec::new(), Vec::new());
        let mut transfer = Transfer::start(file, terms, Instant::now(), &mut out);
        let mut received = vec![0; 1024];
        loop {
            if !send_all(&socket, &transfer, &mut out, &mut packet).await? {
                return Ok((End::Silence, size));
            }
            // Goal: the client's next packet, or the deadline. Receiving is cancel-safe.
            let event = tokio::select! {
                length = socket.recv(&mut received) => match length {
                    Ok(length) => Event::Datagram(&received[..length]),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        return Ok((End::Silence, size));
                    }
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep_until(transfer.deadline().into()) => Event::Deadline,
            };
            transfer = match transfer.step(event, Instant::now(), &mut out) {
                Ok(transfer) => transfer,
                Err(end) => return Ok((end, size)),
            };
            self.confirmed.store(transfer.is_confirmed(), Ordering::Relaxed);
        }
    }
}

/// `false` when the client's port is closed.
async fn send_all(
    socket: &UdpSocket,
    transfer: &Transfer,
    out: &mut Vec<Outgoing>,
    packet: &mut Vec<u8>,
) -> std::io::Result<bool> {
    for outgoing in out.drain(..) {
        transfer.encode(outgoing, packet);
        match socket.send(packet).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
