//! Many TFTP clients in one thread (RFC 1350, 2347, 2348, 7440).
//!
//! Each client has a socket of its own and checks every byte that it gets. Blocks are acknowledged one window at a time; a client that hears nothing for a second says its last word again, as
//! firmware does.

use super::wire::client_address;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What UEFI firmware and iPXE ask for at most on a wire of 1500 bytes.
const BLOCK: usize = 1432;
const PATIENCE: Duration = Duration::from_secs(1);

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    /// Where the server listens.
    pub(super) server: Ipv4Addr,
    /// How many fetch at once.
    pub(super) clients: usize,
    /// Option windowsize; 1 leaves it out.
    pub(super) window: u16,
    /// The file's name.
    pub(super) name: &'a str,
    /// What the file must contain.
    pub(super) content: &'a [u8],
    /// After so long it has failed.
    pub(super) within: Duration,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// From the first request to the last byte.
    pub(super) wall: Duration,
    /// Bytes of files that arrived, in all.
    pub(super) bytes: u64,
    /// How often a client had to say something again.
    pub(super) repeated: u64,
}

struct Client {
    socket: UdpSocket,
    connected: bool,
    /// Bytes that arrived in order.
    got: usize,
    /// The number of the block that is wanted next.
    next: u16,
    /// Blocks since the last ACK.
    unacknowledged: u16,
    /// Whether a gap has been reported and is not yet closed.
    gap: bool,
    block: usize,
    window: u16,
    last_word: [u8; 4],
    heard: Instant,
    done: bool,
}

/// Runs the load to its end.
pub(super) fn run(load: &Load<'_>) -> Result<Outcome> {
    let epoll = Epoll::new(EpollCreateFlags::empty()).context("cannot make an epoll")?;
    let request = request(load);
    let begun = Instant::now();
    let mut clients = Vec::with_capacity(load.clients);
    for index in 0..load.clients {
        let client = Client::new(index, begun)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        epoll
            .add(&client.socket, event)
            .context("cannot watch a socket")?;
        clients.push(client);
    }
    let begun = Instant::now();
    for client in &clients {
        client.request(load, &request)?;
    }
    let (mut left, mut repeated) = (load.clients, 0);
    let mut buffer = vec![0; 65536];
    let mut events = vec![EpollEvent::empty(); 256];
    let mut looked = Instant::now();
    while left > 0 {
        let count = epoll
            .wait(&mut events, EpollTimeout::from(100u16))
            .context("cannot wait")?;
        let now = Instant::now();
        for event in &events[..count] {
            let client = &mut clients[usize::try_from(event.data())?];
            left -= usize::from(client.receive(load, &mut buffer, now)?);
        }
        if now - looked >= Duration::from_millis(100) {
            looked = now;
            for client in clients
                .iter_mut()
                .filter(|client| !client.done && now - client.heard >= PATIENCE)
            {
                client.heard = now;
                client.say_again(load, &request)?;
                repeated += 1;
            }
            ensure!(
                now - begun < load.within,
                "{left} of {} TFTP clients are not done after {:?}",
                load.clients,
                load.within
            );
        }
    }
    Ok(Outcome {
        wall: begun.elapsed(),
        bytes: (load.content.len() * load.clients) as u64,
        repeated,
    })
}

fn request(load: &Load<'_>) -> Vec<u8> {
    let mut packet = b"\0\x01".to_vec();
    let (block, window) = (BLOCK.to_string(), load.window.to_string());
    let mut words = vec![load.name, "octet", "blksize", &block];
    if load.window > 1 {
        words.extend(["windowsize", &window]);
    }
    for word in words {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

impl Client {
    fn new(index: usize, now: Instant) -> Result<Self> {
        let socket = UdpSocket::bind((client_address(index), 0)).context("cannot make a client's socket")?;
        socket.set_nonblocking(true).context("cannot set a socket")?;
        // A window of 64 blocks, with what the kernel counts for each.
        setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20)).context("cannot enlarge a socket's buffer")?;
        Ok(Self {
            socket,
            connected: false,
            got: 0,
            next: 1,
            unacknowledged: 0,
            gap: false,
            block: 512,
            window: 1,
            last_word: [0; 4],
            heard: now,
            done: false,
        })
    }

    fn request(&self, load: &Load<'_>, request: &[u8]) -> Result<()> {
        self.socket
            .send_to(request, (load.server, 69))
            .map(drop)
            .context("cannot send a request")
    }

    fn say_again(&self, load: &Load<'_>, request: &[u8]) -> Result<()> {
        if self.connected {
            self.send(&self.last_word)
        } else {
            self.request(load, request)
        }
    }

    /// `true` when this made the client complete.
    fn receive(&mut self, load: &Load<'_>, buffer: &mut [u8], now: Instant) -> Result<bool> {
        while !self.done {
            let (length, from) = match self.socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && !self.connected => break,
                Err(error) => return Err(error).context("a client cannot receive"),
            };
            self.heard = now;
            self.packet(load, &buffer[..length], from)?;
            if self.done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn packet(&mut self, load: &Load<'_>, packet: &[u8], from: SocketAddr) -> Result<()> {
        if !self.connected {
            self.socket
                .connect(from)
                .context("cannot connect to the server's port")?;
            self.connected = true;
        }
        match packet {
            [0, 3, high, low, data @ ..] => self.data(load, u16::from_be_bytes([*high, *low]), data),
            [0, 6, options @ ..] => {
                self.options(options)?;
                self.acknowledge(0)
            }
            [0, 5, ..] => bail!("the server says {:?}", String::from_utf8_lossy(packet)),
            _ => bail!("the server sends {:?}", &packet[..packet.len().min(16)]),
        }
    }

    fn data(&mut self, load: &Load<'_>, number: u16, data: &[u8]) -> Result<()> {
        if number != self.next {
            // A gap, or something old: say once where we are (RFC 7440, section 4).
            if std::mem::replace(&mut self.gap, true) {
                return Ok(());
            }
            return self.acknowledge(self.next.wrapping_sub(1));
        }
        self.gap = false;
        ensure!(
            load.content.get(self.got..self.got + data.len()) == Some(data),
            "block {number} of {} differs",
            load.name
        );
        self.got += data.len();
        self.next = number.wrapping_add(1);
        self.unacknowledged += 1;
        let last = data.len() < self.block;
        if last {
            ensure!(self.got == load.content.len(), "{} ends early", load.name);
            self.done = true;
        }
        if last || self.unacknowledged >= self.window {
            return self.acknowledge(number);
        }
        Ok(())
    }

    fn options(&mut self, options: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(options).context("an OACK is no text")?;
        let words: Vec<&str> = text.split('\0').collect();
        for pair in words.chunks_exact(2) {
            match pair[0].to_ascii_lowercase().as_str() {
                "blksize" => self.block = pair[1].parse()?,
                "windowsize" => self.window = pair[1].parse()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, number: u16) -> Result<()> {
        let [high, low] = number.to_be_bytes();
        self.last_word = [0, 4, high, low];
        self.unacknowledged = 0;
        self.send(&self.last_word)
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        match self.socket.send(packet) {
            Ok(_) => Ok(()),
            // What the peer's closed port answered to an earlier ACK.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error).context("a client cannot send"),
        }
    }
}
