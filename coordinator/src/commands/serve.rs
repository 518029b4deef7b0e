//! `leaseboot-lm serve`: every service in one process. All sockets are taken before the first is served; the end of any service ends the
//! process, because a Lease Manager without one of them would leave servers standing in the dark.

use super::ConfigPath;
use crate::api::{self, Api};
use crate::boot::{BootFiles, BootHttp, BootService};
use crate::config::{Config, Wire};
use crate::console;
use crate::dhcp::{self, DhcpConfig, DhcpService, DhcpSettings};
use crate::dhcp6::{self, Dhcp6Service, Dhcp6Settings};
use crate::erasure::Signer;
use crate::lease::Driver;
use crate::metrics::{CountedNames, MetricsService};
use crate::pki;
use crate::power::PowerController;
use crate::serial;
use crate::store::Store;
use crate::tftp::{self, TftpService, TftpSettings};
use anyhow::{Context as _, anyhow, bail};
use ipnet::IpNet;
use leaseboot_console::socket;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const BOOT_HTTP_PORT: u16 = 80;

/// Runs the Lease Manager
#[derive(Debug, clap::Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigPath,
    /// Where `cargo xtask image` left kernel, stage-1 image and boot loaders
    #[arg(long, value_name = "DIR")]
    boot_files: Option<PathBuf>,
}

/// Everything that is needed, all sockets bound.
struct Services {
    driver: Arc<Driver>,
    boot: Arc<BootService>,
    dhcp: DhcpService,
    tftp: TftpService,
    http: BootHttp,
    api: Api,
    /// The same by IPv6, where `lm.toml` has a `[dhcp6]` table.
    ipv6: Option<Ipv6Services>,
    metrics: MetricsService,
    console: Option<UnixListener>,
}

/// What servers meet that speak IPv6.
struct Ipv6Services {
    dhcp: Dhcp6Service,
    tftp: TftpService,
    http: BootHttp,
    /// None where the other one serves both.
    api: Option<Api>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When something is missing or taken at the start, or a service ends by itself.
pub async fn run(serve: &Serve) -> anyhow::Result<()> {
    let config = Config::load(&serve.config.config)?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let services = prepare(config, serve.boot_files.as_deref()).await?;
    let store = services.driver.store().clone();
    let stop = CancellationToken::new();
    let mut tasks = start(services, &stop);
    println!("leaseboot-lm ready");
    // Goal: the first reason to stop. What is dropped here is waiting only.
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = tasks.join_next() => Err(early_end(ended)),
    };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    store.close().await;
    outcome
}

type Ended = (&'static str, anyhow::Result<()>);

fn early_end(ended: Result<Ended, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the service {name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("the service {name} failed")),
        Err(error) => anyhow!(error).context("a service panicked"),
    }
}

