//! DHCP load: `perfdhcp` of the Kea project for exchanges per second, and a thousand clients of our own that are switched on at one moment.

use super::servers::Server;
use super::wire::{INTERFACE, SERVER, Wire};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Drops that still count as service, in percent.
const MOST_DROPS: f64 = 2.5;
/// The rates that are tried, each so many times the one before.
const FIRST_RATE: f64 = 1000.0;
const STEP: f64 = 1.3;
const LAST_RATE: f64 = 60_000.0;
/// How often the room between the last rate that was served and the first that was not is halved.
const NARROWINGS: u32 = 3;
/// As many different clients as a storm has servers.
const CLIENTS: &str = "1000";
const PERIOD: &str = "3";

/// The best that was reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanges {
    /// Four-way exchanges per second.
    pub(super) rate: f64,
    /// CPU seconds of the server for a million of them.
    pub(super) cpu_per_million: f64,
}

/// Raises the rate until drops exceed 2.5 percent twice in a row, narrows down where they begin, and gives the best rate that was served.
pub(super) fn exchanges(wire: &Wire, server: &Server) -> Result<Exchanges> {
    let (mut best, mut failures, mut rate) = (Exchanges::default(), 0, FIRST_RATE);
    let (mut served, mut refused) = (FIRST_RATE, LAST_RATE);
    while failures < 2 && rate < LAST_RATE {
        if best.take(trial(wire, server, rate)?) {
            (failures, served, refused) = (0, rate, LAST_RATE);
        } else {
            failures += 1;
            refused = refused.min(rate);
        }
        rate *= STEP;
    }
    for _ in 0..NARROWINGS {
        let rate = (served + refused) / 2.0;
        if best.take(trial(wire, server, rate)?) {
            served = rate;
        } else {
            refused = rate;
        }
    }
    println!(
        "DHCP: {:<12} {:>6.0} exchanges/s  {:>6.1} CPU-s per million",
        server.name(),
        best.rate,
        best.cpu_per_million
    );
    Ok(best)
}

impl Exchanges {
    /// Whether it was served; the best is kept.
    fn take(&mut self, trial: Option<Exchanges>) -> bool {
        if let Some(trial) = trial
            && trial.rate > self.rate
        {
            *self = trial;
        }
        trial.is_some()
    }
}

/// What came of offering `rate`; nothing when too much was dropped.
fn trial(wire: &Wire, server: &Server, rate: f64) -> Result<Option<Exchanges>> {
    let before = server.cpu_seconds()?;
    let outcome = offer(wire, rate)?;
    let cpu = server.cpu_seconds()? - before;
    Ok((outcome.drops < MOST_DROPS).then(|| Exchanges {
        rate: outcome.rate,
        cpu_per_million: cpu / outcome.exchanges * 1e6,
    }))
}

/// Whether somebody answers.
pub(super) fn is_served(wire: &Wire) -> bool {
    offer(wire, 100.0).is_ok_and(|offered| offered.exchanges > 0.0)
}

struct Offered {
    rate: f64,
    exchanges: f64,
    /// The worse of the two halves of an exchange, in percent.
    drops: f64,
}

