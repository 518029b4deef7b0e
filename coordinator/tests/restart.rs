//! A Lease Manager that is stopped between any two steps of a transfer goes on where it was.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, failed, finished};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::lease::{LeaseState, Step};

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_outlives_a_restart_at_every_state() {
    let mut house = House::with(1, "").await;
    let lease = house.tenant("acme").borrow("one").await.id;
    house.restart().await;
    let prepared = house.tenant("acme").prepare(&lease).await;
    house.restart().await;
    assert_eq!(house.tenant("acme").prepare(&lease).await, prepared);
    house
        .tenant("acme")
        .order_boot(&lease, prepared.kickstart_sha256)
        .await;
    // The order may have been given to the controller before the stop, and is given once more then.
    house.restart().await;
    house
        .wait_until("power", async || {
            house.power().ends_with(&["off 1".to_owned(), "on 1".to_owned()])
        })
        .await;

    // The boot token is good although another process made it.
    let facts = house.boot(1).await.unwrap();
    house.restart().await;
    let welcome: leaseboot_protocol::agent::Welcome = house
        .client_at(1)
        .good(
            reqwest::Method::POST,
            "/v1/agent/hello",
            Some(facts.boot_token.expose()),
            Some(&house::hello(1)),
        )
        .await;
    let agent = house::Agent {
        number: 1,
        token: welcome.session_token.expose().to_owned(),
        task: welcome.task,
        name: welcome.server.to_string(),
    };
    house.restart().await;
    agent.key(&house).await;
    assert!(agent.kickstart(&house).await.contains("nginx"));
    for (step, state) in [
        (Step::Tunnel, LeaseState::TunnelUp),
        (Step::Initrd, LeaseState::Chained),
        (Step::Wrapper, LeaseState::Installing),
    ] {
        house.restart().await;
        agent.reports(&house, vec![finished(step)]).await;
        let view = house.tenant("acme").view(&lease).await;
        assert_eq!((view.state, view.attempt), (state, 1));
        assert!(view.agent_key.is_some());
    }
    for (word, state) in [
        ("installed", LeaseState::Installed),
        ("in-service", LeaseState::InService),
    ] {
        house.restart().await;
        assert_eq!(house.tenant("acme").tell(&lease, word).await.state, state);
        assert!(house.boot(1).await.is_none());
    }
    house.restart().await;
    house.tenant("acme").release(&lease).await;
    house.restart().await;
    let agent = house.agent(1).await;
    house.restart().await;
    assert_eq!(
        agent.erasure(&house, &house::erasure(true)).await,
        leaseboot_protocol::agent::Directive::PowerOff
    );
    house.restart().await;
    house.wait_for_state(&lease, LeaseState::Ended).await;
    house.restart().await;
    assert_eq!(house.record("s1").await.custody, Custody::Free);
    let events = house.tenant("acme").events(&lease, 0, 0).await.events;
    assert_eq!(events.last().unwrap().sequence, events.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failure_ordered_is_done_after_a_restart() {
    let mut house = House::with(1, "attempts = 1\nmoves = 0\n").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = house.agent(1).await;
    agent
        .reports(&house, vec![failed(Step::Kexec, "no answer")])
        .await;
    house.restart().await;
    assert_eq!(house.tenant("acme").view(&lease).await.state, LeaseState::Failed);
    house
        .wait_until("the power to go off", async || {
            house.power().last().is_some_and(|order| order == "off 1")
        })
        .await;
    assert_eq!(house.record("s1").await.custody, Custody::Quarantined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_while_nobody_looked_is_kept() {
    let mut house = House::with(1, "attempts = 1\n[deadlines]\nprepared = 1\n").await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    tenant.prepare(&lease).await;
    house.stop().await;
    let begun = std::time::Instant::now();
    house
        .wait_until("the deadline to pass", async || {
            begun.elapsed().as_millis() > 1100
        })
        .await;
    house.restart().await;
    house.wait_for_state(&lease, LeaseState::Ended).await;
    assert_eq!(house.record("s1").await.custody, Custody::Free);
}
