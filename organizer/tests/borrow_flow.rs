//! Whole borrowings against a scripted LM over mutual TLS, with servers that speak inside a tunnel of loopback addresses.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_po::organizer::BorrowError;
use leaseboot_po::progress::Note;
use leaseboot_protocol::gateway::{MemberSettings, SessionManifest};
use leaseboot_protocol::lease::EventKind;
use leaseboot_protocol::lease::LeaseState::{
    Booting, Chained, Failed, Installing, Moving, Prepared, Stage1, TunnelUp,
};
use leaseboot_protocol::leases::{Refusal, Unmet};
use std::net::IpAddr;
use support::{Enterprise, FakePeers, KICKSTART, Running, SECRET, is_over, key};

const ADDRESS: &str = "127.0.0.10";

fn has(address: &str) -> Option<IpAddr> {
    Some(address.parse().unwrap())
}

fn is_failed(note: &Note) -> bool {
    matches!(note, Note::Failed { .. })
}

/// A server of the profile, its agent in stage 1 with key 1.
async fn in_stage1(enterprise: &Enterprise, po: &Running) -> leaseboot_po::borrowing::BorrowingId {
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    enterprise.lender.ordered("boot l-1").await;
    enterprise.lender.moves("l-1", Booting);
    enterprise.lender.moves("l-1", Stage1);
    enterprise.lender.agent_key("l-1", key(1));
    enterprise.peers.become_these(&[(key(1), has(ADDRESS))]).await;
    view.id
}

/// The same, with the member's key 2 registered.
async fn installed(enterprise: &Enterprise, po: &Running) -> leaseboot_po::borrowing::BorrowingId {
    let id = in_stage1(enterprise, po).await;
    for state in [TunnelUp, Chained, Installing] {
        enterprise.lender.moves("l-1", state);
    }
    po.until(
        &id,
        |note| matches!(note, Note::Lender { event } if event.state == Installing),
    )
    .await;
    let registered = po.server(ADDRESS).register(key(2)).await;
    assert_eq!(registered.status(), 200);
    let settings: MemberSettings = registered.json().await.unwrap();
    assert_eq!(settings.hostname.as_str(), "web-1");
    id
}

#[tokio::test]
async fn a_server_is_borrowed_serves_and_goes_back() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let id = in_stage1(&enterprise, &po).await;
    let server = po.server(ADDRESS);

    let session: SessionManifest = server.get("/v1/session").await.json().await.unwrap();
    assert_eq!(session.lease.as_str(), "l-1");
    assert_eq!(session.kickstart_sha256.to_string().len(), 64);
    assert!(
        server
            .get("/v1/sealed")
            .await
            .text()
            .await
            .unwrap()
            .contains(SECRET)
    );
    let image = session.image.installer().unwrap();
    let initrd = server.get_from(&image.initrd.path, 7).await;
    assert_eq!(initrd.status(), 206);
    assert_eq!(initrd.bytes().await.unwrap(), "bytes");
    assert_eq!(po.server("127.0.0.11").get("/v1/session").await.status(), 403);
    assert_eq!(
        server.register(key(2)).await.status(),
        403,
        "nothing is installed yet"
    );

    enterprise.lender.moves("l-1", Chained);
    enterprise.lender.moves("l-1", Installing);
    po.until(
        &id,
        |note| matches!(note, Note::Lender { event } if event.state == Installing),
    )
    .await;
    assert_eq!(
        server.get("/v1/sealed").await.status(),
        403,
        "the window is closed"
    );
    assert_eq!(server.register(key(2)).await.status(), 200);
    assert_eq!(
        server.register(key(2)).await.status(),
        200,
        "an answer may be lost"
    );
    assert_eq!(enterprise.peers.all(), [(key(1), has(ADDRESS)), (key(2), None)]);
    assert_eq!(
        server.hello().await.status(),
        403,
        "the installer is not the member"
    );
    enterprise.lender.ordered("installed l-1").await;

    enterprise.peers.shake(key(2));
    po.until(&id, |note| matches!(note, Note::MemberSeen)).await;
    po.until(&id, |note| matches!(note, Note::PeerOut { .. })).await;
    server.joins().await;
    assert_eq!(enterprise.peers.all(), [(key(2), has(ADDRESS))]);
    enterprise.lender.ordered("in-service l-1").await;
    enterprise.hosts("127.0.0.10 web-1", true).await;
    assert_eq!(server.get("/v1/session").await.status(), 403);

    po.organizer.release("l-1").await.unwrap();
    enterprise.lender.ordered("delete l-1").await;
    assert_eq!(
        enterprise.peers.all(),
        [],
        "the peer is dropped before the lender is asked"
    );
    po.until(&id, is_over).await;
    enterprise.hosts("127.0.0.10 web-1", false).await;
    assert_eq!(server.hello().await.status(), 403);
    po.stop().await;
}

