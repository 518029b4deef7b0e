//! Floods of half-open sessions against the program itself: its memory stays below a bound, and meanwhile a server and a tenant are served.
//!
//! Attackers and honest clients have addresses of 127.0.0.0/8, which are all local, so one process is many hosts. An attacker whose connection is
//! closed opens another. An honest client does what firmware, agents and tenants do: it asks, and asks again when it was not answered.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;
mod process;

use house::{address, mac};
use leaseboot_protocol::digest::Sha256;
use leaseboot_tests::bench::process as usage;
use process::{Process, Start, in_a_namespace};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const BOOT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
const TFTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 69);
/// Each honest errand must be done in this time. A connection that is silent may stay for 20 s, so whoever must wait for that comes too late.
const ERRAND: Duration = Duration::from_secs(10);
/// Errands of each kind in each flood.
const ERRANDS: usize = 3;
/// What the Lease Manager may use at any time in all floods, in MB (10^6 bytes), boot files included.
const MOST_MEMORY: f64 = 160.0;
/// A file that no socket's buffers hold.
const LARGE: usize = 24 << 20;
/// What TFTP serves: three blocks of 512 bytes.
const LOADER: [u8; 1400] = [b'g'; 1400];

/// A flood, as long as it is kept.
struct Flood {
    tasks: JoinSet<()>,
    /// How many sessions were begun.
    begun: Arc<AtomicUsize>,
}

impl Flood {
    fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            begun: Arc::default(),
        }
    }

    /// Attackers with connections to `to`: as many from each address, each of whom does `attack` on one connection after the other.
    fn connections<F: Future<Output = std::io::Result<()>> + Send>(
        mut self,
        to: SocketAddr,
        (addresses, each): (u16, u16),
        attack: impl Fn(TcpStream) -> F + Send + Sync + Clone + 'static,
    ) -> Self {
        for number in 0..addresses * each {
            let [high, low] = (number / each).to_be_bytes();
            let (from, begun) = (SocketAddr::from(([127, 9, high, low], 0)), self.begun.clone());
            let attack = attack.clone();
            self.tasks.spawn(async move {
                loop {
                    if let Ok(stream) = connect(from, to).await {
                        begun.fetch_add(1, Ordering::Relaxed);
                        let _closed = attack(stream).await;
                    }
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            });
        }
        self
    }

    /// Waits until so many sessions were begun.
    async fn at_least(self, sessions: usize) -> Self {
        let waiting = async {
            while self.begun.load(Ordering::Relaxed) < sessions {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(Duration::from_secs(30), waiting).await;
        assert!(
            waited.is_ok(),
            "{} of {sessions} sessions",
            self.begun.load(Ordering::Relaxed)
        );
        self
    }
}

async fn connect(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket.connect(to).await
}

/// Says nothing, until the other side has had enough.
async fn silent(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_u8().await.map(drop)
}

/// The beginning of what might become a request, then byte after byte.
async fn byte_by_byte(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET /").await?;
    loop {
        stream.write_all(b"a").await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Headers without end, as many as are read at once and then some more.
async fn endless_head(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\n").await?;
    for _ in 0..40 {
        stream
            .write_all(&[b"x-more: ", &[b'y'; 180][..], b"\r\n"].concat())
            .await?;
    }
    silent(stream).await
}

/// Asks for a large file and takes nothing of it.
async fn takes_nothing(mut stream: TcpStream, request: String) -> std::io::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    std::future::pending().await
}

/// The first quarter of a ClientHello.
async fn quarter_of_a_handshake(mut stream: TcpStream) -> std::io::Result<()> {
    let head = [0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    stream.write_all(&[&head[..], &[7; 117]].concat()).await?;
    silent(stream).await
}

/// A ClientHello that says it is the longest that there can be, nearly all of it.
async fn long_handshake(mut stream: TcpStream) -> std::io::Result<()> {
    let record = [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let first = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3][..], &[7; 0x3ffa]].concat();
    stream.write_all(&first).await?;
    for _ in 0..2 {
        stream.write_all(&record).await?;
    }
    silent(stream).await
}

/// A whole handshake, and then `words` and no more; `said` counts who has said them, or was cut off.
async fn over_tls(
    stream: TcpStream,
    connector: TlsConnector,
    words: Arc<[u8]>,
    said: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let name = ServerName::IpAddress(API.ip().into());
    let mut stream = connector.connect(name, stream).await?;
    let written = stream.write_all(&words).await;
    said.fetch_add(1, Ordering::Relaxed);
    written?;
    stream.flush().await?;
    stream.read_u8().await.map(drop)
}

fn connector(process: &Process) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&process.ca()).unwrap())
        .unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Datagrams that `datagram` makes of a number, so many a second.
fn datagrams<F: Future<Output = std::io::Result<()>> + Send>(
    a_second: usize,
    send: impl Fn(u32) -> F + Send + 'static,
) -> Flood {
    let mut flood = Flood::new();
    let begun = flood.begun.clone();
    flood.tasks.spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            for _ in 0..a_second / 50 {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                let _lost = send(u32::try_from(number).unwrap()).await;
            }
        }
    });
    flood
}

