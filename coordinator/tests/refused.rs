//! What the real API refuses: to whom it tells nothing, which words and texts it does not take, and that every error is a refusal.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, address, hello, run, settings, settings_for, text};
use leaseboot_protocol::agent::{Task, Welcome};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::lease::{EventKind, LeaseState, Step};
use leaseboot_protocol::leases::{BootOrder, LeaseList, Prepared, Refusal};
use reqwest::{Method, StatusCode};

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
