//! `leaseboot-po borrow` and `follow` with one server and with several: what people see, what programs read, and what scripts learn.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::leases::Refusal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::Stdio;
use support::program::{daemon, po, said, transfer, words};
use support::{Enterprise, PATIENCE};
use tokio::io::{AsyncBufReadExt, BufReader};

/// What the lender says when it has no server.
fn nothing_fits() -> Refusal {
    let refusal =
        serde_json::json!({ "refusal": "nothing-fits", "free": 0, "busy": 1, "unmet": [], "nearest": [] });
    serde_json::from_value(refusal).unwrap()
}

fn objects(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn several_servers_are_lines_with_their_names_and_a_table_at_the_end() {
    let enterprise = Enterprise::new().await;
    let (running, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web", "--count", "2"];
    let both = async {
        transfer(&enterprise, &running, 1).await;
        transfer(&enterprise, &running, 2).await;
    };
    let ((), (out, err, code)) = tokio::join!(both, words(&arguments));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let (lines, table) = out.split_once("\n\n").unwrap();
    for name in ["web-1: ", "web-2: "] {
        for phase in ["search", "installation", "reboot"] {
            let line = format!("{name}{phase}");
            assert!(
                lines.lines().any(|seen| seen.starts_with(&line)),
                "{line}: {lines}"
            );
        }
    }
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with("web-1: ") || line.starts_with("web-2: ")),
        "{lines}"
    );
    let words: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(words[0], ["server", "address", "end", "seconds"]);
    assert_eq!(words[1][..4], ["web-1", "127.0.0.10", "in", "service"]);
    assert_eq!(words[2][..4], ["web-2", "127.0.0.11", "in", "service"]);
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn json_of_several_names_the_borrowing_on_each_line_and_one_refusal_does_not_hide_the_other() {
    let enterprise = Enterprise::new().await;
    enterprise.lender.refuse(nothing_fits());
    let (running, config, stop) = daemon(&enterprise).await;
    let arguments = [
        "borrow",
        "--config",
        &config,
        "--profile",
        "web",
        "--count",
        "2",
        "--json",
    ];
    // The lender refuses the first that comes to it; the other gets the first lease.
    let one = transfer(&enterprise, &running, 1);
    let ((), (out, err, code)) = tokio::join!(one, words(&arguments));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("is not in service: no"), "{err}");
    let objects = objects(&out);
    let (summaries, notes): (Vec<_>, Vec<_>) = objects.iter().partition(|line| line["summary"].is_object());
    assert!(
        notes
            .iter()
            .all(|note| note["borrowing"].as_str().unwrap().starts_with("b-")
                && note["name"].as_str().unwrap().starts_with("web-")
                && note["note"].is_string()),
        "{notes:?}"
    );
    let mut ends: Vec<_> = summaries
        .iter()
        .map(|line| {
            (
                line["summary"]["outcome"].clone(),
                line["summary"]["refused"].clone(),
            )
        })
        .map(|(outcome, refused)| (outcome.as_str().unwrap().to_owned(), refused.as_bool().unwrap()))
        .collect();
    ends.sort();
    assert_eq!(
        ends,
        [("failed".to_owned(), true), ("in-service".to_owned(), false)]
    );
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn what_nobody_lends_ends_with_exit_4_and_so_does_a_name_that_is_taken() {
    let enterprise = Enterprise::new().await;
    enterprise.lender.refuse(nothing_fits());
    let (running, config, stop) = daemon(&enterprise).await;
    let borrow = [
        "borrow",
        "--config",
        &config,
        "--profile",
        "web",
        "--hostname",
        "www",
    ];
    let (_, err, code) = words(&borrow).await;
    assert!(
        code == 4 && err.contains("www is not in service"),
        "{code}: {err}"
    );

    let ((), (_, _, code)) = tokio::join!(transfer(&enterprise, &running, 1), words(&borrow));
    assert_eq!(code, 0);
    let (_, err, code) = words(&borrow).await;
    assert!(code == 4 && err.contains("www is taken"), "{code}: {err}");
    let (_, err, code) = words(&["borrow", "--config", &config, "--profile", "db"]).await;
    assert!(
        code == 1 && err.contains("no profile \"db\""),
        "a mistake is no refusal: {code}: {err}"
    );
    let both = ["borrow", "--profile", "web", "--hostname", "www", "--count", "2"];
    assert_eq!(words(&both).await.2, 2, "one name for two servers");
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn ctrl_c_leaves_the_transfers_running_and_says_how_to_follow_them() {
    let enterprise = Enterprise::new().await;
    let (running, config, stop) = daemon(&enterprise).await;
    let mut command = po(&["borrow", "--config", &config, "--profile", "web", "--count", "2"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Both wait for their servers when the person's patience ends.
    let mut waiting = 0;
    while waiting < 2 {
        let next = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
        waiting += usize::from(next.unwrap().unwrap().contains("power + firmware …"));
    }
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let (_, err, code) = said(child.wait_with_output().await.unwrap());
    assert_eq!(code, 130);
    let (before, rest) = err.split_once("`leaseboot-po ").unwrap();
    assert_eq!(before, "the transfers go on; follow them with ");
    let advice: Vec<_> = rest.trim_end().trim_end_matches('`').split(' ').collect();
    assert_eq!(advice.len(), 5, "follow, two names, and the configuration: {err}");

    // The advice is good, and nothing was cut short.
    let both = async {
        transfer(&enterprise, &running, 1).await;
        transfer(&enterprise, &running, 2).await;
    };
    let ((), (out, err, code)) = tokio::join!(both, words(&advice));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_exit_6_and_the_transfer_is_not_called_failed() {
    let enterprise = Enterprise::new().await;
    let (running, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web"];
    let going = async {
        enterprise.lender.ordered("boot l-1").await;
        enterprise.lender.moves("l-1", LeaseState::Booting);
        stop.cancel();
        running.stop().await;
    };
    let ((), (_, err, code)) = tokio::join!(going, words(&arguments));
    assert_eq!(code, 6, "{err}");
    assert!(
        err.contains("goes on when it serves again") || err.contains("broke"),
        "{err}"
    );
}

#[tokio::test]
async fn a_terminal_shows_a_table_of_all_and_what_is_left_by_earlier_ones() {
    let enterprise = Enterprise::new().await;
    let (running, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web", "--count", "2"];
    let both = async {
        transfer(&enterprise, &running, 1).await;
        transfer(&enterprise, &running, 2).await;
    };
    let ((), (out, code)) = tokio::join!(both, on_a_terminal(&arguments));
    assert_eq!(code, 0, "{out}");
    for word in ["SERVER", "PHASE", "RATE", "LEFT", "web-1", "web-2"] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
    let course = running.organizer.courses("web").await.unwrap();
    assert_eq!(course.len(), 2, "what the next ones are told from");

    let one = ["borrow", "--config", &config, "--profile", "web"];
    let ((), (out, code)) = tokio::join!(transfer(&enterprise, &running, 3), on_a_terminal(&one));
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("so far, about") || out.contains("so far, due by what earlier ones took"),
        "{out}"
    );
    assert!(out.contains("web-3 is in service at 127.0.0.12"), "{out}");
    stop.cancel();
    running.stop().await;
}

/// Runs the program on a terminal of its own (script(1) of util-linux).
async fn on_a_terminal(arguments: &[&str]) -> (String, i32) {
    let program = env!("CARGO_BIN_EXE_leaseboot-po");
    let line = format!("{program} {}", arguments.join(" "));
    let mut command = tokio::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command
        .env("TERM", "xterm")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    let (out, _, code) = said(command.output().await.unwrap());
    (out, code)
}
