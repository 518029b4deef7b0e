//! What goes wrong in a transfer, over the real API: agents that give up, servers that are silent, power that does not obey.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, erasure, failed, run, text};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::agent::Directive;
use leaseboot_protocol::lease::{EventKind, LeaseState, Step};
use leaseboot_protocol::leases::{LeaseRequest, Refusal};
use leaseboot_protocol::settings::Requirements;
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_fails_for_good_is_tried_again_and_then_given_up() {
    let house = House::with(1, "moves = 0\n").await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    for attempt in 1..=3 {
        house
            .wait_until("the power", async || house.power().len() >= attempt * 2)
            .await;
        let agent = house.agent(1).await;
        let directive = agent
            .reports(&house, vec![failed(Step::Kexec, "it does not start")])
            .await;
        let expected = if attempt < 3 {
            Directive::Continue
        } else {
            Directive::PowerOff
        };
        assert_eq!(directive, expected);
        let client = house.client_at(1);
        let (status, _) = client
            .refused(
                Method::GET,
                "/v1/agent/kickstart",
                Some(&agent.token),
                None::<&()>,
            )
            .await;
        assert_eq!(
            status,
            StatusCode::UNAUTHORIZED,
            "the session of a boot that is over"
        );
    }
    let view = tenant.view(&lease).await;
    assert_eq!((view.state, view.attempt), (LeaseState::Failed, 3));
    assert_eq!(view.reason, "kexec failed: it does not start");
    house
        .wait_until("the power to go off", async || {
            house.power().last().unwrap() == "off 1"
        })
        .await;
    let record = house.record("s1").await;
    assert_eq!(record.custody, Custody::Quarantined);
    assert!(record.reason.contains("it does not start"));
    let status = run(&["status", "--all", "--config", text(&house.config())]);
    assert!(
        status.contains("quarantined") && status.contains("it does not start"),
        "{status}"
    );
    let request = LeaseRequest {
        request_id: "two".to_owned(),
        requirements: Requirements::default(),
        term_s: None,
        group: None,
    };
    let (status, refusal) = tenant
        .refused(Method::POST, "/v1/leases", None, Some(&request))
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        matches!(refusal, Refusal::NothingFits { free: 0, busy: 1, .. }),
        "{refusal:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_on_the_enterprises_side_ends_the_lease_and_the_server_is_erased_and_free() {
    let house = House::with(2, "attempts = 1\n").await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    let agent = house.agent(1).await;
    agent
        .reports(&house, vec![failed(Step::Kernel, "the digest is wrong")])
        .await;
    let view = tenant.view(&lease).await;
    assert_eq!(
        (view.state, view.server.as_str()),
        (LeaseState::Returning, "s1"),
        "{}",
        view.reason
    );
    house.agent(1).await.erasure(&house, &erasure(true)).await;
    house.wait_for_state(&lease, LeaseState::Failed).await;
    let view = tenant.view(&lease).await;
    assert!(
        view.reason.starts_with("kernel failed: the digest is wrong"),
        "{}",
        view.reason
    );
    assert_eq!(house.record("s1").await.custody, Custody::Free);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_found_out_by_its_deadline() {
    let house = House::with(1, "attempts = 1\nmoves = 0\n[deadlines]\nbooting = 1\n").await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    house.wait_for_state(&lease, LeaseState::Failed).await;
    let reason = tenant.view(&lease).await.reason;
    assert!(
        reason.contains("in the state booting: the agent's first word is awaited"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn power_that_does_not_obey_is_tried_again() {
    // The first order fails, later ones do not.
    let obeys_later = "test $(wc -l < POWER) -gt 1";
    let house = House::with_power(1, "", obeys_later).await;
    let lease = house.tenant("acme").boot("one").await;
    house
        .wait_until("power", async || house.power() == ["off 1", "off 1", "on 1"])
        .await;
    let view = house.tenant("acme").view(&lease).await;
    assert_eq!((view.state, view.attempt), (LeaseState::Booting, 2));
    let events = house.tenant("acme").events(&lease, 0, 0).await.events;
    let told = events.iter().find_map(|event| match &event.what {
        EventKind::Power { error, .. } => error.as_deref(),
        _ => None,
    });
    assert!(
        told.is_some_and(|error| error.contains("lender's log")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_whose_power_fails_is_repeated_a_bounded_number_of_times() {
    let house = House::build(&House::server(1, "false"), "attempts = 2\n").await;
    let quarantined = async || house.record("s1").await.custody == Custody::Quarantined;
    house.wait_until("the quarantine", quarantined).await;
    assert_eq!(house.power(), ["off 1", "off 1"]);
    let reason = house.record("s1").await.reason;
    assert!(reason.contains("after 2 boots"), "{reason}");
}
