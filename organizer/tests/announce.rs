//! The channels of announcements against the programs that enterprises have: BIND, Ansible and Prometheus.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use hickory_proto::rr::RecordType;
use leaseboot_console::socket;
use leaseboot_po::announce::dns::{self, Data, NamedRecord};
use leaseboot_po::announce::http_sd;
use leaseboot_po::config::AnnounceConfig;
use leaseboot_po::control::server;
use leaseboot_po::error_chain;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use support::bind::{self, Bind};
use support::flow::into_service;
use support::{Enterprise, debian, is_over};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const ANNOUNCED: &str =
    "announce = { service = \"shop\", labels = { tier = \"front\", rack = \"a-1\" }, metrics = [9100] }\n";

fn with_dns(enterprise: &Enterprise, bind: &Bind) -> AnnounceConfig {
    AnnounceConfig {
        dns: Some(bind.config(enterprise.folder.path())),
        ..AnnounceConfig::default()
    }
}

#[tokio::test]
async fn names_of_servers_come_into_the_dns_and_go_and_the_enterprises_own_stay() {
    let bind = Bind::start();
    let mut enterprise = Enterprise::new().await;
    enterprise.edit_profile(ANNOUNCED);
    enterprise.announce = with_dns(&enterprise, &bind);
    let po = enterprise.serve().await;
    let first = into_service(&enterprise, &po, 1).await;
    into_service(&enterprise, &po, 2).await;
    bind.becomes("web-1.borrowed.example.", RecordType::A, &["127.0.0.10"])
        .await;
    bind.becomes(
        "11.0.0.127.in-addr.arpa.",
        RecordType::PTR,
        &["web-2.borrowed.example."],
    )
    .await;
    let all = ["127.0.0.10", "127.0.0.11", "192.0.2.1"];
    bind.becomes("shop.borrowed.example.", RecordType::A, &all).await;

    po.organizer.release("web-1").await.unwrap();
    po.until(&first, is_over).await;
    let left = ["127.0.0.11", "192.0.2.1"];
    bind.becomes("shop.borrowed.example.", RecordType::A, &left).await;
    bind.becomes("web-1.borrowed.example.", RecordType::A, &[]).await;
    bind.becomes("10.0.0.127.in-addr.arpa.", RecordType::PTR, &[])
        .await;
    bind.becomes("web-2.borrowed.example.", RecordType::A, &["127.0.0.11"])
        .await;
    po.stop().await;
}

#[tokio::test]
async fn a_dns_server_that_was_away_is_told_by_the_next_po_what_is_stale() {
    let mut bind = Bind::start();
    let mut enterprise = Enterprise::new().await;
    enterprise.edit_profile(ANNOUNCED);
    enterprise.announce = with_dns(&enterprise, &bind);
    let po = enterprise.serve().await;
    let id = into_service(&enterprise, &po, 1).await;
    let both = ["127.0.0.10", "192.0.2.1"];
    bind.becomes("shop.borrowed.example.", RecordType::A, &both).await;
    bind.becomes("web-1.borrowed.example.", RecordType::A, &["127.0.0.10"])
        .await;
    bind.kill();
    po.organizer.release_now("web-1").await.unwrap();
    po.until(&id, is_over).await;
    po.stop().await;
    bind.start_again();
    assert_eq!(bind.look_up("shop.borrowed.example.", RecordType::A), both);
    let po = enterprise.serve().await;
    bind.becomes("shop.borrowed.example.", RecordType::A, &["192.0.2.1"])
        .await;
    bind.becomes("web-1.borrowed.example.", RecordType::A, &[]).await;
    po.stop().await;
}

#[tokio::test]
async fn a_refused_update_says_why_and_never_shows_the_key() {
    let bind = Bind::start();
    let folder = tempfile::tempdir().unwrap();
    let good = bind.config(folder.path());
    let record = |name: &str| NamedRecord {
        zone: good.zone.clone(),
        name: name.to_owned(),
        ttl: 5,
        data: Data::Address("127.0.0.10".parse().unwrap()),
    };
    let web = record("web-1.borrowed.example.");
    for _ in 0..2 {
        dns::send(&good, &web, true).await.unwrap();
    }
    assert_eq!(bind.look_up(&web.name, RecordType::A), ["127.0.0.10"]);
    for _ in 0..2 {
        dns::send(&good, &web, false).await.unwrap();
    }
    assert_eq!(bind.look_up(&web.name, RecordType::A), [""; 0]);

    let refusal = async |config: &leaseboot_po::config::DnsConfig, record: &NamedRecord| {
        let error = error_chain(&dns::send(config, record, true).await.unwrap_err());
        assert!(!error.contains(bind::SECRET), "{error}");
        error
    };
    let mut other_name = good.clone();
    other_name.key_name = "somebody.".to_owned();
    assert!(refusal(&other_name, &web).await.contains("NOTAUTH"));
    let mut other_zone = record("web-1.other.example.");
    other_zone.zone = "other.example.".to_owned();
    assert!(refusal(&good, &other_zone).await.contains("NOTAUTH"));
    assert!(
        refusal(&good, &record("web-1.example."))
            .await
            .contains("not in the zone")
    );
    let pointer = NamedRecord {
        data: Data::Pointer("x.example.".to_owned()),
        ..web.clone()
    };
    assert!(refusal(&good, &pointer).await.contains("REFUSED"));
    fs::write(&good.key, "c29tZXRoaW5nIGVsc2U=").unwrap();
    assert!(refusal(&good, &web).await.contains("NOTAUTH"));
    fs::write(&good.key, "not base64!").unwrap();
    assert!(refusal(&good, &web).await.contains("tsig-keygen"));
    fs::set_permissions(&good.key, Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(&good, &web).await.contains("chmod 600"));
    assert_eq!(bind.look_up(&web.name, RecordType::A), [""; 0]);
}

