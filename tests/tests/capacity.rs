//! Capacity that arrives by itself: load on a service raises an alert of a real Prometheus, a real Alertmanager tells it to the PO, two servers are
//! borrowed and answer for the service's name; the load ends, the alert resolves, and both go back and are erased. Nobody types a command.

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::routing::get;
use leaseboot_tests::daemon::Daemon;
use leaseboot_tests::lab::{INSTALLATION, Lab, Plan};
use leaseboot_tests::servers::Server;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Two installations at once on two cores.
const BOTH: Duration = INSTALLATION.saturating_mul(2);
const READY: Duration = Duration::from_secs(60);
const GIVEN_BACK: Duration = Duration::from_secs(600);
const NAMES: [&str; 2] = ["web-1", "web-2"];

const POLICY: &str = r#"
[[policy]]
name = "shop"
event = "ShopLoad"
labels = { service = "shop" }
profile = "web"
servers = 2
for = "2s"
quiet = "5s"
cooldown = "5s"

[policy.drain]
command = ["/bin/sh", "-c", "echo $* >> FOLDER/drained", "drain"]
"#;

const PROMETHEUS: &str = r#"
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ FOLDER/rules.yml ]
alerting: { alertmanagers: [ { static_configs: [ { targets: [ "127.0.0.1:9093" ] } ] } ] }
scrape_configs: [ { job_name: shop, static_configs: [ { targets: [ "127.0.0.1:8000" ] } ] } ]
"#;

const RULES: &str = r#"
groups:
- name: capacity
  rules:
  - alert: ShopLoad
    expr: sum(rate(shop_requests_total[10s])) > 2
    for: 3s
    labels: { service: shop }
"#;

const ALERTMANAGER: &str = r#"
route: { receiver: leaseboot, group_wait: 1s, group_interval: 2s, repeat_interval: 4h }
receivers: [ { name: leaseboot, webhook_configs: [ { url: "http://127.0.0.1:9470/v1/alertmanager", send_resolved: true } ] } ]
"#;

#[tokio::test]
async fn load_borrows_two_servers_that_answer_and_their_end_gives_them_back() -> Result<()> {
    let servers = vec![Server::numbered(1), Server::numbered(2)];
    Plan::named("capacity")
        .servers(servers)
        .run(async |lab| {
            let served = Arc::new(AtomicU64::new(0));
            let shop = serve_shop(lab, Arc::clone(&served)).await?;
            act_by_policy(lab).await?;
            let watchers = start_watchers(lab).await?;
            {
                let load = visit_for_ever(lab);
                // Goal: both servers in service. The load never ends by itself.
                tokio::select! {
                    arrived = both_answer(lab) => arrived?,
                    failed = load => failed?,
                }
            }
            both_are_back(lab).await?;
            drop((shop, watchers));
            Ok(())
        })
        .await
}

/// The service, inside the enterprise, with the counter that Prometheus reads.
async fn serve_shop(lab: &Lab, served: Arc<AtomicU64>) -> Result<leaseboot_tests::namespace::Service> {
    let start = move || async move {
        let listener = TcpListener::bind("0.0.0.0:8000").await?;
        let (counted, told) = (Arc::clone(&served), served);
        let pages = Router::new()
            .route(
                "/",
                get(move || async move {
                    counted.fetch_add(1, Ordering::Relaxed);
                    "the shop"
                }),
            )
            .route(
                "/metrics",
                get(move || async move { format!("shop_requests_total {}\n", told.load(Ordering::Relaxed)) }),
            );
        Ok(((), async move { drop(axum::serve(listener, pages).await) }))
    };
    let (service, ()) = lab.network.enterprise.serve("shop", start).await?;
    Ok(service)
}

/// Opens the door for events, lays the policy down, and has each server in service answer for the service's name.
async fn act_by_policy(lab: &mut Lab) -> Result<()> {
    let folder = lab.po.folder().display().to_string();
    std::fs::create_dir_all(format!("{folder}/names"))?;
    std::fs::write(
        lab.po.folder().join("policies.toml"),
        POLICY.replace("FOLDER", &folder),
    )?;
    let path = lab.po.folder().join("po.toml");
    let hook = format!("test $1 = gone && rm -f {folder}/names/$2 || echo $3 shop > {folder}/names/$2");
    let text = std::fs::read_to_string(&path)?.replace(
        "hook = []",
        &format!("hook = [\"/bin/sh\", \"-c\", {hook:?}, \"hook\"]"),
    );
    std::fs::write(&path, text + "\n[events]\nlisten = \"127.0.0.1:9470\"\n")?;
    lab.po.stop().await?;
    lab.po.start().await
}

