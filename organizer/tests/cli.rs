//! The binary as people and scripts run it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_protocol::lease::LeaseState;
use serde_json::Value;
use std::fs;
use std::path::Path;
use support::Enterprise;
use support::program::{daemon, transfer, words};

#[tokio::test]
async fn borrow_ends_with_the_table_and_list_and_release_know_the_lease() {
    let enterprise = Enterprise::new().await;
    let (po, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web"];
    let ((), (out, err, code)) = tokio::join!(transfer(&enterprise, &po, 1), words(&arguments));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("web-1 is in service at 127.0.0.10\n"), "{out}");
    for phase in [
        "search",
        "merge",
        "power + firmware",
        "stage 2",
        "installation",
        "reboot",
        "in all",
    ] {
        assert!(
            out.lines().any(|line| line.starts_with(phase)),
            "{phase} is not in {out}"
        );
    }

    let (out, _, _) = words(&["list", "--config", &config]).await;
    assert!(out.contains("l-1") && out.contains("in service"), "{out}");
    let (out, err, code) = words(&["renew", "web-1", "--term", "3h", "--config", &config]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("web-1 is lent for another 2 h"), "{out}");
    let (out, _, _) = words(&["list", "--config", &config]).await;
    assert!(out.trim_end().ends_with("2 h"), "the time that is left: {out}");
    let (_, err, code) = words(&["erasure", "web-1", "--config", &config]).await;
    assert!(code == 1 && err.contains("nothing was erased yet"), "{err}");
    let (out, err, code) = words(&["release", "l-1", "--config", &config]).await;
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        (
            "web-1 is given back\nthe lender's signature on the erasure of rack-1 is good; S1: discard\n",
            "",
            0
        )
    );
    let (out, _, code) = words(&["erasure", "web-1", "--config", &config]).await;
    assert!(code == 0 && out.contains("signature"), "{out}");
    let (_, err, code) = words(&["release", "l-1", "--config", &config]).await;
    assert!(code == 1 && err.contains("is over already"), "{err}");
    stop.cancel();
    po.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_not_erased_shows_in_the_exit_code() {
    let enterprise = Enterprise::new().await;
    enterprise.lender.wear_out();
    let (po, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web"];
    let ((), (_, _, code)) = tokio::join!(transfer(&enterprise, &po, 1), words(&arguments));
    assert_eq!(code, 0);
    let (out, err, code) = words(&["release", "l-1", "--config", &config]).await;
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        (
            "web-1 is given back\n",
            "leaseboot-po: NOT every disk is erased: S1: it refused\n",
            3
        )
    );
    let (out, _, code) = words(&["erasure", "web-1", "--config", &config]).await;
    assert!(code == 3 && out.contains("it refused"), "{out}");
    let (help, _, _) = words(&["--help"]).await;
    assert!(help.contains("3 the server is given back"), "{help}");
    stop.cancel();
    po.stop().await;
}

#[tokio::test]
async fn json_is_one_object_a_line_with_a_summary_at_the_end() {
    let enterprise = Enterprise::new().await;
    let (po, config, stop) = daemon(&enterprise).await;
    let arguments = [
        "borrow",
        "--config",
        &config,
        "--profile",
        "web",
        "--hostname",
        "www",
        "--json",
    ];
    let ((), (out, err, code)) = tokio::join!(transfer(&enterprise, &po, 1), words(&arguments));
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["note"], &lines[0]["hostname"]),
        (&"created".into(), &"www".into())
    );
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(summary["outcome"], "in-service");
    assert_eq!(summary["borrowing"]["lease"], "l-1");
    let phases: Vec<_> = summary["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| &phase["phase"])
        .collect();
    assert_eq!(
        phases,
        ["search", "merge", "firmware", "stage2", "installation", "reboot"]
    );
    stop.cancel();
    po.stop().await;
}