async fn prepare(mut config: Config, boot_files: Option<&Path>) -> anyhow::Result<Services> {
    config.boot_files = boot_files.map(Path::to_owned).or(config.boot_files);
    let Some(files) = config.boot_files.as_deref() else {
        bail!(
            "no boot files: name the folder that `cargo xtask image` wrote with --boot-files, or as boot_files in {}",
            config.path.display()
        );
    };
    let files = BootFiles::load(files)?;
    let identity = &config.identity;
    let tls = pki::server_config(&identity.ca, &identity.certificate, &identity.key)?;
    let ca_pem = pki::read_ca(&identity.ca)?;
    check_power(&config)?;
    let store = Store::open(&config.store).await?;
    let (wire, mut dhcp) = (config.wire.clone(), config.dhcp.clone());
    let (listen, metrics) = (config.api_listen, config.metrics_listen);
    let listen6 = config.api_listen6();
    let signer = Signer::load(&config.identity.erasure_key)?;
    let console = operators(&config).await;
    let driver = Driver::new(config, store, ca_pem, signer).await?;
    let address = wire.address.addr();
    let http6 = wire
        .ipv6
        .as_ref()
        .map(|ipv6| SocketAddr::from((ipv6.address.addr(), BOOT_HTTP_PORT)));
    let http = SocketAddr::from((address, BOOT_HTTP_PORT));
    let boot = BootService::new(files, driver.clone(), http, http6)?;
    let ipv6 = match prepare_ipv6(&wire, &dhcp, &boot) {
        Some(settings) => Some(bind_ipv6(settings, listen6, tls.clone()).await?),
        None => None,
    };
    // Nobody is told that there is no IPv6 where there is.
    dhcp.answer_router_solicitations &= ipv6.is_none();
    let dhcp = DhcpSettings {
        interface: wire.interface.clone(),
        address: wire.address,
        router: wire.router,
        http_base: boot.http_base(),
        loaders: boot.loaders(),
        subnets: wire.subnets.clone(),
        config: dhcp,
    };
    let tftp = TftpSettings {
        address: address.into(),
        port: tftp::SERVER_PORT,
        clients: dhcp.networks().map(IpNet::V4).collect(),
        mtu: wire.mtu,
    };
    Ok(Services {
        dhcp: DhcpService::bind(dhcp).context(holder("udp", dhcp::SERVER_PORT))?,
        tftp: TftpService::bind(tftp).context(holder("udp", tftp::SERVER_PORT))?,
        http: BootHttp::bind(http)
            .await
            .context(holder("tcp", BOOT_HTTP_PORT))?,
        api: Api::bind(listen, tls).await?,
        ipv6,
        metrics: MetricsService::bind(metrics).await?,
        console,
        driver,
        boot,
    })
}

/// The socket of consoles. A Lease Manager whose folder is read-only, or has the socket of another one that shares the store, lends servers all the same.
async fn operators(config: &Config) -> Option<UnixListener> {
    let bound = socket::bind(super::console::socket(config)).await;
    let told = bound.inspect_err(|error| {
        let error: &dyn std::error::Error = error;
        tracing::warn!(error, "this lease manager serves no consoles");
    });
    told.ok()
}

/// The settings of IPv6 on the wire; `None` without a `[dhcp6]` table.
fn prepare_ipv6(wire: &Wire, dhcp: &DhcpConfig, boot: &BootService) -> Option<Dhcp6Settings> {
    let (config, http_base) = (wire.ipv6.clone()?, boot.http_base6()?);
    Some(Dhcp6Settings {
        interface: wire.interface.clone(),
        config,
        loaders: dhcp.clone(),
        http_base,
        programs: boot.loaders(),
        mtu: wire.mtu,
    })
}

async fn bind_ipv6(
    settings: Dhcp6Settings,
    api: Option<SocketAddr>,
    tls: Arc<rustls::ServerConfig>,
) -> anyhow::Result<Ipv6Services> {
    let address = settings.config.address.addr();
    let networks = settings.config.networks();
    let tftp = TftpSettings {
        address: address.into(),
        port: tftp::SERVER_PORT,
        clients: networks.map(|subnet| IpNet::V6(subnet.network.trunc())).collect(),
        mtu: settings.mtu,
    };
    let missing = || {
        format!("dhcp6.address is {address}: the interface must have it, `ip -6 address` shows what it has")
    };
    let http = BootHttp::bind(SocketAddr::from((address, BOOT_HTTP_PORT))).await;
    Ok(Ipv6Services {
        http: http.with_context(missing)?,
        tftp: TftpService::bind(tftp).with_context(missing)?,
        dhcp: Dhcp6Service::bind(settings).context(holder("udp", dhcp6::SERVER_PORT))?,
        api: match api {
            Some(listen) => Some(Api::bind(listen, tls).await?),
            None => None,
        },
    })
}

fn holder(protocol: &str, port: u16) -> String {
    let listing = if protocol == "udp" { "-lunp" } else { "-ltnp" };
    format!("cannot take {protocol} port {port}; `ss {listing} 'sport = :{port}'` shows who holds it")
}