/// Prometheus, Alertmanager and the enterprise's name server.
async fn start_watchers(lab: &Lab) -> Result<[Daemon; 3]> {
    let folder = lab
        .po
        .folder()
        .parent()
        .context("a folder of the run")?
        .join("watch");
    std::fs::create_dir_all(&folder)?;
    let here = folder.display().to_string();
    for (name, text) in [
        ("prometheus.yml", PROMETHEUS),
        ("rules.yml", RULES),
        ("alertmanager.yml", ALERTMANAGER),
    ] {
        std::fs::write(folder.join(name), text.replace("FOLDER", &here))?;
    }
    let names = lab.po.folder().join("names").display().to_string();
    let alertmanager = [
        format!("--config.file={here}/alertmanager.yml"),
        format!("--storage.path={here}/alertmanager"),
        "--web.listen-address=127.0.0.1:9093".to_owned(),
        "--cluster.listen-address=".to_owned(),
    ];
    let prometheus = [
        format!("--config.file={here}/prometheus.yml"),
        format!("--storage.tsdb.path={here}/prometheus"),
        "--web.listen-address=127.0.0.1:9090".to_owned(),
    ];
    let dnsmasq = [
        "--keep-in-foreground".to_owned(),
        "--log-facility=-".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--user=root".to_owned(),
        format!("--hostsdir={names}"),
    ];
    Ok([
        start(
            lab,
            &folder,
            "prometheus-alertmanager",
            &alertmanager,
            "Listening on",
        )
        .await?,
        start(
            lab,
            &folder,
            "prometheus",
            &prometheus,
            "Server is ready to receive web requests",
        )
        .await?,
        start(lab, &folder, "dnsmasq", &dnsmasq, "started").await?,
    ])
}

async fn start(lab: &Lab, folder: &Path, program: &str, arguments: &[String], ready: &str) -> Result<Daemon> {
    let mut command = lab.network.enterprise.command(program);
    command.args(arguments);
    let mut daemon = Daemon::start(program, command, &folder.join(format!("{program}.log")))?;
    daemon.ready(ready, READY).await?;
    Ok(daemon)
}

/// Customers, some twenty a second, until somebody drops them.
async fn visit_for_ever(lab: &Lab) -> Result<()> {
    loop {
        lab.network
            .enterprise
            .run("curl", &["-sSf", "-o", "/dev/null", "http://127.0.0.1:8000/"])
            .await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until both servers are in service, answer for the name, and show their page.
async fn both_answer(lab: &Lab) -> Result<()> {
    let both = |list: &str| list.matches("in service").count() == 2;
    until(lab, &[], BOTH, both).await?;
    for address in ["10.99.0.10", "10.99.0.11"] {
        let page = lab.page(address).await?;
        ensure!(page.contains("enterprise web server"), "{address} shows {page}");
        let answer = lab
            .network
            .enterprise
            .run("busybox", &["nslookup", "-type=a", "shop", "127.0.0.1"])
            .await?;
        ensure!(answer.contains(address), "the name leads to {answer}");
    }
    Ok(())
}

/// Waits until both went back, and looks at what proves their erasure.
async fn both_are_back(lab: &Lab) -> Result<()> {
    until(lab, &["--all"], GIVEN_BACK, |list| {
        list.matches("released").count() == 2
    })
    .await?;
    let drained = std::fs::read_to_string(lab.po.folder().join("drained"))?;
    for (name, server) in NAMES.into_iter().zip(["lab0001", "lab0002"]) {
        ensure!(
            drained.contains(&format!("drain {name} ")),
            "{name} was not drained: {drained}"
        );
        let record = lab.po.erasure(name).await?;
        lab.lm.verify_erasure(&record).await?;
        let (custody, reason) = lab.lm.custody(server).await?;
        ensure!(custody == "free", "{server} is {custody}: {reason}");
    }
    Ok(())
}

async fn until(lab: &Lab, arguments: &[&str], within: Duration, so: impl Fn(&str) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let list = lab.po.list(arguments).await?;
        if so(&list) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < within,
            "not after {} s; last seen:\n{list}",
            within.as_secs()
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