#[tokio::test]
async fn a_failed_transfer_ends_with_the_servers_words_and_exit_5() {
    let enterprise = Enterprise::new().await;
    let (po, config, stop) = daemon(&enterprise).await;
    let arguments = ["borrow", "--config", &config, "--profile", "web"];
    let fail = async {
        enterprise.lender.ordered("boot l-1").await;
        enterprise.lender.moves("l-1", LeaseState::Booting);
        let failed = serde_json::json!({
            "kind": "step-failed", "step": "kernel", "error": ["cannot use the kernel", "its digest differs"],
            "kernel_log": ["[1.0] last words"], "retrying": false
        });
        let failed = serde_json::from_value(failed).unwrap();
        enterprise.lender.happens("l-1", LeaseState::Booting, failed);
        enterprise.lender.moves("l-1", LeaseState::Failed);
    };
    let ((), (_, err, code)) = tokio::join!(fail, words(&arguments));
    assert_eq!(code, 5);
    for word in [
        "in the step kernel",
        "its digest differs",
        "[1.0] last words",
        "web-1 is not in service: because",
    ] {
        assert!(err.contains(word), "{word:?} is not in {err}");
    }
    stop.cancel();
    po.stop().await;
}

#[tokio::test]
async fn without_a_daemon_one_line_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("po.toml");
    fs::write(&config, support::PO_TOML).unwrap();
    let config = config.display().to_string();
    for command in [
        vec!["list"],
        vec!["borrow", "--profile", "web"],
        vec!["release", "l-1"],
        vec!["follow", "l-1"],
    ] {
        let arguments: Vec<_> = command.iter().copied().chain(["--config", &config]).collect();
        let (out, err, code) = words(&arguments).await;
        assert_eq!((code, out.as_str()), (6, ""));
        assert!(
            err.contains("start it with `leaseboot-po serve --config"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

fn init(folder: &Path, bundle: &Path, tunnel: &str) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let (folder, bundle) = (text(folder), text(bundle));
    [
        "init",
        &folder,
        "--endpoint",
        "198.51.100.2:51820",
        "--tunnel",
        tunnel,
        "--lm",
        "https://10.10.0.1:8443",
    ]
    .into_iter()
    .chain(["--lm-bundle", &bundle, "--allowed", "172.20.0.0/24"])
    .map(str::to_owned)
    .collect()
}

async fn run_init(folder: &Path, bundle: &Path, tunnel: &str) -> (String, String, i32) {
    let arguments = init(folder, bundle, tunnel);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    words(&arguments).await
}

#[tokio::test]
async fn init_makes_what_serve_reads_and_overwrites_nothing() {
    let enterprise = Enterprise::new().await;
    let bundle = enterprise.folder.path().join("lender");
    let folder = enterprise.folder.path().join("po");
    let (_, err, code) = run_init(&folder, &bundle, "10.99.0.0/24").await;
    assert!(code == 1 && err.contains("not a host's address"), "{err}");
    assert!(!folder.exists(), "nothing is half-written");
    let (_, err, code) = run_init(&folder, &folder, "10.99.0.1/24").await;
    assert!(code == 1 && err.contains("--lm-bundle is the folder"), "{err}");

    let (out, err, code) = run_init(&folder, &bundle, "10.99.0.1/24").await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("leaseboot-po serve --config"), "{out}");
    let key = fs::read_to_string(folder.join("gateway.key")).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(folder.join("gateway.key")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let (_, err, code) = run_init(&folder, &bundle, "10.99.0.1/24").await;
    assert!(code == 1 && err.contains("is there already"), "{err}");
    assert_eq!(fs::read_to_string(folder.join("gateway.key")).unwrap(), key);
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    let (bash, _, status) = words(&["completions", "bash"]).await;
    assert!(
        status == 0 && bash.contains("complete -F") && bash.contains("release"),
        "{bash}"
    );
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let (_, said, status) = words(&["man", pages.to_str().unwrap()]).await;
    assert_eq!(status, 0, "{said}");
    for page in ["leaseboot-po.1", "leaseboot-po-borrow.1", "leaseboot-po-serve.1"] {
        assert!(
            fs::read_to_string(pages.join(page)).unwrap().contains(".TH"),
            "{page}"
        );
    }
    let page = fs::read_to_string(pages.join("leaseboot-po-borrow.1")).unwrap();
    let (help, _, _) = words(&["borrow", "--help"]).await;
    for text in [page, help] {
        for code in [
            "4 nothing was lent",
            "5 a server was lent",
            "6 no daemon",
            "130 Ctrl",
        ] {
            assert!(text.contains(code), "{code} is not in {text}");
        }
    }
    let (_, _, status) = words(&["borow"]).await;
    assert_eq!(status, 2, "a command line that is not understood");
}