#[tokio::test]
async fn a_po_that_was_restarted_goes_on() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let id = installed(&enterprise, &po).await;
    po.stop().await;

    let peers = FakePeers::default();
    let po = enterprise.serve_with(peers.clone()).await;
    peers.shake(key(2));
    po.until(&id, |note| matches!(note, Note::MemberSeen)).await;
    po.server(ADDRESS).joins().await;
    assert_eq!(peers.all(), [(key(2), has(ADDRESS))]);
    po.stop().await;

    let peers = FakePeers::default();
    let po = enterprise.serve_with(peers.clone()).await;
    enterprise.hosts("127.0.0.10 web-1", true).await;
    assert_eq!(
        po.server(ADDRESS).hello().await.status(),
        204,
        "a member may reboot"
    );
    assert_eq!(peers.all(), [(key(2), has(ADDRESS))]);
    let requests = enterprise
        .lender
        .orders()
        .iter()
        .filter(|order| *order == "request")
        .count();
    assert_eq!(requests, 1);
    po.stop().await;
}

#[tokio::test]
async fn a_member_is_told_the_networks_of_its_profile_and_the_installer_those_of_the_gateway() {
    let enterprise = Enterprise::new().await;
    enterprise.edit_profile("network = { reach = [\"10.20.0.0/16\"] }\n");
    let po = enterprise.serve().await;
    let id = in_stage1(&enterprise, &po).await;
    for state in [TunnelUp, Chained, Installing] {
        enterprise.lender.moves("l-1", state);
    }
    let installs = |note: &Note| matches!(note, Note::Lender { event } if event.state == Installing);
    po.until(&id, installs).await;
    let registered = po.server(ADDRESS).register(key(2)).await;
    let settings: MemberSettings = registered.json().await.unwrap();
    let networks: Vec<_> = settings
        .tunnel
        .allowed_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["127.0.0.0/24", "10.20.0.0/16"]);
    po.stop().await;
}

#[tokio::test]
async fn a_new_boot_attempt_replaces_the_peers() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    installed(&enterprise, &po).await;
    enterprise.lender.moves("l-1", Booting);
    enterprise.lender.agent_key("l-1", key(3));
    enterprise.peers.become_these(&[(key(3), has(ADDRESS))]).await;
    assert_eq!(po.server(ADDRESS).get("/v1/sealed").await.status(), 200);
    po.stop().await;
}

#[tokio::test]
async fn the_lm_may_be_away_for_a_while() {
    let enterprise = Enterprise::new().await;
    enterprise.lender.ail(3);
    let po = enterprise.serve().await;
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    let notes = po.until(&view.id, |note| matches!(note, Note::Ordered)).await;
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::LenderSilent { error } if error.contains("under 7"))),
        "{notes:#?}"
    );
    assert!(notes.contains(&Note::LenderBack));
    po.stop().await;
}

#[tokio::test]
async fn a_lender_that_adds_a_user_is_refused_before_any_power_goes_on() {
    let enterprise = Enterprise::new().await;
    enterprise
        .lender
        .merge(|ours| format!("{ours}user --name=lender\n"));
    let po = enterprise.serve().await;
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    let notes = po.until(&view.id, is_over).await;
    let reason = notes.iter().find_map(|note| match note {
        Note::Failed { reason } => Some(reason.clone()),
        _ => None,
    });
    let line = KICKSTART.lines().count() + 1;
    let reason = reason.unwrap();
    assert!(
        reason.contains(&format!("line {line}")) && reason.contains("user --name=lender"),
        "{reason}"
    );
    assert_eq!(
        enterprise.lender.orders(),
        ["request", "settings l-1 web-1", "delete l-1", "erasure l-1"]
    );
    po.stop().await;
}