/// A read request from an address of its own, which nobody listens at afterwards.
async fn read_request(number: u32) -> std::io::Result<()> {
    let [_, high, middle, low] = number.to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 64 + high % 64, middle, low), 2000)).await?;
    socket
        .send_to(
            b"\0\x01grub/core.0\0octet\0blksize\x001468\0windowsize\x0016\0",
            TFTP,
        )
        .await
        .map(drop)
}

/// A DISCOVER of a card that nobody has, every fourth through a relay that nobody has.
fn discover(card: [u8; 6], relay: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&card[2..]);
    packet[10] = 0x80;
    packet[24..28].copy_from_slice(&relay.octets());
    packet[28..34].copy_from_slice(&card);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, 1, 60, 9]);
    packet.extend(b"PXEClient");
    packet.extend([93, 2, 0, 7, 255]);
    packet
}

/// What honest servers and tenants want meanwhile. Each errand gives what it took.
struct Honest<'a> {
    process: &'a Process,
    kernel: String,
}

impl Honest<'_> {
    /// The kernel over HTTP.
    async fn http(&self) -> Duration {
        errand("a boot file over HTTP", async || {
            let from = SocketAddr::from((address(1), 0));
            let mut stream = connect(from, BOOT_HTTP).await?;
            stream.write_all(self.kernel.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            match answer.ends_with(b"\r\n\r\n1234") {
                true => Ok(()),
                false => Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        })
        .await
    }

    /// A loader over TFTP, in lockstep, as firmware fetches it: an ERROR is the end of its boot.
    async fn tftp(&self) -> Duration {
        errand("a loader over TFTP", async || {
            let socket = UdpSocket::bind((address(1), 0)).await?;
            let (mut to, mut said, mut file) = (TFTP, b"\0\x01grub/core.0\0octet\0".to_vec(), Vec::new());
            let mut packet = [0; 600];
            loop {
                socket.send_to(&said, to).await?;
                let Ok(heard) = timeout(Duration::from_secs(1), socket.recv_from(&mut packet)).await else {
                    continue;
                };
                let (length, from) = heard?;
                assert_eq!(
                    packet[..2],
                    [0, 3],
                    "{:?}",
                    String::from_utf8_lossy(&packet[..length])
                );
                if usize::from(packet[3]) == file.len() / 512 + 1 {
                    file.extend_from_slice(&packet[4..length]);
                }
                (to, said) = (from, vec![0, 4, packet[2], packet[3]]);
                if length < 516 {
                    socket.send_to(&said, to).await?;
                    assert!(file == LOADER);
                    return Ok(());
                }
            }
        })
        .await
    }

    /// The offer of the address on record.
    async fn dhcp(&self, socket: &UdpSocket) -> Duration {
        errand("an offer by DHCP", async || {
            socket
                .send_to(&discover(mac(1).0, Ipv4Addr::UNSPECIFIED), "127.0.0.1:67")
                .await?;
            let mut packet = [0; 1500];
            let hearing = async {
                // The offers to the attackers are broadcast too.
                while {
                    socket.recv(&mut packet).await?;
                    packet[28..34] != mac(1).0
                } {}
                assert_eq!(
                    IpAddr::from([packet[16], packet[17], packet[18], packet[19]]),
                    address(1)
                );
                Ok(())
            };
            timeout(Duration::from_secs(2), hearing).await?
        })
        .await
    }

    /// The leases of a tenant and the description for anybody, each over a new connection.
    async fn api(&self) -> Duration {
        let begun = Instant::now();
        for (who, client, path) in [
            ("a tenant's list", self.process.tenant(), "/v1/leases"),
            ("a server's question", self.process.server(1), "/v1/openapi.json"),
        ] {
            errand(who, async || {
                let url = format!("{}{path}", client.base);
                let answer = client
                    .client
                    .get(url)
                    .send()
                    .await
                    .map_err(std::io::Error::other)?;
                assert!(answer.status().is_success(), "{who}: {}", answer.status());
                Ok(())
            })
            .await;
        }
        begun.elapsed()
    }

    async fn all(&self, flood: &str, socket: &UdpSocket) {
        let mut slowest = [Duration::ZERO; 4];
        for _ in 0..ERRANDS {
            let took = [
                self.http().await,
                self.tftp().await,
                self.dhcp(socket).await,
                self.api().await,
            ];
            for (slowest, took) in slowest.iter_mut().zip(took) {
                *slowest = took.max(*slowest);
            }
        }
        let id = self.process.id();
        let (now, peak) = (usage::memory(id).unwrap(), usage::peak_memory(id).unwrap());
        println!(
            "{flood}: {now:.0} MB, at most {peak:.0} MB; HTTP, TFTP, DHCP and API took at most {slowest:?}"
        );
        assert!(
            peak < MOST_MEMORY,
            "{flood}: {peak:.0} MB\n{}",
            self.process.log()
        );
    }
}

/// Asks until it is answered; too late is a failure.
async fn errand(what: &str, attempt: impl AsyncFn() -> std::io::Result<()>) -> Duration {
    let begun = Instant::now();
    let asking = async {
        loop {
            match timeout(Duration::from_secs(5), attempt()).await {
                Ok(Ok(())) => return,
                failed => println!("{what} after {:?}: {failed:?}", begun.elapsed()),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(
        timeout(ERRAND, asking).await.is_ok(),
        "{what} did not come in {ERRAND:?}"
    );
    begun.elapsed()
}

#[test]
fn floods_of_half_open_sessions_cost_bounded_memory_and_honest_clients_are_served() {
    let name = "floods_of_half_open_sessions_cost_bounded_memory_and_honest_clients_are_served";
    in_a_namespace(name, floods);
}

async fn floods() {
    let pool = "\n[dhcp]\npool = { first = \"127.200.0.1\", last = \"127.200.3.254\", lease_time_s = 600 }\n";
    let large = vec![7; LARGE];
    let process = Process::start(&Start {
        servers: 1,
        outcome: "true",
        config: &|config| config + pool,
        files: &[("large", &large), ("grub/core.0", &LOADER)],
    });
    let get = |name: &str, content: &[u8], more: &str| {
        format!(
            "GET /boot/files/{}/{name} HTTP/1.1\r\n{more}\r\n",
            Sha256::of(content)
        )
    };
    let honest = Honest {
        process: &process,
        kernel: get("vmlinuz", b"1234", "Connection: close\r\n"),
    };
    let socket = UdpSocket::bind("0.0.0.0:68").await.unwrap();
    honest.all("no flood", &socket).await;

    let request = get("large", &large, "");
    let flood = Flood::new()
        .connections(BOOT_HTTP, (40, 20), silent)
        .connections(BOOT_HTTP, (40, 20), byte_by_byte)
        .connections(BOOT_HTTP, (40, 20), endless_head)
        .connections(BOOT_HTTP, (40, 20), move |stream| {
            takes_nothing(stream, request.clone())
        })
        .connections(BOOT_HTTP, (1, 500), silent)
        .at_least(3000)
        .await;
    honest.all("boot HTTP", &socket).await;
    drop(flood);

    let connector = connector(&process);
    let said = Arc::<AtomicUsize>::default();
    let tls = |words: Vec<u8>| {
        let (connector, words, said) = (connector.clone(), Arc::<[u8]>::from(words), said.clone());
        move |stream| over_tls(stream, connector.clone(), words.clone(), said.clone())
    };
    let head = [&b"GET / HTTP/1.1\r\nx: "[..], &[b'y'; 100_000]].concat();
    let flood = Flood::new()
        .connections(API, (70, 20), silent)
        .connections(API, (70, 20), quarter_of_a_handshake)
        .connections(API, (70, 20), long_handshake)
        .connections(API, (10, 20), tls(b"GET /v1/leases HTTP/1.1\r\n".to_vec()))
        .connections(API, (10, 20), tls(head))
        .at_least(4500)
        .await;
    honest.all("API", &socket).await;
    drop(flood);

    said.store(0, Ordering::Relaxed);
    let hello = "POST /v1/agent/hello HTTP/1.1\r\nHost: lm\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n";
    let head = format!("{hello}Content-Length: 1048576\r\n\r\n[");
    let body = [head.as_bytes(), &vec![b' '; 1_000_000]].concat();
    let mut flood = Flood::new().connections(API, (20, 10), tls(body));
    flood.begun = said;
    let flood = flood.at_least(200).await;
    honest.all("large bodies", &socket).await;
    drop(flood);

    let flood = datagrams(10_000, read_request).at_least(12_000).await;
    honest.all("TFTP", &socket).await;
    drop(flood);

    let from = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let flood = datagrams(2_000, move |number| {
        let [a, b, c, d] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
        let relay = if d & 3 == 0 {
            Ipv4Addr::new(a, b, c, d)
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        let (packet, from) = (discover([2, 9, a, b, c, d], relay), from.clone());
        async move { from.send_to(&packet, "127.0.0.1:67").await.map(drop) }
    })
    .at_least(6_000)
    .await;
    honest.all("DHCP", &socket).await;
    drop(flood);
}
