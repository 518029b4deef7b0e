//! `cargo xtask demo`: one bare server, from power-off to a page inside the enterprise, on real parts.

use crate::prepare;
use crate::test::runtime;
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use leaseboot_tests::events::Tenant;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{INSTALLATION, Lab, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::phases::{self, AgentStep, Phase};
use leaseboot_tests::servers::Server;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Where the first borrowed server stands inside the enterprise.
const MEMBER: &str = "10.99.0.10";
const INVENTORY: Duration = Duration::from_secs(240);
const FIRST_LEASE: Duration = Duration::from_secs(60);
const POWER_OFF: Duration = Duration::from_secs(120);

/// Borrow an empty machine: PXE, tunnel, installation, first page; everything on this host, in namespaces and QEMU.
#[derive(Args)]
pub(crate) struct Demo {}

/// What is left in `target/demo/report.json`.
#[derive(Serialize)]
struct Report {
    /// Power-on for the inventory until the server stands ready to be lent.
    inventory_seconds: f64,
    /// From the request for a server until it is in service.
    transfer_seconds: f64,
    phases: Vec<Phase>,
    agent_steps: Vec<AgentStep>,
    page: String,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        prepare::require_root("demo")?;
        let folders = Folders::find()?;
        println!("demo: Debian packages of the laboratory");
        prepare::packages(&folders)?;
        println!("demo: building leaseboot-lm and leaseboot-po");
        prepare::programs()?;
        println!("demo: making the lender's stage-1 image");
        prepare::image()?;
        println!("demo: making the enterprise's packages and boot image");
        runtime()?.block_on(async {
            prepare::assets(&folders).await?;
            show(&folders).await
        })
    }
}

async fn show(folders: &Folders) -> Result<()> {
    let run = folders.demo()?;
    let folder = run.path().to_owned();
    println!(
        "demo: building the laboratory; its files are in {}",
        folder.display()
    );
    let server = Server::numbered(1).unknown_hardware();
    let plan = Plan::named("demo").servers(vec![server]).captured();
    let mut lab = plan.start_in(folders, run).await?;
    let outcome = transfer(&mut lab).await;
    if outcome.is_err() {
        lab.dump();
    }
    let report = outcome?;
    let path = folder.join("report.json");
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    print_report(&report);
    println!("\nreport, logs, serial line and capture: {}", folder.display());
    Ok(())
}

async fn transfer(lab: &mut Lab) -> Result<Report> {
    println!("demo: the lender boots the unknown server once, for its inventory");
    let begun = Instant::now();
    let machine = lab.machine().clone();
    machine.wait_for_power(Power::On, INVENTORY).await?;
    machine.wait_for_power(Power::Off, INVENTORY).await?;
    let inventory_seconds = begun.elapsed().as_secs_f64();
    print!("{}", lab.lm.status(&[]).await?);

    println!("demo: leaseboot-po borrow --profile web");
    let begun = Instant::now();
    let mut borrow = lab.po.borrow_command("web", &[]);
    let mut borrow = borrow.spawn().context("cannot run leaseboot-po borrow")?;
    let tenant = Tenant::of(lab);
    let measured = async {
        let mut history = tenant.follow(FIRST_LEASE).await?;
        let phases = phases::measure(&mut history, &machine, INSTALLATION).await?;
        anyhow::Ok((history, phases))
    };
    let (status, measured) = tokio::join!(borrow.wait(), measured);
    let status = status.context("cannot wait for leaseboot-po borrow")?;
    ensure!(status.success(), "leaseboot-po borrow ended with {status}");
    let (history, phases) = measured?;
    let transfer_seconds = begun.elapsed().as_secs_f64();

    println!("demo: the office asks the new server for its page");
    let page = lab.page(MEMBER).await?;
    println!("demo: leaseboot-po release {}", history.lease());
    print!("{}", lab.po.release(history.lease().as_str()).await?);
    machine.wait_for_power(Power::Off, POWER_OFF).await?;
    lab.po.stop().await?;
    lab.lm.stop().await?;
    Ok(Report {
        inventory_seconds,
        transfer_seconds,
        phases,
        agent_steps: phases::agent_steps(&history),
        page,
    })
}

fn print_report(report: &Report) {
    println!("\n{:<44} {:>9} {:>12}", "phase", "seconds", "received");
    for phase in &report.phases {
        let received = megabytes(phase.received_bytes);
        println!("{:<44} {:>9.1} {received:>12}", phase.name, phase.seconds);
    }
    let received = megabytes(report.phases.iter().map(|phase| phase.received_bytes).sum());
    println!("{:<44} {:>9.1} {received:>12}", "in all", report.transfer_seconds);
    println!(
        "{:<44} {:>9.1}",
        "before: inventory boot", report.inventory_seconds
    );
    println!("\nthe page:\n{}", report.page.trim_end());
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> String {
    if bytes == 0 {
        String::new()
    } else {
        format!("{:.2} MB", bytes as f64 / 1e6)
    }
}
