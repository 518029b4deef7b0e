//! Watching a borrowing until the server is in service or will not be.

use super::ConfigArg;
use anyhow::{Context, bail};
use leaseboot_po::control::client::{ControlClient, ProgressStream};
use leaseboot_po::organizer::BorrowingView;
use leaseboot_po::progress::phases::{End, PhaseRecord, Phases, StepFailure};
use leaseboot_po::progress::screen::Screen;
use leaseboot_po::progress::table::table;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::timeout;

/// How long to wait for the LM's word on a server that the PO has seen in service.
const LENDERS_LAST_WORD: Duration = Duration::from_secs(3);
/// How much of a server's kernel log is shown.
const LOG_LINES: usize = 20;

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    summary: SummaryBody<'a>,
}

#[derive(Serialize)]
struct SummaryBody<'a> {
    #[serde(flatten)]
    end: &'a End,
    borrowing: &'a BorrowingView,
    seconds: f64,
    phases: &'a [PhaseRecord],
    failure: Option<&'a StepFailure>,
}

/// Shows a borrowing's progress from its beginning. Ctrl-C ends the watching only.
pub(crate) async fn watch(
    config: &ConfigArg,
    client: &ControlClient,
    view: &BorrowingView,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut stream = client.follow(&view.id, 0).await?;
    let mut screen = Screen::for_stdout(json);
    let mut phases = Phases::new();
    // Goal: the end of the transfer, or the person's impatience. The stream is only read: nothing is lost with it.
    let watched = tokio::select! {
        watched = until_the_end(&mut stream, &mut screen, &mut phases) => watched,
        _ = ctrl_c() => {
            screen.close();
            eprintln!("the transfer goes on; follow it with `leaseboot-po follow {} --config {}`",
                view.id, config.config.display());
            return Ok(ExitCode::from(130));
        }
    };
    screen.updates(&phases.close())?;
    screen.close();
    watched?;
    // The lease and the server are known by now.
    let view = client
        .find(view.id.as_str())
        .await
        .unwrap_or_else(|_| view.clone());
    conclude(&view, &phases, screen.is_for_people())
}

async fn until_the_end(
    stream: &mut ProgressStream,
    screen: &mut Screen,
    phases: &mut Phases,
) -> anyhow::Result<()> {
    while !phases.is_complete() {
        let next = match phases.end() {
            None => stream.next().await?,
            Some(_) => match timeout(LENDERS_LAST_WORD, stream.next()).await {
                Ok(next) => next?,
                Err(_) => return Ok(()),
            },
        };
        let Some(progress) = next else {
            if phases.end().is_some() {
                return Ok(());
            }
            bail!("leaseboot-po went away; the transfer goes on when it serves again");
        };
        let updates = phases.take(&progress);
        screen.show(&progress, &updates).context("cannot show progress")?;
    }
    Ok(())
}

fn conclude(view: &BorrowingView, phases: &Phases, people: bool) -> anyhow::Result<ExitCode> {
    let Some(end) = phases.end() else {
        bail!("the transfer's end is not known");
    };
    if !people {
        let summary = SummaryBody {
            end,
            borrowing: view,
            seconds: phases.total().as_secs_f64(),
            phases: phases.records(),
            failure: phases.failure(),
        };
        println!("{}", serde_json::to_string(&Summary { summary })?);
    } else {
        println!("\n{}", table(phases));
    }
    match end {
        End::InService { hostname, address } => {
            if people {
                println!("{hostname} is in service at {address}");
            }
            Ok(ExitCode::SUCCESS)
        }
        End::Released => bail!("{} was released before it was in service", view.hostname),
        End::Failed { reason } => {
            if let Some(failure) = phases.failure() {
                show_failure(failure);
            }
            bail!("{} is not in service: {reason}", view.hostname)
        }
    }
}

/// The server's own words, on standard error, before the reason.
fn show_failure(failure: &StepFailure) {
    eprintln!("the server's last failure, in the step {}:", failure.step);
    for error in &failure.error {
        eprintln!("  {error}");
    }
    let from = failure.kernel_log.len().saturating_sub(LOG_LINES);
    if !failure.kernel_log.is_empty() {
        eprintln!("the last lines of its kernel's log:");
    }
    for line in &failure.kernel_log[from..] {
        eprintln!("  {line}");
    }
}
