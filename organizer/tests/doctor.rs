//! `leaseboot-po doctor` in front of the scripted lender: healthy, with and without a daemon, and with one thing after the other broken.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_console::socket;
use leaseboot_po::control::server;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use support::Enterprise;
use support::lender::nobody;
use support::program::words;
use tokio_util::sync::CancellationToken;

/// An enterprise whose po.toml names the scripted lender, and a port that is free.
async fn healthy() -> (Enterprise, String) {
    let enterprise = Enterprise::new().await;
    let folder = enterprise.folder.path();
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    write_config(folder, free, &enterprise.lender.url);
    let key = folder.join("gateway.key");
    fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\n").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let config = folder.join("po.toml").display().to_string();
    (enterprise, config)
}

fn write_config(folder: &Path, port: u16, url: &str) {
    let text = format!(
        "[gateway]\nendpoint = \"127.0.0.1:{port}\"\ntunnel = \"127.0.0.1/24\"\ninterface = \"lbdoctor0\"\n\
         [lender]\nurl = \"{url}\"\nca = \"lender/lm-ca.pem\"\ncertificate = \"lender/client.pem\"\nkey = \"lender/client.key\"\n"
    );
    fs::write(folder.join("po.toml"), text).unwrap();
}

/// The findings by check, with verdict and remedy, and the exit code.
async fn examined(config: &str) -> (Vec<Value>, i32) {
    let (out, err, code) = words(&["doctor", "--json", "--config", config]).await;
    assert_eq!(err, "");
    (serde_json::from_str(&out).unwrap(), code)
}

/// The checks with this verdict, in order.
fn checks(findings: &[Value], verdict: &str) -> Vec<String> {
    let with = findings.iter().filter(|finding| finding["verdict"] == verdict);
    with.map(|finding| finding["check"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn before_the_daemon_starts_all_is_well_but_that() {
    let (_enterprise, config) = healthy().await;
    let (findings, code) = examined(&config).await;
    assert_eq!(checks(&findings, "problem"), [""; 0], "{findings:#?}");
    assert_eq!(
        (checks(&findings, "warning"), code),
        (vec!["daemon".to_owned()], 0)
    );
    let fine = checks(&findings, "ok");
    for check in [
        "configuration",
        "store",
        "gateway key",
        "profile",
        "image",
        "device",
        "port",
        "forwarding",
        "mtu",
        "plane",
        "nft",
        "lender",
        "clock",
        "our certificate",
        "lender's CA",
        "lender's cert",
    ] {
        assert!(
            fine.iter().any(|seen| seen == check),
            "{check} is not in {fine:?}"
        );
    }
    let (out, _, code) = words(&["doctor", "--config", &config]).await;
    assert!(code == 0 && out.ends_with("0 problems, 1 warnings\n"), "{out}");
    assert!(out.contains("→ no leaseboot-po answers on"), "{out}");
}

#[tokio::test]
async fn with_a_daemon_its_device_and_port_must_be_there() {
    let (enterprise, config) = healthy().await;
    let running = enterprise.serve().await;
    let socket = socket::bind(enterprise.folder.path().join("po.sock"))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(socket, Arc::clone(&running.organizer), stop.clone()));
    // This daemon's peers are only remembered: it has neither device nor port.
    let (findings, code) = examined(&config).await;
    assert!(
        checks(&findings, "ok").contains(&"daemon".to_owned()),
        "{findings:#?}"
    );
    let problems = checks(&findings, "problem");
    assert!(
        problems.starts_with(&["device".to_owned(), "port".to_owned()]),
        "{problems:?}"
    );
    assert_eq!(code, 1);
    stop.cancel();
    running.stop().await;
}

#[tokio::test]
async fn each_thing_that_is_broken_is_a_problem_with_a_remedy() {
    type Break = fn(&Path);
    let cases: [(&str, Break); 6] = [
        ("configuration", |folder| {
            fs::write(folder.join("po.toml"), "[gateway\n").unwrap()
        }),
        ("gateway key", |folder| {
            fs::set_permissions(folder.join("gateway.key"), Permissions::from_mode(0o644)).unwrap();
        }),
        ("profile", |folder| {
            fs::remove_file(folder.join("profiles/web/web.ks")).unwrap()
        }),
        ("image", |folder| {
            fs::write(folder.join("images/debian/vmlinuz"), "").unwrap()
        }),
        ("our certificate", |folder| {
            fs::write(folder.join("lender/client.pem"), "x").unwrap()
        }),
        ("lender", |folder| {
            fs::remove_file(folder.join("lender/client.key")).unwrap()
        }),
    ];
    for (check, broken) in cases {
        let (enterprise, config) = healthy().await;
        broken(enterprise.folder.path());
        let (findings, code) = examined(&config).await;
        let found = findings
            .iter()
            .find(|finding| finding["check"] == check && finding["verdict"] == "problem");
        let found = found.unwrap_or_else(|| panic!("no problem with {check}: {findings:#?}"));
        assert!(
            found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
            "{found}"
        );
        assert_eq!(code, 1, "{check}");
    }
}

#[tokio::test]
async fn a_lender_that_is_not_there_and_a_port_that_is_taken_are_told() {
    let (enterprise, config) = healthy().await;
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", nobody().await);
    write_config(enterprise.folder.path(), taken.local_addr().unwrap().port(), &url);
    let (findings, code) = examined(&config).await;
    assert_eq!(
        (checks(&findings, "problem"), code),
        (vec!["port".to_owned(), "lender".to_owned()], 1),
        "{findings:#?}"
    );
}
