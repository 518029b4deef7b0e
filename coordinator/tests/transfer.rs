//! Leases over the real API: a whole transfer, its events, and the ways in which a server comes into it and back.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, erasure, finished, run, settings_for, text};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::agent::{Directive, Outcome, Task};
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::lease::{EventKind, LeaseState, Step};
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_into_service_and_comes_back() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    house
        .wait_until("power", async || house.power() == ["off 1", "on 1"])
        .await;

    let agent = house.agent(1).await;
    let Task::Install(install) = &agent.task else {
        panic!("{:?}", agent.task)
    };
    assert_eq!((&install.lease, agent.name.as_str()), (&lease, "s1"));
    assert_eq!(install.lender_command_line, "console=tty0 console=ttyS0,115200");
    assert_eq!(install.tunnel, settings_for(&lease).tunnel);
    agent.key(&house).await;
    let view = tenant.view(&lease).await;
    assert_eq!(
        (view.state, view.agent_key.map(|key| key.0)),
        (LeaseState::Stage1, Some([1; 32]))
    );

    let kickstart = agent.kickstart(&house).await;
    assert!(kickstart.contains("ignoredisk --only-use=disk/by-id/virtio-DISK1"));
    assert!(kickstart.contains("@sealed:root_password@"));
    for (step, state) in [
        (Step::Tunnel, LeaseState::TunnelUp),
        (Step::Kernel, LeaseState::TunnelUp),
        (Step::Initrd, LeaseState::Chained),
        (Step::Wrapper, LeaseState::Installing),
    ] {
        assert_eq!(
            agent.reports(&house, vec![finished(step)]).await,
            Directive::Continue
        );
        assert_eq!(tenant.view(&lease).await.state, state);
    }
    assert_eq!(
        tenant.tell(&lease, "installed").await.state,
        LeaseState::Installed
    );
    assert!(
        house.boot(1).await.is_none(),
        "an installed server starts from its disk"
    );
    assert_eq!(
        tenant.tell(&lease, "in-service").await.state,
        LeaseState::InService
    );
    assert_eq!(
        tenant.tell(&lease, "in-service").await.state,
        LeaseState::InService,
        "orders may be repeated"
    );

    assert_eq!(tenant.release(&lease).await.state, LeaseState::Returning);
    let of_the_return = ["off 1", "on 1", "off 1", "on 1"];
    house
        .wait_until("power", async || house.power() == of_the_return)
        .await;
    assert_eq!(
        tenant.borrow("two").await.server.as_str(),
        "s2",
        "a server that is not erased is not lent"
    );
    let agent = house.agent(1).await;
    assert!(
        matches!(&agent.task, Task::Wipe(wipe) if wipe.lease == lease),
        "{:?}",
        agent.task
    );
    assert_eq!(agent.erasure(&house, &erasure(true)).await, Directive::PowerOff);
    house.wait_for_state(&lease, LeaseState::Ended).await;
    assert_eq!(house.power().last().unwrap(), "off 1");
    assert_eq!(house.record("s1").await.custody, Custody::Free);
    let signed: SignedErasure = tenant.get(&format!("/v1/leases/{lease}/erasure")).await;
    let file = house.folder().join("erasure.json");
    std::fs::write(&file, serde_json::to_string(&signed).unwrap()).unwrap();
    let key = house.folder().join("acme/erasure.pub");
    let said = run(&["verify-erasure", text(&file), "--key", text(&key)]);
    assert!(
        said.contains("vda") && said.contains("discard") && said.contains("the signature is good"),
        "{said}"
    );
    let others = house.tenant("other");
    let path = format!("/v1/leases/{lease}/erasure");
    assert_eq!(
        others.refused(Method::GET, &path, None, None::<&()>).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(tenant.borrow("three").await.server.as_str(), "s1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_erased_keeps_the_server_until_somebody_has_looked() {
    let house = House::with(1, "").await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    tenant.release(&lease).await;
    let agent = house.agent(1).await;
    agent.erasure(&house, &erasure(false)).await;
    house.wait_for_state(&lease, LeaseState::Ended).await;
    let record = house.record("s1").await;
    assert_eq!(record.custody, Custody::Quarantined);
    assert!(record.reason.contains("it refused"), "{}", record.reason);
    run(&["servers", "erased", "s1", "--config", text(&house.config())]);
    assert_eq!(tenant.borrow("two").await.server.as_str(), "s1");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_without_gaps_and_as_they_happen() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let first = tenant.events(&lease, 0, 0).await;
    assert_eq!(first.events.len(), 1);
    let begun = std::time::Instant::now();
    assert!(tenant.events(&lease, 1, 1).await.events.is_empty());
    assert!(begun.elapsed().as_millis() >= 1000, "it was not held");
    let (next, _) = tokio::join!(tenant.events(&lease, 1, 30), tenant.prepare(&lease));
    assert!(matches!(next.events[0].what, EventKind::Transition { .. }));
    assert_eq!(
        (next.events[0].sequence, next.lease.state),
        (2, LeaseState::Prepared)
    );
    assert!(
        begun.elapsed().as_secs() < 10,
        "it was held although something happened"
    );

    tenant.boot("one").await;
    let agent = house.agent(1).await;
    let progress = house::report(
        Step::Kernel,
        Outcome::Progress {
            bytes: 5,
            total: Some(9),
        },
    );
    agent.reports(&house, vec![progress]).await;
    let all = tenant.events(&lease, 0, 0).await.events;
    let sequences: Vec<_> = all.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>());
    let has = |wanted: EventKind| all.iter().any(|event| event.what == wanted);
    assert!(
        has(EventKind::StepFinished {
            step: Step::Drivers,
            took_ms: 1,
            bytes: 10
        }),
        "{all:#?}"
    );
    assert!(has(EventKind::StepProgress {
        step: Step::Kernel,
        bytes: 5,
        total: Some(9)
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_record_reports_itself_and_is_free_then() {
    let house = House::build(&House::server(1, "true"), "").await;
    house
        .wait_until("the inventory boot", async || house.power() == ["off 1", "on 1"])
        .await;
    let agent = house.agent(1).await;
    assert_eq!(agent.task, Task::PowerOff);
    assert_eq!(
        agent.reports(&house, vec![finished(Step::Hello)]).await,
        Directive::Continue
    );
    assert_eq!(house.record("s1").await.hardware, Some(house::hardware(1)));
    house.tenant("acme").borrow("one").await;
}
