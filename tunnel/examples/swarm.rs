//! Many peers of one gateway in one process, for `cargo xtask bench tunnel`; nothing of it is shipped.
//!
//! ```sh
//! swarm keys COUNT                                      # lines of private and public key
//! swarm run KEYS GATEWAY-KEY ENDPOINT TARGET SECONDS    # echoes a second; seconds until all had their first; how many had
//! ```
//!
//! Each peer has a UDP socket and a boringtun session of its own, and keeps [`WINDOW`] echo requests (RFC 792) on their way to `TARGET`, an inner address behind the gateway, whose kernel answers. So the load
//! is closed: what the gateway cannot carry is not sent.

use anyhow::{Context as _, Result, bail, ensure};
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use leaseboot_tunnel::PrivateKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Requests of one peer on their way.
const WINDOW: usize = 4;
/// Bytes of an inner packet.
const PACKET: usize = 1200;
/// After so long without an answer a peer begins anew: its requests were lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// So long is waited for everybody's first echo: who is asked for a cookie begins anew after five seconds.
const READY: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(250);

struct Peer {
    socket: UdpSocket,
    session: Tunn,
    request: Vec<u8>,
    echoes: u64,
    heard: Instant,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["keys", count] => {
            for _ in 0..count.parse()? {
                let key = PrivateKey::generate();
                println!("{} {}", key.to_base64().expose(), key.public());
            }
            Ok(())
        }
        ["run", keys, gateway, endpoint, target, seconds] => run(
            keys,
            gateway,
            endpoint.parse()?,
            target.parse()?,
            Duration::from_secs(seconds.parse()?),
        ),
        _ => bail!("unknown words; see the head of this program"),
    }
}

fn run(keys: &str, gateway: &str, endpoint: SocketAddr, target: Ipv4Addr, time: Duration) -> Result<()> {
    let text = std::fs::read_to_string(keys).with_context(|| format!("cannot read {keys}"))?;
    let mut peers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let private = line.split(' ').next().context("an empty line among the keys")?;
        peers.push(Peer::new(index, private, gateway, endpoint, target)?);
    }
    ensure!(!peers.is_empty(), "there are no keys in {keys}");
    let begun = Instant::now();
    for peer in &mut peers {
        peer.fill()?;
    }
    serve(&mut peers, |peers| {
        peers.iter().all(|peer| peer.echoes > 0) || begun.elapsed() > READY
    })?;
    let ready = begun.elapsed();
    let served = peers.iter().filter(|peer| peer.echoes > 0).count();
    let before: u64 = peers.iter().map(|peer| peer.echoes).sum();
    let measured = Instant::now();
    serve(&mut peers, |_| measured.elapsed() > time)?;
    let echoes = peers.iter().map(|peer| peer.echoes).sum::<u64>() - before;
    let rate = echoes as f64 / measured.elapsed().as_secs_f64();
    println!("{rate} {} {served}", ready.as_secs_f64());
    Ok(())
}

fn serve(peers: &mut [Peer], is_over: impl Fn(&[Peer]) -> bool) -> Result<()> {
    let mut buffer = vec![0; 65_535];
    let mut next_tick = Instant::now();
    while !is_over(peers) {
        let mut sources: Vec<_> = peers
            .iter()
            .map(|peer| PollFd::new(peer.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut sources, PollTimeout::from(50u8)).context("cannot wait for the sockets")?;
        let ready: Vec<bool> = sources.iter().map(|source| source.any() == Some(true)).collect();
        for (peer, _) in peers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            peer.receive(&mut buffer)?;
        }
        if next_tick <= Instant::now() {
            next_tick = Instant::now() + TICK;
            for peer in peers.iter_mut() {
                peer.tick()?;
            }
        }
    }
    Ok(())
}

impl Peer {
    fn new(
        index: usize,
        private: &str,
        gateway: &str,
        endpoint: SocketAddr,
        target: Ipv4Addr,
    ) -> Result<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(private)?;
        let private = StaticSecret::from(<[u8; 32]>::try_from(&bytes[..])?);
        let gateway: leaseboot_protocol::network::WireguardPublicKey =
            gateway.parse().ok().context("the gateway's key is none")?;
        let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
        socket.connect(endpoint).context("cannot reach the gateway")?;
        socket.set_nonblocking(true).context("cannot set a socket up")?;
        let number = u32::try_from(index)?;
        Ok(Self {
            socket,
            session: Tunn::new(private, PublicKey::from(gateway.0), None, None, number, None),
            request: request(inner(number), target),
            echoes: 0,
            heard: Instant::now(),
        })
    }

    fn fill(&mut self) -> Result<()> {
        for _ in 0..WINDOW {
            self.ask()?;
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        let mut buffer = [0; PACKET + 32];
        if let TunnResult::WriteToNetwork(datagram) = self.session.encapsulate(&self.request, &mut buffer) {
            send(&self.socket, datagram)?;
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut datagram = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            let mut input = &datagram[..length];
            loop {
                match self.session.decapsulate(None, input, buffer) {
                    TunnResult::WriteToNetwork(reply) => send(&self.socket, reply)?,
                    TunnResult::WriteToTunnelV4(..) => {
                        self.echoes += 1;
                        self.heard = Instant::now();
                        self.ask()?;
                        break;
                    }
                    _ => break,
                }
                input = &[];
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        let mut buffer = [0; PACKET + 32];
        if let TunnResult::WriteToNetwork(datagram) = self.session.update_timers(&mut buffer) {
            send(&self.socket, datagram)?;
        }
        if self.echoes > 0 && self.heard.elapsed() > PATIENCE {
            self.heard = Instant::now();
            self.fill()?;
        }
        Ok(())
    }
}

fn send(socket: &UdpSocket, datagram: &[u8]) -> Result<()> {
    match socket.send(datagram) {
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(error).context("cannot send"),
        _ => Ok(()),
    }
}

/// The inner address of a peer.
fn inner(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 79, 1, 0)) + number)
}

/// An echo request as it is encrypted.
fn request(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; PACKET];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET as u16).to_be_bytes());
    (packet[8], packet[9]) = (64, 1);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20] = 8;
    for (at, part) in [(10, 0..20), (22, 20..PACKET)] {
        let sum: u32 = packet[part]
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[at..at + 2].copy_from_slice(&(!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes());
    }
    packet
}
