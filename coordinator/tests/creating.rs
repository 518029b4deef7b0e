//! Requests that create: sent twice they are carried out once. And lists that are read page by page while they grow.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, Tenant};
use leaseboot_protocol::leases::LeaseList;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// `POST /v1/leases` with an idempotency key; gives status, whether the answer was kept from before, and the answer.
async fn borrow(tenant: &Tenant, key: &str, request_id: &str) -> (StatusCode, bool, Value) {
    let request = tenant
        .client
        .post(format!("{}/v1/leases", tenant.base))
        .header("idempotency-key", key)
        .json(&json!({"request_id": request_id, "requirements": {}}));
    let answer = request.send().await.unwrap();
    let replayed = answer.headers().contains_key("idempotency-replayed");
    (answer.status(), replayed, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_brings_one_lease_and_the_same_answer() {
    let mut house = House::new().await;
    let tenant = house.tenant("acme");
    let first = borrow(&tenant, "\"key-1\"", "one").await;
    assert_eq!((first.0, first.1), (StatusCode::CREATED, false), "{}", first.2);
    tenant
        .prepare(&first.2["id"].as_str().unwrap().parse().unwrap())
        .await;
    // The answer is the first one, although the lease has gone on.
    assert_eq!(
        borrow(&tenant, "key-1", "one").await,
        (StatusCode::CREATED, true, first.2.clone())
    );
    let (status, _, problem) = borrow(&tenant, "key-1", "two").await;
    assert_eq!(
        (status, &problem["refusal"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &"invalid".into())
    );
    let list: LeaseList = tenant.get("/v1/leases").await;
    assert_eq!(list.leases.len(), 1, "the other request was not carried out");
    // Another tenant's key is another key, and the same request_id keeps working without one.
    let other = borrow(&house.tenant("other"), "key-1", "one").await;
    assert_eq!((other.0, other.1), (StatusCode::CREATED, false));
    assert_ne!(other.2["id"], first.2["id"]);
    assert_eq!(tenant.borrow("one").await.id.as_str(), first.2["id"]);
    house.restart().await;
    let tenant = house.tenant("acme");
    assert_eq!(
        borrow(&tenant, "key-1", "one").await,
        (StatusCode::CREATED, true, first.2)
    );
    let empty = borrow(&tenant, "\"\"", "three").await;
    assert_eq!(empty.0, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_kept() {
    let house = House::with(1, "").await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await;
    assert_eq!(
        borrow(&tenant, "key", "two").await.0,
        StatusCode::CONFLICT,
        "no server is free"
    );
    tenant.release(&lease.id).await;
    // A lease that never had power leaves its server free at once.
    house
        .wait_until("the server", async || {
            borrow(&tenant, "key", "two").await.0 == StatusCode::CREATED
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_with_one_key_bring_one_lease() {
    let house = House::with(8, "").await;
    let tenant = house.tenant("acme");
    let all = futures_util::future::join_all((0..8).map(|_| borrow(&tenant, "key", "one"))).await;
    for (status, _, answer) in &all {
        let under_way =
            *status == StatusCode::CONFLICT && answer["message"].as_str().unwrap().contains("under way");
        assert!(*status == StatusCode::CREATED || under_way, "{status}: {answer}");
    }
    assert!(all.iter().any(|(status, ..)| *status == StatusCode::CREATED));
    assert_eq!(tenant.get::<LeaseList>("/v1/leases").await.leases.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_lease_once_although_more_are_made() {
    let house = House::with(9, "").await;
    let (tenant, other) = (house.tenant("acme"), house.tenant("other"));
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(tenant.borrow(&format!("r{number}")).await.id);
        if number % 2 == 0 {
            other.borrow(&format!("o{number}")).await;
        }
    }
    let mut read = Vec::new();
    let mut path = "/v1/leases?limit=2".to_owned();
    loop {
        let page: LeaseList = tenant.get(&path).await;
        assert!(page.leases.len() <= 2);
        read.extend(page.leases.into_iter().map(|lease| lease.id));
        if made.len() == 5 {
            made.push(tenant.borrow("late").await.id);
        }
        let Some(next) = page.next else { break };
        path = format!("/v1/leases?limit=2&cursor={next}");
    }
    assert_eq!(read, made);
    for wrong in ["limit=0", "limit=1001", "cursor=x", "cursor=00"] {
        let (status, _) = tenant
            .ask(
                reqwest::Method::GET,
                &format!("/v1/leases?{wrong}"),
                None,
                None::<&()>,
            )
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
