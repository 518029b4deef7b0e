//! What came of a transfer, for people and for programs.

use super::exit::Exit;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::progress::board::end_of;
use leaseboot_po::progress::live::Live;
use leaseboot_po::progress::phases::{End, PhaseRecord, StepFailure};
use leaseboot_po::progress::table as phase_table;
use serde::Serialize;

/// How much of a server's kernel log is shown.
const LOG_LINES: usize = 20;

/// The last line of a borrowing in `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    summary: SummaryBody<'a>,
}

#[derive(Serialize)]
struct SummaryBody<'a> {
    #[serde(flatten)]
    end: &'a End,
    /// Whether nothing was lent at all.
    refused: bool,
    borrowing: &'a BorrowingView,
    seconds: f64,
    phases: &'a [PhaseRecord],
    failure: Option<&'a StepFailure>,
}

/// Tells the end of one transfer; of several, people have seen the good ones in the table.
pub(super) fn conclude(
    view: &BorrowingView,
    live: &Live,
    people: bool,
    several: bool,
) -> anyhow::Result<Exit> {
    let phases = live.phases();
    let Some(end) = phases.end() else {
        anyhow::bail!("the end of {}'s transfer is not known", view.hostname);
    };
    if !people {
        let summary = SummaryBody {
            end,
            refused: live.is_refused(),
            borrowing: view,
            seconds: phases.total().as_secs_f64(),
            phases: phases.records(),
            failure: phases.failure(),
        };
        println!("{}", serde_json::to_string(&Summary { summary })?);
    } else if !several {
        println!("\n{}", phase_table::table(phases));
    }
    Ok(match end {
        End::InService { hostname, address } => {
            if people && !several {
                println!("{hostname} is in service at {address}");
            }
            Exit::Done
        }
        End::Released => {
            eprintln!(
                "leaseboot-po: {} was released before it was in service",
                view.hostname
            );
            Exit::NotInService
        }
        End::Failed { reason } => {
            if let Some(failure) = phases.failure() {
                show_failure(view, failure);
            }
            eprintln!("leaseboot-po: {} is not in service: {reason}", view.hostname);
            match live.is_refused() {
                true => Exit::Refused,
                false => Exit::NotInService,
            }
        }
    })
}

/// Several transfers, one on a line.
pub(super) fn table(over: &[(BorrowingView, Live)]) -> String {
    let mut text = format!(
        "\n{:<20}{:<17}{:<12}{:>10}\n",
        "server", "address", "end", "seconds"
    );
    for (view, live) in over {
        let line = format!(
            "{:<20}{:<17}{:<12}{:>8.1} s\n",
            view.hostname.as_str(),
            view.address,
            end_of(live).unwrap_or("unknown"),
            live.phases().total().as_secs_f64(),
        );
        text.push_str(&line);
    }
    text
}

/// The server's own words, on standard error, before the reason.
fn show_failure(view: &BorrowingView, failure: &StepFailure) {
    eprintln!(
        "the last failure of {}, in the step {}:",
        view.hostname, failure.step
    );
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
