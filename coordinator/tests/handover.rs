//! The two ways into the second kernel, and the console of a boot, as agents and boot loaders meet them.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{Agent, House, finished, report};
use leaseboot_protocol::agent::{Hello, Outcome, Task, Welcome};
use leaseboot_protocol::boot_log::{LogLines, LogSource};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::handover::{Handover, StagedFiles, StagingId};
use leaseboot_protocol::lease::{LeaseState, Step};
use reqwest::{Method, StatusCode};

/// The hello of a server whose firmware tells its model.
fn hello(number: u8) -> Hello {
    let mut hello = house::hello(number);
    hello.hardware.dmi.vendor = "Maker".to_owned();
    hello.hardware.dmi.product = "Board 1".to_owned();
    hello
}

async fn say_hello(house: &House, number: u8) -> Agent {
    say_hello_as(house, number, &hello(number)).await
}

async fn say_hello_as(house: &House, number: u8, hello: &Hello) -> Agent {
    let facts = house.boot(number).await.expect("the server is to run the agent");
    let client = house.client_at(number);
    let token = Some(facts.boot_token.expose());
    let welcome: Welcome = client
        .good(Method::POST, "/v1/agent/hello", token, Some(hello))
        .await;
    Agent {
        number,
        token: welcome.session_token.expose().to_owned(),
        task: welcome.task,
        name: welcome.server.to_string(),
    }
}

fn handover(agent: &Agent) -> Handover {
    match &agent.task {
        Task::Install(task) => {
            assert!(!task.disk.is_empty());
            task.handover
        }
        other => panic!("not an installation: {other:?}"),
    }
}

async fn gathered(house: &House, agent: &Agent) {
    agent.key(house).await;
    let steps = [Step::Tunnel, Step::Initrd].map(finished);
    agent.reports(house, steps.into()).await;
}

async fn put_staged(house: &House, agent: &Agent) -> StatusCode {
    let digest = Sha256::of(b"x");
    let files = StagedFiles {
        id: StagingId::from_random([1; 16]),
        kernel: digest,
        ramdisk: digest,
        start: digest,
    };
    let client = house.client_at(agent.number);
    let asked = client.ask(Method::PUT, "/v1/agent/staged", Some(&agent.token), Some(&files));
    asked.await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs_in_kexec_is_booted_from_its_disk_from_then_on() {
    let house = House::with(2, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = say_hello(&house, 1).await;
    assert_eq!(handover(&agent), Handover::Kexec);
    assert_eq!(
        put_staged(&house, &agent).await,
        StatusCode::CONFLICT,
        "nothing is there yet"
    );
    gathered(&house, &agent).await;

    // The board comes back without a word from the second kernel.
    let agent = say_hello(&house, 1).await;
    assert_eq!(handover(&agent), Handover::Disk);
    gathered(&house, &agent).await;
    for _ in 0..2 {
        assert_eq!(put_staged(&house, &agent).await, StatusCode::NO_CONTENT);
    }
    assert!(
        house.boot(1).await.is_none(),
        "the next start enters what is staged"
    );
    let begins = report(Step::Wrapper, Outcome::Started);
    agent.reports(&house, vec![begins, finished(Step::Wrapper)]).await;
    let view = house.tenant("acme").view(&lease).await;
    assert_eq!((view.state, view.attempt), (LeaseState::Installing, 2));
    assert!(house.boot(1).await.is_some(), "what was staged is no more");

    house.tenant("acme").boot("two").await;
    let other = say_hello(&house, 2).await;
    assert_eq!(handover(&other), Handover::Disk, "the model is remembered");
}

/// Debian's kernel for arm64 has no kexec: what happened on the way cannot speak for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_without_kexec_goes_by_the_disk_from_the_first_boot_on() {
    let house = House::with(1, "").await;
    house.tenant("acme").boot("one").await;
    let without = Hello {
        without_kexec: true,
        ..hello(1)
    };
    for _ in 0..2 {
        let agent = say_hello_as(&house, 1, &without).await;
        assert_eq!(handover(&agent), Handover::Disk);
        gathered(&house, &agent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_boot_says_is_kept_and_printed() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").boot("one").await;
    let agent = say_hello(&house, 1).await;
    let lines = |text: &str| LogLines {
        source: LogSource::Stage1,
        lines: vec![text.to_owned()],
    };
    let client = house.client_at(1);
    for text in [
        "[    0.000000] Linux version",
        "[    1.000] leaseboot: \u{1b}[2Jtunnel",
    ] {
        let said = lines(text);
        let asked = client.ask(Method::POST, "/v1/agent/log", Some(&agent.token), Some(&said));
        assert_eq!(asked.await.0, StatusCode::NO_CONTENT);
    }
    let config = house.config();
    let printed = house::run(&["leases", "log", lease.as_str(), "--config", house::text(&config)]);
    assert!(
        printed.starts_with("===== boot 1 of s1, stage 1, from "),
        "{printed}"
    );
    assert!(
        printed.ends_with("[    0.000000] Linux version\n[    1.000] leaseboot: [2Jtunnel\n"),
        "{printed}"
    );
}
