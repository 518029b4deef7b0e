//! Leases over the real API: a whole transfer, and what goes wrong in one.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, address, erasure, failed, finished, hello, run, settings, settings_for, text};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::agent::{Directive, Outcome, Task, Welcome};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::lease::{EventKind, LeaseState, Step};
use leaseboot_protocol::leases::{BootOrder, LeaseList, LeaseRequest, Prepared, Refusal};
use leaseboot_protocol::settings::Requirements;
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
async fn a_wrong_token_is_refused_and_seen_by_both_sides() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    let (client, path, guess) = (house.client_at(1), "/v1/agent/hello", "00".repeat(32));
    let (status, refusal) = client
        .refused(Method::POST, path, Some(&guess), Some(&hello(1)))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(matches!(refusal, Refusal::Unauthorized { .. }));
    let seen = tenant.events(&lease, 0, 0).await.events;
    let error = seen.iter().find_map(|event| match &event.what {
        EventKind::StepFailed {
            step: Step::Hello,
            error,
            ..
        } => error.first(),
        _ => None,
    });
    let error = error.expect("it was not recorded");
    assert!(
        error.contains("boot token is not known") && !error.contains(&guess),
        "{error}"
    );

    // The right one is good once, and from its own address.
    let facts = house.boot(1).await.unwrap();
    let token = facts.boot_token.expose();
    let (status, _) = house
        .client_at(2)
        .refused(Method::POST, path, Some(token), Some(&hello(1)))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let welcome: Welcome = client
        .good(Method::POST, path, Some(token), Some(&hello(1)))
        .await;
    let (status, _) = client
        .refused(Method::POST, path, Some(token), Some(&hello(1)))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        tenant.view(&lease).await.state,
        LeaseState::Stage1,
        "the guess did no harm"
    );

    // So is the session.
    let (session, path) = (welcome.session_token.expose(), "/v1/agent/kickstart");
    let (status, _) = house
        .client_at(2)
        .refused(Method::GET, path, Some(session), None::<&()>)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = client.refused(Method::GET, path, None, None::<&()>).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_nothing_of_each_other() {
    let house = House::new().await;
    let (tenant, other) = (house.tenant("acme"), house.tenant("other"));
    let lease = tenant.borrow("one").await.id;
    assert_eq!(tenant.get::<LeaseList>("/v1/leases").await.leases.len(), 1);
    assert!(other.get::<LeaseList>("/v1/leases").await.leases.is_empty());
    for (method, path) in [
        (Method::GET, format!("/v1/leases/{lease}")),
        (Method::GET, format!("/v1/leases/{lease}/events")),
        (Method::DELETE, format!("/v1/leases/{lease}")),
        (Method::POST, format!("/v1/leases/{lease}/installed")),
    ] {
        let (status, refusal) = other.refused(method.clone(), &path, None, None::<&()>).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let missing = path.replace(lease.as_str(), "l-00000000");
        let (_, unknown) = other.refused(method, &missing, None, None::<&()>).await;
        let words = |refusal: Refusal| refusal.to_string().replace(lease.as_str(), "l-00000000");
        assert_eq!(
            words(refusal),
            words(unknown),
            "the answer tells that the lease exists"
        );
    }
    // The same name of a request is another request.
    assert_ne!(other.borrow("one").await.id, lease);
    assert_eq!(tenant.borrow("one").await.id, lease);
    let (status, _) = house
        .client_at(1)
        .refused(Method::GET, "/v1/leases", None, None::<&()>)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_was_changed_is_not_booted_and_served_as_it_is() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let agreed = tenant.prepare(&lease).await;
    assert_eq!(Sha256::of(agreed.kickstart.as_bytes()), agreed.kickstart_sha256);
    let change = |from: &str, to: &str| {
        let sql = format!("UPDATE kickstarts SET merged = replace(merged, '{from}', '{to}')");
        let store = house.folder().join("lm/lm.sqlite");
        let status = std::process::Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .arg(store)
            .arg(sql)
            .status()
            .expect("sqlite3 is needed");
        assert!(status.success());
    };
    change("nginx", "evil");
    let order = BootOrder {
        kickstart_sha256: agreed.kickstart_sha256,
    };
    let path = format!("/v1/leases/{lease}/boot");
    let (status, refusal) = tenant.refused(Method::POST, &path, None, Some(&order)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        refusal.to_string().contains(&agreed.kickstart_sha256.to_string()),
        "{refusal}"
    );
    change("evil", "nginx");
    tenant.order_boot(&lease, agreed.kickstart_sha256).await;
    change("nginx", "evil");
    let text = house.agent(1).await.kickstart(&house).await;
    assert_ne!(
        Sha256::of(text.as_bytes()),
        agreed.kickstart_sha256,
        "the agent could not find out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_given_to_one_server_at_a_time() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let (first, second) = (tenant.borrow("one").await.id, tenant.borrow("two").await.id);
    tenant.prepare(&first).await;
    let path = format!("/v1/leases/{second}/settings");
    let taken = settings_for(&first);
    let (status, refusal) = tenant.refused(Method::PUT, &path, None, Some(&taken)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refusal.to_string().contains(first.as_str()), "{refusal}");
    // Once the first is over, its address is free.
    tenant.release(&first).await;
    house.wait_for_state(&first, LeaseState::Ended).await;
    let _: Prepared = tenant.good(Method::PUT, &path, None, Some(&taken)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_cannot_work_names_both_lines_before_any_power() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let mut wrong = settings();
    wrong.kickstart.push_str("zerombr\n");
    let path = format!("/v1/leases/{lease}/settings");
    let (status, refusal) = tenant.refused(Method::PUT, &path, None, Some(&wrong)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let Refusal::Merge { problems } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(problems[0].enterprise.as_ref().unwrap().number, 7);
    assert_eq!(problems[0].lender.as_ref().unwrap().text, "zerombr");
    let order = BootOrder {
        kickstart_sha256: Sha256::of(b""),
    };
    let (status, _) = tenant
        .refused(
            Method::POST,
            &format!("/v1/leases/{lease}/boot"),
            None,
            Some(&order),
        )
        .await;
    assert_eq!((status, house.power().len()), (StatusCode::CONFLICT, 0));
    assert_eq!(
        tenant.prepare(&lease).await,
        tenant.prepare(&lease).await,
        "settings may be repeated"
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn strangers_report_themselves_and_get_nothing() {
    let house = House::new().await;
    let agent = house.agent(77).await;
    assert_eq!(
        (agent.task, agent.name.as_str()),
        (Task::PowerOff, "stranger-52540000004d")
    );
    let strangers = house.driver.store().strangers().await.unwrap();
    assert_eq!(
        (strangers[0].mac, strangers[0].address),
        (house::mac(77), address(77))
    );
    assert!(run(&["status", "--config", text(&house.config())]).contains("STRANGER"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_archive_is_for_one_server_and_one_boot() {
    use leaseboot_lm::boot::{BootDirectory as _, BootPlan};
    let house = House::new().await;
    house.tenant("acme").boot("one").await;
    let BootPlan::Agent(first) = house.driver.plan(house::mac(1), address(1)).await.unwrap() else {
        panic!()
    };
    let BootPlan::Agent(second) = house.driver.plan(house::mac(1), address(1)).await.unwrap() else {
        panic!()
    };
    assert!(
        house
            .driver
            .site_facts(&first.site, address(1))
            .await
            .unwrap()
            .is_none(),
        "an earlier one"
    );
    assert!(
        house
            .driver
            .site_facts(&second.site, address(2))
            .await
            .unwrap()
            .is_none(),
        "from elsewhere"
    );
    assert!(
        house
            .driver
            .site_facts(&second.site, address(1))
            .await
            .unwrap()
            .is_none(),
        "a second time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_refusal() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    for (method, path, body, expected) in [
        (Method::GET, "/v1/nothing".to_owned(), None, StatusCode::NOT_FOUND),
        (
            Method::PATCH,
            "/v1/leases".to_owned(),
            None,
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            Method::GET,
            "/v1/leases/A%20b".to_owned(),
            None,
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::GET,
            format!("/v1/leases/{lease}/events?after=x"),
            None,
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/v1/leases".to_owned(),
            Some(serde_json::json!({"x": 1})),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            Method::POST,
            format!("/v1/leases/{lease}/installed"),
            None,
            StatusCode::CONFLICT,
        ),
    ] {
        let (status, refusal) = tenant.refused(method, &path, None, body.as_ref()).await;
        assert_eq!(status, expected, "{path}: {refusal}");
        assert!(!refusal.to_string().is_empty());
    }
    // Nobody reads on to the end of what is too long, so the answer may be lost to the broken connection.
    let long = tenant
        .client
        .post(format!("{}/v1/leases", tenant.base))
        .json(&"x".repeat(2 << 20))
        .send()
        .await;
    assert!(long.is_err() || long.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
}