/// What `servers.toml` gets wrong is told before anything runs, with its line.
fn check_power(config: &Config) -> anyhow::Result<()> {
    for server in config.servers.values() {
        PowerController::new(&server.power, &server.folder).with_context(|| {
            format!(
                "{}:{}: the server {} cannot be powered",
                config.servers_path.display(),
                server.line,
                server.name
            )
        })?;
    }
    Ok(())
}

fn start(services: Services, stop: &CancellationToken) -> JoinSet<Ended> {
    let Services {
        driver,
        boot,
        dhcp,
        tftp,
        http,
        api,
        ipv6,
        metrics,
        console,
    } = services;
    let mut tasks = JoinSet::new();
    if let Some(ipv6) = ipv6 {
        start_ipv6(&mut tasks, ipv6, &driver, &boot, stop);
    }
    let (token, directory) = (stop.clone(), driver.clone());
    // On a thread of its own, as TFTP is: in a flood it is never done, and a task that never waits keeps others of its thread, and at times
    // the runtime's look at the sockets, waiting for seconds.
    let runtime = Handle::current();
    tasks.spawn_blocking(move || {
        let served = runtime.block_on(dhcp.run(directory, token));
        ("DHCP", served.map_err(Into::into))
    });
    let (token, names) = (stop.clone(), CountedNames::new(boot.clone(), driver.clone()));
    tasks.spawn(async move { ("TFTP", tftp.run(names, token).await.map_err(Into::into)) });
    let token = stop.clone();
    tasks.spawn(async move {
        http.run(boot, token).await;
        ("boot HTTP", Ok(()))
    });
    let (token, router) = (stop.clone(), api::router(driver.clone()));
    tasks.spawn(async move {
        api.run(router, token).await;
        ("API", Ok(()))
    });
    let (token, watched) = (stop.clone(), driver.clone());
    tasks.spawn(async move {
        metrics.run(watched, token).await;
        ("metrics", Ok(()))
    });
    let (token, heard) = (stop.clone(), driver.clone());
    tasks.spawn(async move {
        serial::run(heard, token).await;
        ("serial lines", Ok(()))
    });
    if let Some(listener) = console {
        let (token, lm) = (stop.clone(), driver.clone());
        tasks.spawn(async move {
            let served = console::run(listener, lm, token).await;
            ("consoles", served.map_err(Into::into))
        });
    }
    let token = stop.clone();
    tasks.spawn(async move {
        driver.run(token).await;
        ("driver", Ok(()))
    });
    tasks
}

fn start_ipv6(
    tasks: &mut JoinSet<Ended>,
    services: Ipv6Services,
    driver: &Arc<Driver>,
    boot: &Arc<BootService>,
    stop: &CancellationToken,
) {
    let Ipv6Services {
        dhcp,
        tftp,
        http,
        api,
    } = services;
    let (token, directory, runtime) = (stop.clone(), driver.clone(), Handle::current());
    // On a thread of its own, as DHCP is.
    tasks.spawn_blocking(move || {
        let served = runtime.block_on(dhcp.run(directory, token));
        ("DHCPv6", served.map_err(Into::into))
    });
    let (token, names) = (stop.clone(), CountedNames::new(boot.clone(), driver.clone()));
    tasks.spawn(async move {
        let served = tftp.run(names, token).await;
        ("TFTP by IPv6", served.map_err(Into::into))
    });
    let (token, boot) = (stop.clone(), boot.clone());
    tasks.spawn(async move {
        http.run(boot, token).await;
        ("boot HTTP by IPv6", Ok(()))
    });
    if let Some(api) = api {
        let (token, router) = (stop.clone(), api::router(driver.clone()));
        tasks.spawn(async move {
            api.run(router, token).await;
            ("API by IPv6", Ok(()))
        });
    }
}
