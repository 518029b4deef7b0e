//! `cargo xtask bench fleet`: ten thousand servers boot, report and are installed against one Lease Manager, on SQLite and then on PostgreSQL.
//!
//! ```text
//!  one namespace, on whose loopback interface the whole of 10.77.0.0/16 is at home
//!  ┌─────────────────────────┐                   ┌─────────────────────────────────────────────────┐
//!  │ leaseboot-lm serve,     │ ◄── mutual TLS ── │ ten tenants: borrow, settings, boot, …          │
//!  │ as it is shipped        │ ── magic packet ► │ the switchboard wakes the server that is meant  │
//!  │                         │ ◄──── HTTP ────── │ firmware: boot script, site archive             │
//!  │                         │ ◄──── TLS ─────── │ agents: hello, key, kickstart, reports          │
//!  └─────────────────────────┘                   └─────────────────────────────────────────────────┘
//! ```
//!
//! The load is open: server number n begins at n / rate seconds and does everything at its time in the timetable ([`life`]), however slow the answers are; each
//! answer's time counts from when its question was due. Load and Lease Manager share the machine's processors, so what is measured includes waiting for them.
//!
//! | module | what |
//! |---|---|
//! | `lender`, `program` | the namespace, the Lease Manager's settings, its process |
//! | `world` | what all servers share |
//! | `life` | one server, from borrowing to in service: the timetable, and what it leaves out |
//! | `wire` | how each of them connects |
//! | `numbered` | names, cards, addresses and hardware by number |
//! | `tally` | how long it all took |

mod lender;
mod life;
mod numbered;
mod program;
mod tally;
mod wire;
mod world;

use super::{Goal, Measurement};
use crate::postgres::Cluster;
use anyhow::{Context as _, Result};
use lender::{Lender, Site};
use life::{Life, REPORTS};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally::{Asked, Times};
use tokio::task::JoinSet;
use tokio::time::Instant;
use world::World;

/// Where the Lease Manager tells its numbers.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);
/// Failures that are shown.
const SHOWN: usize = 5;

/// How large and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Servers of the fleet; each is borrowed once.
    pub servers: usize,
    /// Lives that begin in a second.
    pub per_second: f64,
    /// How much faster than the timetable each life is.
    pub haste: f64,
    /// Every so many leases, one whose tenant waits for its events all the time.
    pub followed: usize,
}

/// Where the Lease Manager keeps what it must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file.
    Sqlite,
    /// A PostgreSQL of our own.
    Postgres,
}

/// What came of it.
pub struct Outcome {
    /// Servers in service at the end, as the Lease Manager counts them.
    pub in_service: usize,
    /// What stopped those that are not.
    pub failures: Vec<String>,
    /// From the first request to the last answer.
    pub wall: Duration,
    /// CPU seconds of the Lease Manager meanwhile.
    pub cpu: f64,
    /// The memory of the Lease Manager at its peak beyond that with an empty fleet, in bytes.
    pub memory: f64,
    times: BTreeMap<Asked, Times>,
}

/// Measures `parts`, or both back ends when it names none, and says the rows.
///
/// # Errors
/// When the Lease Manager cannot be run; servers that do not reach their end are counted.
pub fn run(parts: &[String]) -> Result<()> {
    let wanted = super::parts(parts, &["sqlite", "postgresql"])?;
    for (backing, name, per_second) in [
        (Backing::Sqlite, "SQLite", 20.0),
        (Backing::Postgres, "PostgreSQL", 20.0),
    ] {
        if wanted(&name.to_lowercase()) {
            let plan = Plan {
                servers: given("LEASEBOOT_FLEET_SERVERS", 10_000)?,
                per_second: given("LEASEBOOT_FLEET_RATE", per_second)?,
                haste: 1.0,
                followed: given("LEASEBOOT_FLEET_FOLLOWED", 10)?,
            };
            say(name, plan, &simulate(plan, backing)?)?;
        }
    }
    Ok(())
}

/// A number of the plan, or another that was given to try something out.
fn given<T: std::str::FromStr>(variable: &str, usual: T) -> Result<T> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .ok()
            .with_context(|| format!("{variable} is {text:?}")),
        Err(_) => Ok(usual),
    }
}