#[tokio::test]
async fn a_hook_that_fails_is_run_again_and_hears_both_words() {
    let mut enterprise = Enterprise::new().await;
    let heard = enterprise.folder.path().join("heard");
    let script = format!("echo \"$*\" >> {0}; test $(wc -l < {0}) -ge 2", heard.display());
    enterprise.announce.hook = ["/bin/sh", "-c", &script, "hook"].map(str::to_owned).to_vec();
    let po = enterprise.serve().await;
    let id = into_service(&enterprise, &po, 1).await;
    support::until_file(&heard, |text| text == "in-service web-1 127.0.0.10\n".repeat(2)).await;
    po.organizer.release("web-1").await.unwrap();
    po.until(&id, is_over).await;
    support::until_file(&heard, |text| text.ends_with("\ngone web-1 127.0.0.10\n")).await;
    po.stop().await;
}

#[tokio::test]
async fn ansible_reads_the_inventory() {
    let enterprise = Enterprise::new().await;
    enterprise.edit_profile(ANNOUNCED);
    let folder = enterprise.folder.path();
    fs::write(folder.join("po.toml"), support::PO_TOML).unwrap();
    let po = enterprise.serve().await;
    let socket = socket::bind(folder.join("po.sock")).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(socket, Arc::clone(&po.organizer), stop.clone()));
    into_service(&enterprise, &po, 1).await;
    let script = folder.join("borrowed");
    let program = env!("CARGO_BIN_EXE_leaseboot-po");
    let config = folder.join("po.toml").display().to_string();
    fs::write(
        &script,
        format!("#!/bin/sh\nexec {program} inventory --config {config} \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();

    let asked = Command::new("ansible-inventory")
        .arg("--inventory")
        .arg(&script)
        .args(["--list"])
        .current_dir(folder)
        .env("HOME", folder)
        .env("ANSIBLE_INVENTORY_UNPARSED_FAILED", "true")
        .kill_on_drop(true)
        .output()
        .await
        .expect("ansible-inventory, of the package ansible-core, is needed");
    assert!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");
    let inventory: Value = serde_json::from_slice(&asked.stdout).unwrap();
    for group in [
        "leaseboot",
        "profile_web",
        "service_shop",
        "label_tier_front",
        "label_rack_a_1",
    ] {
        assert_eq!(
            inventory[group]["hosts"],
            json!(["web-1"]),
            "{group} in {inventory:#}"
        );
    }
    let variables = &inventory["_meta"]["hostvars"]["web-1"];
    assert_eq!(variables["ansible_host"], "127.0.0.10");
    assert_eq!(variables["leaseboot_labels"]["rack"], "a-1");
    let host = Command::new(program)
        .args(["inventory", "--config", &config, "--host", "web-1"])
        .output()
        .await
        .unwrap();
    assert_eq!(&serde_json::from_slice::<Value>(&host.stdout).unwrap(), variables);
    stop.cancel();
    po.stop().await;
}

#[tokio::test]
async fn prometheus_discovers_targets() {
    let enterprise = Enterprise::new().await;
    enterprise.edit_profile(ANNOUNCED);
    let po = enterprise.serve().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/http_sd", socket.local_addr().unwrap());
    let router = http_sd::router(po.organizer.roster());
    tokio::spawn(async move { axum::serve(socket, router).await });
    into_service(&enterprise, &po, 1).await;
    let config = enterprise.folder.path().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "scrape_configs:\n- job_name: borrowed\n  http_sd_configs: [{{ url: \"{url}\" }}]\n  relabel_configs:\n  \
             - {{ source_labels: [__meta_leaseboot_hostname], target_label: instance }}\n  \
             - {{ regex: __meta_leaseboot_label_(.+), action: labelmap }}\n"
        ),
    )
    .unwrap();
    let promtool = debian::unpacked("promtool", &["prometheus"]).join("usr/bin/promtool");
    let asked = Command::new(promtool)
        .args(["check", "service-discovery", "--timeout", "2s"])
        .arg(&config)
        .arg("borrowed")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    let found: Value = serde_json::from_str(&said[said.find('[').unwrap_or_default()..])
        .unwrap_or_else(|error| panic!("{error}: {asked:?}"));
    assert_eq!(found.as_array().unwrap().len(), 1, "{found:#}");
    let labels = &found[0]["labels"];
    assert_eq!(labels["__address__"], "127.0.0.10:9100", "{found:#}");
    assert_eq!(
        (&labels["instance"], &labels["tier"], &labels["rack"]),
        (&json!("web-1"), &json!("front"), &json!("a-1"))
    );
    po.stop().await;
}
