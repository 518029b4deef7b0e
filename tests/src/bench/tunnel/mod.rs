//! `cargo xtask bench tunnel`: TCP through a tunnel between two namespaces on one machine, ours and the peers' in one run.
//!
//! ```text
//!  near                                          far
//!  iperf3 ─ TCP ─ TUN ─ plane ─ UDP ═ veth pair ═ UDP ─ plane ─ TUN ─ TCP ─ iperf3
//!  ping                                                                   (the kernel answers)
//! ```
//!
//! Both ends, and the load, share the machine's processors, so what limits a plane is what all of them cost together. The rounds are interleaved: whatever else the machine does
//! meets each plane alike. A plane's CPU is that of its two processes by their control groups; what the kernel does for a packet in their time is in it, for all alike.
//!
//! | module | what |
//! |---|---|
//! | `wire` | the namespaces and the transit |
//! | `planes` | the processes at both ends |
//! | `load` | iperf3 and ping |
//! | `crowd` | 500 peers at one gateway |
//! | `guest` | the kernel's WireGuard, in a virtual machine |

mod crowd;
mod guest;
mod load;
mod planes;
mod wire;

use super::{Goal, Measurement, median};
use anyhow::{Context as _, Result};
use load::Round;
use planes::{Places, Plane};
use std::path::PathBuf;
use wire::{End, Wire};

const ROUNDS: usize = 3;
const SECONDS: u32 = 5;

/// Measures `parts`, or all when it names none, and says the rows.
///
/// # Errors
/// When a plane cannot be run, or carries nothing.
pub fn run(parts: &[String]) -> Result<()> {
    let wanted = super::parts(parts, &["tcp", "crowd", "guest"])?;
    let scratch = tempfile::tempdir().context("cannot make a folder for the bench")?;
    let wire = Wire::lay()?;
    let places = Places {
        wire: &wire,
        folder: scratch.path(),
        crates: folder_of("LEASEBOOT_PEER_CRATES")?,
        ours: folder_of("LEASEBOOT_BIN_DIR")?.join("plane"),
        swarm: folder_of("LEASEBOOT_BIN_DIR")?.join("swarm"),
    };
    places.make_keys()?;
    if wanted("tcp") {
        tcp_rows(&places)?;
    }
    if wanted("crowd") {
        crowd_rows(&places)?;
    }
    if wanted("guest") {
        let [near, far] = End::BOTH.map(|end| (places.key(end), places.public(end)));
        let keys = [(near.0.as_path(), &*near.1?), (far.0.as_path(), &*far.1?)];
        guest::row(&folder_of("LEASEBOOT_BIN_DIR")?, keys)?;
    }
    Ok(())
}

fn folder_of(variable: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set: run this by `cargo xtask bench tunnel`"))?;
    Ok(folder.into())
}

/// What all rounds gave, by plane.
struct Tally {
    rate: f64,
    cost: f64,
    echo: f64,
    late_echo: f64,
}

impl Tally {
    fn of(rounds: &[Round]) -> Self {
        let middle = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
        Self {
            rate: middle(|round| round.rate),
            cost: middle(|round| round.cost),
            echo: middle(|round| round.echo.map_or(f64::INFINITY, |echo| echo.0)),
            late_echo: middle(|round| round.echo.map_or(f64::INFINITY, |echo| echo.1)),
        }
    }
}

fn tcp_rows(places: &Places<'_>) -> Result<()> {
    let mut rounds: [Vec<Round>; Plane::ALL.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (plane, rounds) in Plane::ALL.into_iter().zip(&mut rounds) {
            let running = places.start(plane)?;
            let round = load::round(places.wire, &running, SECONDS)
                .with_context(|| format!("cannot measure {}", plane.name()))?;
            println!("{:<14} {round:.2?}", plane.name());
            rounds.push(round);
        }
    }
    let tallies = rounds.map(|rounds| Tally::of(&rounds));
    let of = |plane: Plane| &tallies[Plane::ALL.iter().position(|other| *other == plane).unwrap_or(0)];
    let ours = of(Plane::Ours);
    let row = |what: &str, unit: &str, value: fn(&Tally) -> f64, peer: Plane, goal: Option<Goal>| {
        let name = format!("{what}, against {}", peer.name());
        let mut row = Measurement::new(name, unit, value(ours)).against(peer.name(), value(of(peer)));
        row.goal = goal;
        row.say()
    };
    let goal = |peer, goal| (peer == Plane::Gotatun).then_some(goal);
    for peer in [
        Plane::Gotatun,
        Plane::Boringtun,
        Plane::WireguardGo,
        Plane::NoTunnel,
    ] {
        let least = goal(peer, Goal::RatioAtLeast(4.0));
        row("TCP, one connection", "Gbit/s", |tally| tally.rate, peer, least)?;
    }
    for peer in [Plane::Gotatun, Plane::Boringtun, Plane::WireguardGo] {
        let most = goal(peer, Goal::RatioAtMost(0.25));
        row("CPU of both ends", "CPU-s/GiB", |tally| tally.cost, peer, most)?;
    }
    for peer in [Plane::Gotatun, Plane::NoTunnel] {
        row(
            "an echo meanwhile, the middle",
            "ms",
            |tally| tally.echo,
            peer,
            None,
        )?;
        row(
            "an echo meanwhile, p99",
            "ms",
            |tally| tally.late_echo,
            peer,
            None,
        )?;
    }
    Ok(())
}

fn crowd_rows(places: &Places<'_>) -> Result<()> {
    let peers = crowd::peers(places)?;
    let measure = |plane: Plane| {
        let crowd = crowd::measure(places, plane, &peers)
            .with_context(|| format!("cannot measure {} with a crowd", plane.name()))?;
        println!("{:<14} {crowd:.2?}", plane.name());
        anyhow::Ok(crowd)
    };
    let ours = measure(Plane::Ours)?;
    for peer in [Plane::Gotatun, Plane::WireguardGo] {
        let theirs = measure(peer)?;
        for (what, unit, ours, theirs) in [
            ("echoes of 1,200 bytes", "1,000/s", ours.rate, theirs.rate),
            (
                "CPU of the gateway for a million",
                "CPU-s",
                ours.cost,
                theirs.cost,
            ),
            ("served within 20 s", "peers", ours.served, theirs.served),
            ("until the last of them was", "s", ours.ready, theirs.ready),
        ] {
            Measurement::new(
                format!("500 peers at once, {what}, against {}", peer.name()),
                unit,
                ours,
            )
            .against(peer.name(), theirs)
            .say()?;
        }
    }
    Ok(())
}
