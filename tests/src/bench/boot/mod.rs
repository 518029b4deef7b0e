//! `cargo xtask bench boot`: what a thousand servers meet when they are powered on at once, against the usual servers for each protocol.
//!
//! One wire (a veth pair of 1500 bytes) between two namespaces; at one end one server at a time, at the other the load. Each thing is measured
//! [`ROUNDS`] times, ours and the peers in turn, and the medians are compared, because other work on the machine disturbs whole seconds.

mod dhcp;
mod http;
mod servers;
mod tftp;
mod wire;

use super::{Goal, Measurement, median, process};
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::digest::Sha256;
use servers::{Places, Server};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::{SERVER, Wire};

/// What a DHCP server gets of one core where it is held.
const DHCP_SHARE: f64 = 0.25;
const ROUNDS: usize = 3;
const MIB: f64 = (1 << 20) as f64;
const SMALL: &str = "bench/small";
const LARGE: &str = "vmlinuz";

/// The bench's own files.
struct Files {
    folder: PathBuf,
    small: Vec<u8>,
    large: Vec<u8>,
}

/// Measures `parts`, or everything when it names none, and says the rows.
///
/// # Errors
/// When a server or client fails: a bench has no partial result.
pub fn run(parts: &[String]) -> Result<()> {
    let wanted = super::parts(parts, &["tftp", "http", "dhcp", "storm"])?;
    let peers = std::env::var_os("LEASEBOOT_PEERS").context("run this by `cargo xtask bench boot`")?;
    let scratch = tempfile::tempdir().context("cannot make a folder for the bench")?;
    let files = Files::make(&scratch.path().join("files"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let wire = runtime.block_on(Wire::lay())?;
    let _at_clients = wire.go_to_clients()?;
    let places = Places {
        wire: &wire,
        folder: scratch.path(),
        peers: peers.into(),
        files: &files.folder,
    };
    if wanted("tftp") {
        tftp_rows(&places, &files)?;
    }
    if wanted("http") {
        http_row(&places, &files)?;
    }
    if wanted("dhcp") {
        dhcp_rows(&places)?;
    }
    if wanted("storm") {
        runtime.block_on(storm_rows(&places, &files))?;
    }
    Ok(())
}

impl Files {
    /// A folder as `cargo xtask image` leaves it: 1 MiB for TFTP, 64 MiB for HTTP.
    fn make(folder: &Path) -> Result<Self> {
        let files = Self {
            folder: folder.to_owned(),
            small: content(1 << 20),
            large: content(64 << 20),
        };
        let all: [(&str, &[u8]); 3] = [
            (SMALL, &files.small),
            (LARGE, &files.large),
            ("stage1.img", b"tiny"),
        ];
        let mut entries = Vec::new();
        for (name, bytes) in all {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))?;
            }
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            entries
                .push(serde_json::json!({ "name": name, "size": bytes.len(), "sha256": Sha256::of(bytes) }));
        }
        let manifest = serde_json::json!({ "version": 1, "files": entries });
        std::fs::write(folder.join("manifest.json"), manifest.to_string())
            .context("cannot write the manifest")?;
        Ok(files)
    }
}

/// Bytes that repeat nowhere near a block's length.
fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index.wrapping_mul(0x9e37_79b9) >> 11) as u8)
        .collect()
}

#[derive(Clone, Copy)]
enum TftpServer {
    Ours,
    Dnsmasq,
    Atftpd,
    Hpa,
}

/// One server's numbers in one kind of load.
#[derive(Default)]
struct Tally {
    /// MiB per CPU second.
    per_cpu: Vec<f64>,
    /// Seconds.
    wall: Vec<f64>,
    /// MB.
    peak: Vec<f64>,
}

impl TftpServer {
    fn start(self, places: &Places<'_>, files: &Files) -> Result<Server> {
        let server = match self {
            TftpServer::Ours => places.lease_manager(|_, _| {}),
            TftpServer::Dnsmasq => places.dnsmasq_tftp(),
            TftpServer::Atftpd => places.atftpd(),
            TftpServer::Hpa => places.tftpd_hpa(),
        }?;
        // A first transfer shows that it is there, and brings its code and the file into memory.
        let probe = load(files, 1, 1, Duration::from_millis(1500));
        server.ready(|| Ok(tftp::run(&probe).is_ok()))
    }
}

fn load(files: &Files, clients: usize, window: u16, within: Duration) -> tftp::Load<'_> {
    tftp::Load {
        server: SERVER,
        clients,
        window,
        name: SMALL,
        content: &files.small,
        within,
    }
}