#[tokio::test]
async fn a_search_without_a_fitting_server_says_what_is_missing_and_frees_name_and_address() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let requirement = "memory at least 65536 MiB".to_owned();
    enterprise.lender.refuse(Refusal::NothingFits {
        free: 2,
        busy: 0,
        fitting: 0,
        unmet: vec![Unmet {
            requirement,
            servers: 2,
        }],
        nearest: vec!["63488 MiB of memory".to_owned()],
        shortfall: None,
    });
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    let notes = po.until(&view.id, is_over).await;
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::Failed { reason } if reason.contains("65536"))),
        "{notes:#?}"
    );
    let again = po.organizer.borrow_server("web", None).await.unwrap();
    assert_eq!(
        (again.hostname.as_str(), again.address),
        ("web-1", ADDRESS.parse::<IpAddr>().unwrap())
    );
    let other = po.organizer.borrow_server("web", None).await.unwrap();
    assert_eq!(
        (other.hostname.as_str(), other.address.to_string()),
        ("web-2", "127.0.0.11".to_owned())
    );
    let taken = po
        .organizer
        .borrow_server("web", Some("web-2".parse().unwrap()))
        .await;
    assert!(matches!(taken, Err(BorrowError::Create(_))));
    po.stop().await;
}

#[tokio::test]
async fn a_key_of_another_borrowing_is_refused() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    in_stage1(&enterprise, &po).await;
    let second = po.organizer.borrow_server("web", None).await.unwrap();
    enterprise.lender.ordered("boot l-2").await;
    enterprise.lender.agent_key("l-2", key(1));
    po.until(&second.id, is_failed).await;
    assert_eq!(enterprise.peers.all(), [(key(1), has(ADDRESS))]);
    enterprise.lender.ordered("delete l-2").await;
    po.stop().await;
}

#[tokio::test]
async fn a_transfer_that_fails_at_the_lender_drops_its_peers_and_keeps_the_reason() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let id = in_stage1(&enterprise, &po).await;
    enterprise.lender.moves("l-1", Failed);
    po.until(&id, is_over).await;
    assert_eq!(enterprise.peers.all(), []);
    let view = po.organizer.find("l-1").await.unwrap();
    assert_eq!(
        (view.state.as_str(), view.reason.as_deref()),
        ("failed", Some("because the script says so"))
    );
    po.stop().await;
}

#[tokio::test]
async fn a_server_that_fails_at_the_lender_is_followed_by_another_with_the_enterprises_consent() {
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let id = installed(&enterprise, &po).await;
    enterprise.lender.moves("l-1", Moving);
    enterprise.peers.become_these(&[]).await;
    let (from, to) = ("rack-1".parse().unwrap(), "rack-2".parse().unwrap());
    enterprise
        .lender
        .happens("l-1", Prepared, EventKind::Moved { from, to });
    po.until(
        &id,
        |note| matches!(note, Note::Moved { server } if server.as_str() == "rack-2"),
    )
    .await;
    let boots = |count: usize| {
        move |orders: &[String]| orders.iter().filter(|order| *order == "boot l-1").count() == count
    };
    enterprise.lender.ordered_so(boots(2)).await;
    assert_eq!(
        po.organizer.find("l-1").await.unwrap().server.unwrap().as_str(),
        "rack-2"
    );
    enterprise.lender.moves("l-1", Booting);
    enterprise.lender.agent_key("l-1", key(5));
    enterprise.peers.become_these(&[(key(5), has(ADDRESS))]).await;
    po.stop().await;
}

#[tokio::test]
async fn a_term_is_renewed_by_hand_and_by_itself() {
    let enterprise = Enterprise::new().await;
    enterprise.edit_profile("term = \"2h\"\nrenew = true\n");
    let po = enterprise.serve().await;
    in_stage1(&enterprise, &po).await;
    let view = po.organizer.renew("l-1", Some(60)).await.unwrap();
    assert!(view.expires.is_some());
    enterprise.lender.ordered("renew l-1 Some(60)").await;
    let expires = view.expires.unwrap();
    enterprise
        .lender
        .happens("l-1", Stage1, EventKind::ExpiresSoon { expires });
    enterprise.lender.ordered("renew l-1 Some(7200)").await;
    po.stop().await;
}