fn offer(wire: &Wire, rate: f64) -> Result<Offered> {
    let mut command = wire.at_clients("perfdhcp");
    let rate = format!("{rate:.0}");
    command.args(["-4", "-r", &rate, "-R", CLIENTS, "-p", PERIOD, "-l", INTERFACE]);
    command.arg(SERVER.to_string());
    // Its status is 3 when there were drops.
    let output = command
        .output()
        .context("cannot run perfdhcp (package kea-admin)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    parse(&said).with_context(|| {
        format!(
            "perfdhcp said:\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn parse(said: &str) -> Result<Offered> {
    let after = |text: &str, word: &str| -> Option<f64> {
        let rest = &text[text.find(word)? + word.len()..];
        rest.split_whitespace().next()?.parse().ok()
    };
    let rate = after(said, "Rate:").context("no rate")?;
    let (_, requests) = said.split_once("REQUEST-ACK").context("no second half")?;
    let exchanges = after(requests, "received packets:").context("no count")?;
    let mut drops = Vec::new();
    for part in said.split("drops ratio:").skip(1) {
        let percent = part.split_whitespace().next().unwrap_or_default();
        drops.push(percent.parse::<f64>().context("no ratio of drops")?);
    }
    ensure!(drops.len() == 2, "not two ratios of drops");
    Ok(Offered {
        rate,
        exchanges,
        drops: drops.into_iter().fold(0.0, f64::max),
    })
}

/// What a storm was like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// Until the last client had its address.
    pub(super) wall: Duration,
    /// How often a client had to say something again.
    pub(super) repeated: u32,
}

const PATIENCE: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum State {
    Asked,
    Offered([u8; 4]),
    Bound,
}

/// So many clients ask for an address at one moment, as firmware does, and each accepts what it is offered. The calling thread must be at the clients' end.
pub(super) fn storm(clients: u16) -> Result<Storm> {
    let socket = UdpSocket::bind("0.0.0.0:68").context("cannot take the port of DHCP clients")?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(INTERFACE))
        .context("cannot bind to the wire")?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("cannot enlarge a socket's buffer")?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut states = vec![State::Asked; usize::from(clients)];
    let (begun, mut said, mut left, mut repeated) = (Instant::now(), Instant::now(), clients, 0);
    for client in 0..clients {
        say(&socket, client, State::Asked)?;
    }
    let mut buffer = [0; 1500];
    while left > 0 {
        match socket.recv(&mut buffer) {
            Ok(length) => left -= u16::from(hear(&socket, &mut states, &buffer[..length])?),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
        if said.elapsed() >= PATIENCE {
            said = Instant::now();
            for (client, state) in (0..clients).zip(&states) {
                if !matches!(state, State::Bound) {
                    say(&socket, client, *state)?;
                    repeated += 1;
                }
            }
            ensure!(
                begun.elapsed() < WITHIN,
                "{left} DHCP clients have no address after {WITHIN:?}"
            );
        }
    }
    Ok(Storm {
        wall: begun.elapsed(),
        repeated,
    })
}

fn say(socket: &UdpSocket, client: u16, state: State) -> Result<()> {
    let [high, low] = client.to_be_bytes();
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&[0xb0, 0x07, high, low]);
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&[2, 0, 0xb0, 0x07, high, low]);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    match state {
        State::Asked => packet.extend([53, 1, 1]),
        State::Offered([a, b, c, d]) => {
            packet.extend([53, 1, 3, 50, 4, a, b, c, d, 54, 4]);
            packet.extend(SERVER.octets());
        }
        State::Bound => return Ok(()),
    }
    packet.extend([60, 9]);
    packet.extend(b"PXEClient");
    packet.extend([93, 2, 0, 7, 255]);
    packet.resize(548, 0);
    socket
        .send_to(&packet, "255.255.255.255:67")
        .map(drop)
        .context("cannot send")
}

/// `true` when a client is done.
fn hear(socket: &UdpSocket, states: &mut [State], packet: &[u8]) -> Result<bool> {
    let [2, 1, 6, _, 0xb0, 0x07, high, low, ..] = packet else {
        return Ok(false);
    };
    let client = u16::from_be_bytes([*high, *low]);
    let (Some(state), Some(address)) = (states.get_mut(usize::from(client)), packet.get(16..20)) else {
        bail!("an answer for the client {client}, which there is not");
    };
    match (*state, message_type(packet)) {
        (State::Asked, Some(2)) => {
            *state = State::Offered([address[0], address[1], address[2], address[3]]);
            say(socket, client, *state)?;
            Ok(false)
        }
        (State::Offered(offered), Some(5)) => {
            ensure!(
                offered == address,
                "client {client} was offered {offered:?} and given {address:?}"
            );
            *state = State::Bound;
            Ok(true)
        }
        (_, Some(6)) => bail!("client {client} was refused its address"),
        _ => Ok(false),
    }
}

fn message_type(packet: &[u8]) -> Option<u8> {
    let mut rest = packet.get(240..)?;
    while let [code, length, after @ ..] = rest {
        if *code == 53 {
            return after.first().copied();
        }
        rest = after.get(usize::from(*length)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perfdhcp_says() {
        let said = "***Rate statistics***\nRate: 1999.33 4-way exchanges/second, expected rate: 2000\n\n\
            ***Statistics for: DISCOVER-OFFER***\nsent packets: 6000\nreceived packets: 5990\ndrops: 10\ndrops ratio: 0.166667 %\norphans: 0\n\n\
            ***Statistics for: REQUEST-ACK***\nsent packets: 5990\nreceived packets: 5980\ndrops: 10\ndrops ratio: 0.2 %\norphans: 0\n";
        let offered = parse(said).unwrap();
        assert_eq!(
            (offered.rate, offered.exchanges, offered.drops),
            (1999.33, 5980.0, 0.2)
        );
        assert!(parse("nonsense").is_err());
    }
}
