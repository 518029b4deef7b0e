//! `leaseboot-po serve`: the daemon. It says `leaseboot-po ready` once everything is bound and every borrowing is taken up again.

use super::ConfigArg;
use anyhow::{Context, bail};
use clap::Args;
use futures_util::FutureExt as _;
use leaseboot_console::socket;
use leaseboot_po::announce::{Announcer, http_sd};
use leaseboot_po::borrowing::choice::Lenders;
use leaseboot_po::borrowing::driver::Surroundings;
use leaseboot_po::cache::{self, Cache};
use leaseboot_po::config::{PoConfig, Profile, read_sealed};
use leaseboot_po::control::server;
use leaseboot_po::events::{self, listener::Admission};
use leaseboot_po::gateway::{self, KeyClaims, listener, service};
use leaseboot_po::lender::Lender;
use leaseboot_po::organizer::Organizer;
use leaseboot_po::passage::Passage;
use leaseboot_po::policy::{self, desk::Desk};
use leaseboot_po::store::Store;
use leaseboot_tunnel::Plane;
use nix::sys::stat::{Mode, umask};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// boringtun warns of every handshake that is repeated: a server that reboots makes many.
const USUAL_LOG: &str = "info,boringtun=error";

/// Serve: the gateway, and the transfers
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArg,
    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// How a line is written.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

impl LogFormat {
    fn start(self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(USUAL_LOG));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
    }
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.log_format.start();
        // The store and the control socket are nobody else's.
        umask(Mode::from_bits_truncate(0o077));
        let config = self.config.load()?;
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(serve(config))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn serve(config: PoConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let control = socket::bind(config.control_socket()).await?;
    let (organizer, inside, passage) = start(&config, stop.clone()).await?;
    report_broken_profiles(&config);
    let cache = Arc::new(Cache::open(&config.folder.join("cache"), &config.caches)?);
    let desk = organizer.desk(&config);
    let mut tasks = spawn(&organizer, &desk, cache, inside, control, &stop);
    let stopped = stop.clone();
    tasks.spawn(async move {
        passage.look_after(stopped).await;
        Ok(())
    });
    if let Some(listen) = config.announce.listen {
        let targets = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot serve Prometheus on {listen}: check `listen` of [announce] in po.toml")
        })?;
        let router = http_sd::router(organizer.roster());
        tasks.spawn(listener::run(targets, router, stop.clone()).map(Ok));
    }
    hear_events(&mut tasks, &config, desk, &stop).await?;
    println!("leaseboot-po ready");
    // Goal: serve until told to stop, or until a part ends that should not. Nothing here holds state.
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = tasks.join_next() => ended,
    };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    organizer.wait().await;
    let _ = std::fs::remove_file(config.control_socket());
    match ended {
        None => Ok(()),
        Some(ended) => {
            ended.context("a part of the daemon panicked")??;
            bail!("a part of the daemon ended by itself");
        }
    }
}

/// Everything up to the first request: tunnel, store, and the borrowings where they were left.
async fn start(
    config: &PoConfig,
    stop: CancellationToken,
) -> anyhow::Result<(Arc<Organizer<Plane>>, TcpListener, Passage)> {
    let key = gateway::read_key(&config.gateway.private_key)?;
    let public_key = key.public();
    let mut lenders = Vec::new();
    for lender in &config.lenders {
        tracing::info!(name = lender.name, url = lender.url, "a lender");
        lenders.push((lender.name.clone(), Lender::new(lender)?));
    }
    let store = Store::open(&config.folder.join("po.sqlite")).await?;
    let interface = &config.gateway.interface;
    let passage = Passage::prepare(interface, config.gateway.service(), &config.install_servers).await?;
    // Before a peer is let in: what is not open yet must not pass.
    let records = store.all().await?;
    let living = records.iter().filter(|record| !record.state.is_over());
    passage
        .begin(living.map(|record| (&record.order, &record.state)))
        .await?;
    let peers = gateway::start(&config.gateway, key).await?;
    let inside = listener::bind(config.gateway.service().into(), Some(&config.gateway.interface))?;
    let surroundings = Surroundings {
        store,
        lenders: Lenders::new(lenders),
        peers,
        claims: KeyClaims::new(public_key),
        passage: passage.clone(),
        announcer: Announcer::new(config.folder.join("hosts"), config.announce.clone()),
    };
    let organizer = Organizer::start(
        config.folder.clone(),
        config.gateway.clone(),
        public_key,
        surroundings,
        stop,
    )
    .await?;
    tracing::info!(endpoint = %config.gateway.endpoint, tunnel = %config.gateway.tunnel, key = %public_key, "the gateway is up");
    Ok((organizer, inside, passage))
}

fn spawn(
    organizer: &Arc<Organizer<Plane>>,
    desk: &Arc<Desk>,
    cache: Arc<Cache>,
    inside: TcpListener,
    control: UnixListener,
    stop: &CancellationToken,
) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    let router = service::router(Arc::clone(organizer)).merge(cache::router(Arc::clone(organizer), cache));
    let stopped = stop.clone();
    tasks.spawn(async move {
        listener::run(inside, router, stopped).await;
        Ok(())
    });
    let further = policy::control::router(Arc::clone(desk));
    let served = server::run_with(control, Arc::clone(organizer), further, stop.clone());
    tasks.spawn(async move { served.await.context("the control socket failed") });
    let driven = policy::driver::run(Arc::clone(desk), Arc::clone(organizer), stop.clone());
    tasks.spawn(async move {
        driven.await;
        Ok(())
    });
    tasks
}

/// Opens the door for the enterprise's services, where po.toml has one.
async fn hear_events(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    config: &PoConfig,
    desk: Arc<Desk>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(events) = &config.events else {
        return Ok(());
    };
    let admission = Admission {
        token: events.token.as_deref().map(read_sealed).transpose()?,
        tunnel: config.gateway.tunnel,
    };
    let door = events::listener::bind(events.listen).await?;
    tracing::info!(listen = %events.listen, token = admission.token.is_some(), "events are heard");
    let router = events::listener::router(desk, admission);
    let stopped = stop.clone();
    tasks.spawn(async move {
        listener::run(door, router, stopped).await;
        Ok(())
    });
    Ok(())
}

/// A broken profile must not keep the members' gateway from starting again: whoever borrows by it gets the error.
fn report_broken_profiles(config: &PoConfig) {
    let folders = std::fs::read_dir(config.folder.join("profiles"));
    let names = folders
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names {
        match Profile::load(&config.folder, &name) {
            Ok(_) => tracing::info!(profile = name, "the profile is ready"),
            Err(error) => tracing::warn!(
                error = leaseboot_po::error_chain(&error),
                "the profile cannot be used"
            ),
        }
    }
}