/// Runs a load `times` times against a server that has just been started.
fn tally(
    server: TftpServer,
    places: &Places<'_>,
    files: &Files,
    load: &tftp::Load<'_>,
    times: u32,
    into: &mut Tally,
) -> Result<()> {
    let server = server.start(places, files)?;
    process::forget_peak(server.pid())?;
    let before = server.cpu_seconds()?;
    let (mut bytes, mut wall, mut repeated) = (0, 0.0, 0);
    for _ in 0..times {
        let outcome = tftp::run(load).with_context(|| format!("against {}", server.name()))?;
        bytes += outcome.bytes;
        wall += outcome.wall.as_secs_f64();
        repeated += outcome.repeated;
    }
    let cpu = server.cpu_seconds()? - before;
    let (per_cpu, peak) = (
        bytes as f64 / MIB / cpu.max(0.01),
        process::peak_memory(server.pid())?,
    );
    println!(
        "TFTP {} clients, window {:>2}: {:<12} {per_cpu:>6.0} MiB/CPU-s  {wall:>6.2} s  {repeated:>4} said again  {peak:>5.1} MB",
        load.clients,
        load.window,
        server.name()
    );
    into.per_cpu.push(per_cpu);
    into.wall.push(wall);
    into.peak.push(peak);
    Ok(())
}

/// Ours first.
const TFTP_SERVERS: [(TftpServer, &str); 4] = [
    (TftpServer::Ours, "ours"),
    (TftpServer::Dnsmasq, "dnsmasq"),
    (TftpServer::Atftpd, "atftpd"),
    (TftpServer::Hpa, "tftpd-hpa"),
];

/// All servers under one load, in turn; a tally for each.
fn tallies(places: &Places<'_>, files: &Files, load: &tftp::Load<'_>, times: u32) -> Result<Vec<Tally>> {
    let mut tallies: Vec<Tally> = TFTP_SERVERS.iter().map(|_| Tally::default()).collect();
    for _ in 0..ROUNDS {
        for ((server, _), into) in TFTP_SERVERS.iter().zip(&mut tallies) {
            tally(*server, places, files, load, times, into)?;
        }
    }
    Ok(tallies)
}

/// A row for each peer; the goals are in the peers' order.
fn say_tftp(
    what: &str,
    unit: &str,
    tallies: &[Tally],
    value: fn(&Tally) -> &Vec<f64>,
    goals: [Option<Goal>; 3],
) -> Result<()> {
    let ours = median(value(&tallies[0]).clone());
    for (((_, peer), theirs), goal) in TFTP_SERVERS.iter().zip(tallies).skip(1).zip(goals) {
        let name = format!("TFTP {what}, against {peer}");
        let mut row = Measurement::new(name, unit, ours).against(*peer, median(value(theirs).clone()));
        row.goal = goal;
        row.say()?;
    }
    Ok(())
}

fn tftp_rows(places: &Places<'_>, files: &Files) -> Result<()> {
    let minute = Duration::from_secs(60);
    let measure =
        |clients, window, times| tallies(places, files, &load(files, clients, window, minute), times);
    let per_cpu: fn(&Tally) -> &Vec<f64> = |tally| &tally.per_cpu;
    let goals = [Some(Goal::RatioAtLeast(3.0)), None, None];
    say_tftp(
        "64 clients, lockstep",
        "MiB/CPU-s",
        &measure(64, 1, 4)?,
        per_cpu,
        goals,
    )?;
    let goals = [None, Some(Goal::RatioAtLeast(1.5)), None];
    say_tftp(
        "64 clients, windowsize 64",
        "MiB/CPU-s",
        &measure(64, 64, 4)?,
        per_cpu,
        goals,
    )?;
    let (storm, name) = (measure(1000, 4, 1)?, "1,000 clients × 1 MiB, windowsize 4, wall");
    let goals = [None, Some(Goal::RatioAtMost(0.5)), None];
    say_tftp(name, "s", &storm, |tally| &tally.wall, goals)?;
    Measurement::new(
        "memory of the whole Lease Manager in that storm, peak",
        "MB",
        median(storm[0].peak.clone()),
    )
    .against("atftpd", median(storm[2].peak.clone()))
    .goal(Goal::AtMost(32.0))
    .say()?;
    Ok(())
}

/// CPU seconds per GiB over four connections, one after the other.
fn http_row(places: &Places<'_>, files: &Files) -> Result<()> {
    let (mut ours, mut nginxs) = (Vec::new(), Vec::new());
    let our_path = format!("/boot/files/{}/{LARGE}", Sha256::of(&files.large));
    for _ in 0..ROUNDS {
        let server = places.lease_manager(|_, _| {})?;
        ours.push(http_cost(&server, &our_path, files)?);
        drop(server);
        let server = places.nginx()?;
        let path = format!("/{LARGE}");
        let server = server.ready(|| Ok(http::fetch(SERVER, &path, files.large.len() as u64, 1).is_ok()))?;
        nginxs.push(http_cost(&server, &path, files)?);
    }
    Measurement::new("HTTP, a boot file of 64 MiB", "CPU-s/GiB", median(ours))
        .against("nginx", median(nginxs))
        .goal(Goal::RatioAtMost(1.0))
        .say()?;
    Ok(())
}