fn say(name: &str, plan: Plan, outcome: &Outcome) -> Result<()> {
    let servers = plan.servers as f64;
    let rate = plan.per_second * REPORTS as f64;
    let p99 = outcome
        .times
        .get(&Asked::Progress)
        .map_or(f64::INFINITY, |times| times.quantile(0.99));
    let row = |what: String, unit, ours| {
        Measurement::new(format!("{name}, {} servers: {what}", plan.servers), unit, ours)
    };
    let rows = [
        row(
            "in service in the end".to_owned(),
            "servers",
            outcome.in_service as f64,
        )
        .goal(Goal::AtLeast(servers)),
        row(
            "memory of the Lease Manager for each".to_owned(),
            "KiB",
            outcome.memory / 1024.0 / servers,
        )
        .goal(Goal::AtMost(64.0)),
        row(format!("a progress post, p99 at {rate:.0}/s"), "ms", p99).goal(Goal::AtMost(50.0)),
        row(
            format!("from first to last, {} begun a second", plan.per_second),
            "s",
            outcome.wall.as_secs_f64(),
        ),
        row(
            "CPU of the Lease Manager for each".to_owned(),
            "ms",
            outcome.cpu * 1000.0 / servers,
        ),
    ];
    for row in rows {
        row.say()?;
    }
    Ok(())
}

/// Runs a fleet to its end, in a namespace of its own.
///
/// # Errors
/// When the Lease Manager cannot be run, or ends early.
pub fn simulate(plan: Plan, backing: Backing) -> Result<Outcome> {
    raise_limit()?;
    let cluster = match backing {
        Backing::Sqlite => None,
        Backing::Postgres => Some(Cluster::start()?),
    };
    let store = cluster.as_ref().map(Cluster::database);
    let scratch = tempfile::tempdir().context("cannot make a folder for the bench")?;
    let site = Site::lay()?;
    site.inside(|| measure(plan, backing, scratch.path(), store.as_deref()))
}

fn measure(plan: Plan, backing: Backing, folder: &Path, store: Option<&str>) -> Result<Outcome> {
    let lender = Lender::prepare(folder, store)?;
    let empty = lender.start()?.0.memory()?;
    lender.declare(plan.servers)?;
    let (program, ready) = lender.start()?;
    println!(
        "{backing:?}: {} servers declared, ready after {ready:.1?}, {:.1} MB; with an empty fleet {:.1} MB",
        plan.servers,
        program.memory()? / 1e6,
        empty / 1e6
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut world = lender.world(plan.servers)?;
    (world.haste, world.followed) = (plan.haste, plan.followed);
    let before = program.cpu_seconds()?;
    let (times, failures, wall) = runtime.block_on(drive(plan, Arc::new(world)))?;
    let cpu = program.cpu_seconds()? - before;
    for (asked, times) in &times {
        println!("{backing:?}: {asked:<9?} {times}");
    }
    for failure in failures.iter().take(SHOWN) {
        println!("{backing:?}: {failure}");
    }
    Ok(Outcome {
        in_service: runtime.block_on(in_service())?,
        failures,
        wall,
        cpu,
        memory: program.peak_memory()? - empty,
        times,
    })
}

async fn drive(plan: Plan, world: Arc<World>) -> Result<(BTreeMap<Asked, Times>, Vec<String>, Duration)> {
    let socket = world::switchboard().await?;
    let mut board = JoinSet::new();
    board.spawn(world::wake(world.clone(), socket));
    let begun = Instant::now();
    let mut lives = JoinSet::new();
    for number in 0..plan.servers {
        let at = begun + Duration::from_secs_f64(number as f64 / plan.per_second);
        tokio::time::sleep_until(at).await;
        lives.spawn(Life::new(world.clone(), number, at).live());
    }
    let mut failures = Vec::new();
    while let Some(ended) = lives.join_next().await {
        if let Err(error) = ended.context("a life panicked")? {
            failures.push(format!("{error:#}"));
        }
    }
    Ok((world.tally.times(), failures, begun.elapsed()))
}

/// Leases in service, as the Lease Manager tells whoever scrapes it.
async fn in_service() -> Result<usize> {
    let text = wire::fetch(Ipv4Addr::LOCALHOST, METRICS, "/metrics").await?;
    let text = String::from_utf8_lossy(&text);
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("leaseboot_lm_leases{state=\"in-service\"} "));
    count.map_or(Ok(0), |count| count.parse().context("a metric is no number"))
}

/// Thousands of connections at once need as many file descriptors, here and in the Lease Manager, which inherits the limit.
fn raise_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot ask for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}
