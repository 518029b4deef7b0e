//! Rescue mode as agents, tenants and operators meet it at the Lease Manager.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{Agent, House, failed, finished, report};
use leaseboot_lm::lease::rescue::ConsoleError;
use leaseboot_lm::lease::rescue::rules::Closed;
use leaseboot_protocol::agent::{Directive, Hello, Outcome, Task, Welcome};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::{LeaseState, Step};
use leaseboot_protocol::rescue::{RescueRequest, RescueView, RescueWord};
use reqwest::{Method, StatusCode};

fn s1() -> ServerId {
    "s1".parse().unwrap()
}

async fn order(house: &House, lease: &LeaseId, stay: bool, lender_console: bool) -> RescueView {
    let request = RescueRequest { stay, lender_console };
    let path = format!("/v1/leases/{lease}/rescue");
    house
        .tenant("acme")
        .good(Method::PUT, &path, None, Some(&request))
        .await
}

async fn word(house: &House, agent: &Agent) -> RescueWord {
    let client = house.client_at(agent.number);
    client
        .good(Method::GET, "/v1/agent/rescue", Some(&agent.token), None::<&()>)
        .await
}

fn servers(house: &House, arguments: &[&str]) -> String {
    let config = house.config();
    house::run(&[&["servers"], arguments, &["--config", house::text(&config)]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_to_stay_fails_without_losing_its_boot_and_goes_on_when_the_order_is_withdrawn() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let ordered = order(&house, &lease, true, false).await;
    assert!(ordered.stay_until.is_some() && !ordered.lender_console);
    assert_eq!(
        order(&house, &lease, true, false).await,
        ordered,
        "the same again changes nothing"
    );

    let agent = house.agent(1).await;
    assert!(matches!(&agent.task, Task::Install(task) if task.stay));
    let power = house.power();
    let told = agent.reports(&house, vec![failed(Step::Key, "no")]).await;
    assert_eq!(told, Directive::Stay);
    let begins = report(Step::Rescue, Outcome::Started);
    assert_eq!(agent.reports(&house, vec![begins]).await, Directive::Stay);
    let record = house.driver.store().lease(&lease).await.unwrap().unwrap();
    assert_eq!(
        record.lease.deadline, ordered.stay_until,
        "its deadline waits for the order's end"
    );
    assert_eq!(house.power(), power, "the power was touched");
    assert!(word(&house, &agent).await.stay);

    let withdrawn = order(&house, &lease, false, false).await;
    assert_eq!(withdrawn.stay_until, None);
    assert!(!word(&house, &agent).await.stay);
    let told = agent.reports(&house, vec![finished(Step::Rescue)]).await;
    assert_eq!(told, Directive::Continue);
    let record = house.driver.store().lease(&lease).await.unwrap().unwrap();
    assert!(
        record.lease.deadline < ordered.stay_until,
        "the usual deadline is back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_it_stays_without_an_order_gets_no_time() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = house.agent(1).await;
    let before = house.driver.store().lease(&lease).await.unwrap().unwrap();
    let begins = report(Step::Rescue, Outcome::Started);
    assert_eq!(agent.reports(&house, vec![begins]).await, Directive::Continue);
    let after = house.driver.store().lease(&lease).await.unwrap().unwrap();
    assert_eq!(after.lease.deadline, before.lease.deadline);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lender_has_no_console_of_a_lease_without_its_tenants_consent() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = house.agent(1).await;
    servers(&house, &["rescue", "s1"]);
    assert!(
        word(&house, &agent).await.stay,
        "the lender's word holds the agent too"
    );
    let refused = house.driver.may_open(&s1()).await;
    assert!(
        matches!(
            refused,
            Err(ConsoleError::Closed {
                why: Closed::NoConsent,
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(house.driver.open_console(&s1()).await.is_err());

    order(&house, &lease, true, true).await;
    let (id, call) = house.driver.open_console(&s1()).await.unwrap();
    let told = word(&house, &agent).await.call.unwrap();
    assert_eq!(told.id, id);
    assert!(
        !word(&house, &agent).await.lender_console,
        "the consent is not the lender's to tell"
    );
    let again = house.driver.open_console(&s1()).await;
    assert!(matches!(again, Err(ConsoleError::Busy { .. })));

    // Withdrawn while it is waited for: the agent is told nothing, and what dials in all the same is refused.
    order(&house, &lease, true, false).await;
    assert_eq!(word(&house, &agent).await.call, None);
    let path = format!("/v1/agent/console/{id}");
    let client = house.client_at(1);
    let asked = client
        .ask(Method::GET, &path, Some(&agent.token), None::<&()>)
        .await;
    assert_eq!(asked.0, StatusCode::CONFLICT);
    drop(call);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_server_is_booted_to_stay_and_powered_off_when_it_is_not_to_any_more() {
    let house = House::with(1, "").await;
    let closed = house.driver.may_open(&s1()).await;
    assert!(matches!(closed, Err(ConsoleError::NotInRescue(_))), "{closed:?}");
    servers(&house, &["rescue", "s1"]);
    house.driver.may_open(&s1()).await.unwrap();
    house.driver.store().announce_work();
    house
        .wait_until("power of s1", async || {
            house.power().iter().any(|line| line == "on 1")
        })
        .await;
    let facts = house.boot(1).await.unwrap();
    let welcome: Welcome = house
        .client_at(1)
        .good::<Welcome>(
            Method::POST,
            "/v1/agent/hello",
            Some(facts.boot_token.expose()),
            Some(&house::hello(1) as &Hello),
        )
        .await;
    assert_eq!(welcome.task, Task::Rescue);
    servers(&house, &["rescue", "s1", "--off"]);
    let agent = Agent {
        number: 1,
        token: welcome.session_token.expose().to_owned(),
        task: welcome.task,
        name: "s1".to_owned(),
    };
    assert!(!word(&house, &agent).await.stay);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_failed_a_lease_is_the_lenders_to_look_at_once_it_was_erased() {
    let house = House::with(1, "attempts = 1\nmoves = 0\n").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = house.agent(1).await;
    agent.reports(&house, vec![failed(Step::Key, "no")]).await;
    house.wait_for_state(&lease, LeaseState::Failed).await;
    servers(&house, &["rescue", "s1"]);
    let refused = house.driver.may_open(&s1()).await;
    assert!(
        matches!(
            refused,
            Err(ConsoleError::Closed {
                why: Closed::Remains,
                ..
            })
        ),
        "{refused:?}"
    );
    servers(&house, &["erased", "s1"]);
    house.driver.may_open(&s1()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_tenant_learns_nothing_and_a_lease_that_runs_its_own_system_is_not_held() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let path = format!("/v1/leases/{lease}/rescue");
    let request = RescueRequest {
        stay: true,
        lender_console: true,
    };
    let other = house.tenant("other");
    let asked = other.ask(Method::PUT, &path, None, Some(&request)).await;
    assert_eq!(asked.0, StatusCode::NOT_FOUND);
    let agent = house.agent(1).await;
    agent.key(&house).await;
    let steps = [Step::Tunnel, Step::Initrd, Step::Wrapper].map(finished);
    agent.reports(&house, steps.into()).await;
    house.tenant("acme").tell(&lease, "installed").await;
    let late = house
        .tenant("acme")
        .ask(Method::PUT, &path, None, Some(&request))
        .await;
    assert_eq!(late.0, StatusCode::CONFLICT);
}