fn http_cost(server: &Server, path: &str, files: &Files) -> Result<f64> {
    let length = files.large.len() as u64;
    http::fetch(SERVER, path, length, 1)?;
    let before = server.cpu_seconds()?;
    let mut bytes = 0;
    for _ in 0..4 {
        bytes += http::fetch(SERVER, path, length, 16)?;
    }
    let cost = (server.cpu_seconds()? - before) / (bytes as f64 / MIB / 1024.0);
    ensure!(cost.is_finite(), "nothing was fetched");
    println!("HTTP 64 MiB: {:<12} {cost:.3} CPU-s/GiB", server.name());
    Ok(cost)
}

/// Strangers' addresses, as many as the LM gives, which the peers' ranges begin with too.
fn with_pool(table: &mut toml::Table) {
    let mut pool = toml::Table::new();
    pool.insert("first".to_owned(), "10.77.16.1".into());
    pool.insert("last".to_owned(), "10.77.19.255".into());
    let dhcp = table.entry("dhcp").or_insert_with(|| toml::Table::new().into());
    if let Some(dhcp) = dhcp.as_table_mut() {
        dhcp.insert("pool".to_owned(), pool.into());
    }
}

/// `perfdhcp` uses more CPU for an exchange than either server does, and on two cores it is what ends first. So each server is measured
/// twice: free, and held to a part of one core that `perfdhcp` can outrun.
fn dhcp_rows(places: &Places<'_>) -> Result<()> {
    let name = "DHCP, four-way exchanges at under 2.5 % drops";
    let free = dhcp_round(places, Ok)?;
    let held = dhcp_round(places, |server| server.held_to(DHCP_SHARE))?;
    let held_name = format!(
        "{name}, each held to {:.0} % of a core, against",
        DHCP_SHARE * 100.0
    );
    Measurement::new(format!("{held_name} kea"), "1/s", held[0].rate)
        .against("kea", held[1].rate)
        .goal(Goal::RatioAtLeast(2.0))
        .say()?;
    Measurement::new(format!("{held_name} dnsmasq"), "1/s", held[0].rate)
        .against("dnsmasq", held[2].rate)
        .say()?;
    Measurement::new(
        format!("{name}, as fast as perfdhcp asks, against kea"),
        "1/s",
        free[0].rate,
    )
    .against("kea", free[1].rate)
    .say()?;
    Measurement::new(
        "DHCP, CPU of the server for a million of them",
        "CPU-s",
        free[0].cpu_per_million,
    )
    .against("kea", free[1].cpu_per_million)
    .say()?;
    Ok(())
}

/// Ours, Kea and dnsmasq, one after the other, each as `prepare` leaves it.
fn dhcp_round(
    places: &Places<'_>,
    prepare: impl Fn(Server) -> Result<Server>,
) -> Result<[dhcp::Exchanges; 3]> {
    let measure = |server: Server| dhcp::exchanges(places.wire, &prepare(server)?);
    let served = || Ok(dhcp::is_served(places.wire));
    Ok([
        measure(places.lease_manager(|table, _| with_pool(table))?)?,
        measure(places.kea()?.ready(served)?)?,
        measure(places.dnsmasq_dhcp()?.ready(served)?)?,
    ])
}

/// A thousand servers at once, from the first DISCOVER to the last byte of kernel and image. Any that is left out is an error.
async fn storm_rows(places: &Places<'_>, files: &Files) -> Result<()> {
    let server = places.lease_manager(|table, _| with_pool(table))?;
    process::forget_peak(server.pid())?;
    let dhcp = dhcp::storm(1000)?;
    println!("storm: DHCP {:?}, {} said again", dhcp.wall, dhcp.repeated);
    let tftp = tftp::run(&load(files, 1000, 4, Duration::from_secs(60)))?;
    println!("storm: TFTP {:?}, {} said again", tftp.wall, tftp.repeated);
    let path = format!("/boot/files/{}/{LARGE}", Sha256::of(&files.large));
    let http = http::storm(SERVER, &path, 8 << 20, 1000).await?;
    println!("storm: HTTP {http:?}");
    let name = "1,000 servers at once:";
    for (what, wall) in [
        ("the last has its address by DHCP", dhcp.wall),
        ("the last has 1 MiB by TFTP", tftp.wall),
        ("the last has 8 MiB by HTTP", http),
    ] {
        Measurement::new(format!("{name} {what}"), "s", wall.as_secs_f64())
            .goal(Goal::AtMost(60.0))
            .say()?;
    }
    let peak = process::peak_memory(server.pid())?;
    Measurement::new(format!("{name} memory of the Lease Manager, peak"), "MB", peak).say()?;
    Ok(())
}
