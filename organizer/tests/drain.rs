//! The way out: the load, the names, the peer, the lender, in this order.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use hickory_proto::rr::RecordType;
use leaseboot_po::progress::Note;
use leaseboot_protocol::network::WireguardPublicKey;
use std::net::IpAddr;
use support::bind::Bind;
use support::flow::into_service;
use support::{Enterprise, is_over, key, until_file};

fn member() -> Vec<(WireguardPublicKey, Option<IpAddr>)> {
    vec![(key(2), Some("127.0.0.10".parse().unwrap()))]
}

/// A profile whose drain command runs `script` of sh in the enterprise's folder.
fn drained_by(enterprise: &Enterprise, script: &str, deadline: &str) {
    let folder = enterprise.folder.path().display();
    enterprise.edit_profile(&format!(
        "announce = {{ service = \"shop\" }}\n\
         drain = {{ command = [\"/bin/sh\", \"-c\", \"cd {folder}; {script}\", \"drain\"], deadline = \"{deadline}\" }}\n"
    ));
}

fn gave_back(enterprise: &Enterprise) -> bool {
    enterprise
        .lender
        .orders()
        .iter()
        .any(|order| order == "delete l-1")
}

#[tokio::test]
async fn a_server_keeps_name_and_peer_until_it_is_drained_and_its_peer_until_it_has_no_name() {
    let bind = Bind::start();
    let mut enterprise = Enterprise::new().await;
    enterprise.announce.dns = Some(bind.config(enterprise.folder.path()));
    drained_by(
        &enterprise,
        "echo $* > drains; until test -e drained; do sleep 0.05; done",
        "1m",
    );
    let po = enterprise.serve().await;
    let id = into_service(&enterprise, &po, 1).await;
    let both = ["127.0.0.10", "192.0.2.1"];
    bind.becomes("shop.borrowed.example.", RecordType::A, &both).await;

    let view = po.organizer.release("web-1").await.unwrap();
    assert_eq!(view.state, "draining");
    let drains = enterprise.folder.path().join("drains");
    until_file(&drains, |text| text == "drain web-1 127.0.0.10\n").await;
    assert_eq!(bind.look_up("shop.borrowed.example.", RecordType::A), both);
    assert_eq!(enterprise.peers.all(), member());
    assert_eq!(
        po.server("127.0.0.10").hello().await.status(),
        204,
        "it may reboot meanwhile"
    );
    assert!(!gave_back(&enterprise));

    std::fs::write(enterprise.folder.path().join("drained"), "").unwrap();
    enterprise.lender.ordered("delete l-1").await;
    assert_eq!(enterprise.peers.all(), []);
    assert_eq!(
        bind.look_up("shop.borrowed.example.", RecordType::A),
        ["192.0.2.1"]
    );
    let notes = po.until(&id, is_over).await;
    assert!(notes.contains(&Note::Drained), "{notes:#?}");
    po.stop().await;
}

#[tokio::test]
async fn a_drain_that_fails_is_tried_again_and_told_when_its_time_is_over() {
    let enterprise = Enterprise::new().await;
    drained_by(&enterprise, "echo x >> runs; exit 1", "2s");
    let po = enterprise.serve().await;
    let id = into_service(&enterprise, &po, 1).await;
    po.organizer.release("web-1").await.unwrap();
    let notes = po.until(&id, is_over).await;
    let told = notes
        .iter()
        .any(|note| matches!(note, Note::DrainFailed { error } if error.contains("exit status: 1")));
    assert!(told, "{notes:#?}");
    let runs = std::fs::read_to_string(enterprise.folder.path().join("runs")).unwrap();
    assert_eq!(runs, "x\nx\n");
    assert!(gave_back(&enterprise));
    po.stop().await;
}

#[tokio::test]
async fn a_restarted_po_goes_on_draining_and_release_now_does_not_wait() {
    let enterprise = Enterprise::new().await;
    drained_by(&enterprise, "echo x >> runs; exec sleep 60", "2m");
    let runs = enterprise.folder.path().join("runs");
    let po = enterprise.serve().await;
    let id = into_service(&enterprise, &po, 1).await;
    po.organizer.release("web-1").await.unwrap();
    until_file(&runs, |text| text == "x\n").await;
    po.stop().await;
    let po = enterprise.serve().await;
    until_file(&runs, |text| text == "x\nx\n").await;
    assert_eq!(enterprise.peers.all(), member());
    assert!(!gave_back(&enterprise));
    po.organizer.release_now("web-1").await.unwrap();
    let notes = po.until(&id, is_over).await;
    assert!(!notes.contains(&Note::Drained), "{notes:#?}");
    assert!(gave_back(&enterprise));
    po.stop().await;
}
