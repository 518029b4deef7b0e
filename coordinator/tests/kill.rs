//! The Lease Manager as a process of its own, killed with SIGKILL after every transition that it has acknowledged.
//!
//! Server, firmware and enterprise are this process: they ask as they would ask over a wire, and ask again after the kill where they got no
//! answer.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;
mod process;

use house::{KICKSTART, PATIENCE, Tenant, erasure, failed, finished, hello, mac, report, run, text};
use leaseboot_protocol::agent::{BootFacts, Directive, KeyOffer, Outcome, Reports, Task, Welcome};
use leaseboot_protocol::erasure::{ErasureKey, SignedErasure};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{EventKind, LeaseState, Step};
use leaseboot_protocol::network::WireguardPublicKey;
use process::{Process, Start, in_a_namespace};
use reqwest::Method;
use serde_json::{Value, json};

#[test]
fn a_lease_manager_that_is_killed_after_any_transition_goes_on_where_it_was() {
    let name = "a_lease_manager_that_is_killed_after_any_transition_goes_on_where_it_was";
    in_a_namespace(name, one_life);
}

/// The Lease Manager that is killed.
struct Lm {
    process: Process,
    kills: u32,
}

impl Lm {
    fn start() -> Self {
        let process = Process::start(&Start {
            servers: 2,
            outcome: "sleep 0.1",
            config: &|config| config.replace("attempts = 3", "attempts = 1"),
            files: &[],
        });
        Self { process, kills: 0 }
    }

    fn kill(&mut self) {
        self.process.kill();
        self.kills += 1;
    }

    fn kill_and_start(&mut self) {
        self.kill();
        self.process.start_again();
    }

    fn tenant(&self) -> Tenant {
        self.process.tenant()
    }

    /// Somebody at the address of a server.
    fn at(&self, number: u8) -> Tenant {
        self.process.server(number)
    }

    fn status(&self) -> Value {
        let said = run(&[
            "status",
            "--json",
            "--all",
            "--config",
            text(&self.process.config()),
        ]);
        serde_json::from_str(&said).unwrap()
    }

    /// Who has a server, as `status` says.
    fn custody(&self, number: u8) -> String {
        let status = self.status();
        let servers = status["servers"].as_array().unwrap();
        let lent = servers
            .iter()
            .filter(|server| server["custody"] == "lent")
            .count();
        assert!(lent <= 1, "one lease, two servers: {status:#}");
        let name = format!("s{number}");
        let found = servers.iter().find(|server| server["name"] == *name).unwrap();
        found["custody"].as_str().unwrap().to_owned()
    }

    async fn until(&self, what: &str, found: impl AsyncFn() -> bool) {
        let waiting = async {
            while !found().await {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(
            waited.is_ok(),
            "{what} did not come after {} kills: {:#}",
            self.kills,
            self.status()
        );
    }

    async fn until_state(&self, lease: &LeaseId, state: LeaseState) {
        let tenant = self.tenant();
        self.until(&format!("the state {state}"), async || {
            tenant.view(lease).await.state == state
        })
        .await;
    }

    /// Waits until the last power order of a server is `order`, such as `on 1`.
    async fn until_power(&self, order: &str) {
        let log = self.process.folder().join("power.log");
        let server = order.split_once(' ').unwrap().1;
        let last = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines()
                .rfind(|line| line.ends_with(server))
                .map(str::to_owned)
        };
        self.until(&format!("the power order {order}"), async || {
            last().as_deref() == Some(order)
        })
        .await;
    }

    /// What the firmware does: asks for its script, then for the archive that the script names. It asks until it gets one.
    async fn firmware(&self, number: u8) -> BootFacts {
        let client = self.at(number).client;
        let get = async |path: &str| {
            let answer = client
                .get(format!("http://127.0.0.1{path}"))
                .send()
                .await
                .unwrap();
            answer.bytes().await.unwrap()
        };
        let script = get(&format!("/boot/ipxe/{}.ipxe", mac(number))).await;
        let script = String::from_utf8(script.to_vec()).unwrap();
        let (_, site) = script
            .split_once("/boot/site/")
            .unwrap_or_else(|| panic!("{script}"));
        let name = site.split_whitespace().next().unwrap();
        let archive = get(&format!("/boot/site/{name}")).await;
        let begin = archive
            .windows(10)
            .position(|window| window == b"{\"lm_url\":")
            .unwrap();
        let mut facts = serde_json::Deserializer::from_slice(&archive[begin..]).into_iter();
        facts.next().unwrap().unwrap()
    }

    /// The agent's first word, after a whole boot.
    async fn agent(&mut self, number: u8) -> (String, Task) {
        let facts = self.firmware(number).await;
        self.kill_and_start();
        let client = self.at(number);
        let token = Some(facts.boot_token.expose());
        let welcome: Welcome = client
            .good(Method::POST, "/v1/agent/hello", token, Some(&hello(number)))
            .await;
        self.kill_and_start();
        (welcome.session_token.expose().to_owned(), welcome.task)
    }

    async fn reports(&mut self, number: u8, token: &str, step: Step, outcome: Outcome) -> Directive {
        let reports = Reports {
            reports: vec![report(step, outcome)],
        };
        let client = self.at(number);
        let directive = client
            .good(Method::POST, "/v1/agent/reports", Some(token), Some(&reports))
            .await;
        self.kill_and_start();
        directive
    }
}

async fn one_life() {
    let mut lm = Lm::start();
    let lease = to_installing(&mut lm).await;
    it_moves(&mut lm, &lease).await;
    to_service(&mut lm, &lease).await;
    goes_back_and_is_erased(&mut lm, &lease).await;
    waits_for_another_server(&mut lm).await;
    println!("the leases came to their ends after {} kills", lm.kills);
}

async fn to_installing(lm: &mut Lm) -> LeaseId {
    let lease = lm.tenant().borrow("one").await.id;
    lm.kill_and_start();
    assert_eq!(
        lm.tenant().borrow("one").await.id,
        lease,
        "the same request, the same lease"
    );
    let prepared = lm.tenant().prepare(&lease).await;
    assert!(prepared.kickstart.contains(KICKSTART.lines().last().unwrap()));
    lm.kill_and_start();
    assert_eq!(lm.tenant().prepare(&lease).await, prepared);
    lm.tenant().order_boot(&lease, prepared.kickstart_sha256).await;
    lm.kill_and_start();
    lm.until_power("on 1").await;
    let (token, task) = lm.agent(1).await;
    assert!(matches!(task, Task::Install(_)), "{task:?}");
    let key = KeyOffer {
        key: WireguardPublicKey([1; 32]),
    };
    let offered = lm
        .at(1)
        .ask(Method::PUT, "/v1/agent/key", Some(&token), Some(&key))
        .await;
    assert!(offered.0.is_success(), "{offered:?}");
    lm.kill_and_start();
    for (step, state) in [
        (Step::Tunnel, LeaseState::TunnelUp),
        (Step::Initrd, LeaseState::Chained),
    ] {
        let outcome = finished(step).outcome;
        assert_eq!(lm.reports(1, &token, step, outcome).await, Directive::Continue);
        let view = lm.tenant().view(&lease).await;
        assert_eq!((view.state, view.agent_key), (state, Some(key.key)));
    }
    // The server fails for good. What comes of it is another's to look at.
    let outcome = failed(Step::Kexec, "it hangs").outcome;
    assert_eq!(
        lm.reports(1, &token, Step::Kexec, outcome).await,
        Directive::PowerOff
    );
    lease
}

/// The failed server is quarantined and off, and the lease waits for consent to the merge with the second.
async fn it_moves(lm: &mut Lm, lease: &LeaseId) {
    let view = lm.tenant().view(lease).await;
    assert_eq!(
        (view.state, view.server.as_str(), view.moves),
        (LeaseState::Prepared, "s2", 1)
    );
    assert_eq!(
        (lm.custody(1).as_str(), lm.custody(2).as_str()),
        ("quarantined", "lent")
    );
    lm.until_power("off 1").await;
    let events = lm.tenant().events(lease, 0, 0).await.events;
    let moved = events
        .iter()
        .filter(|event| matches!(event.what, EventKind::Moved { .. }))
        .count();
    assert_eq!(moved, 1);
}

async fn to_service(lm: &mut Lm, lease: &LeaseId) {
    let prepared = lm.tenant().prepare(lease).await;
    assert!(
        prepared.kickstart.contains("virtio-DISK2"),
        "merged with the new hardware"
    );
    lm.tenant().order_boot(lease, prepared.kickstart_sha256).await;
    lm.kill_and_start();
    lm.until_power("on 2").await;
    let (token, _) = lm.agent(2).await;
    for step in [Step::Tunnel, Step::Initrd, Step::Wrapper] {
        lm.reports(2, &token, step, finished(step).outcome).await;
    }
    assert_eq!(lm.tenant().view(lease).await.state, LeaseState::Installing);
    for (word, state) in [
        ("installed", LeaseState::Installed),
        ("in-service", LeaseState::InService),
    ] {
        assert_eq!(lm.tenant().tell(lease, word).await.state, state);
        lm.kill_and_start();
        assert_eq!(lm.tenant().tell(lease, word).await.state, state, "said twice");
    }
    let before = lm.tenant().view(lease).await.expires;
    let path = format!("/v1/leases/{lease}/renew");
    let year = json!({ "term_s": 365 * 86_400 });
    let renewed: leaseboot_protocol::lease::LeaseView =
        lm.tenant().good(Method::POST, &path, None, Some(&year)).await;
    lm.kill_and_start();
    let after = lm.tenant().view(lease).await.expires;
    assert!(after > before && after == renewed.expires);
}

async fn goes_back_and_is_erased(lm: &mut Lm, lease: &LeaseId) {
    assert_eq!(lm.tenant().release(lease).await.state, LeaseState::Returning);
    lm.kill_and_start();
    lm.until_power("on 2").await;
    let (token, task) = lm.agent(2).await;
    assert!(matches!(task, Task::Wipe(_)), "{task:?}");
    assert_eq!(lm.tenant().view(lease).await.state, LeaseState::Wiping);
    let half = Outcome::Progress {
        bytes: 1,
        total: Some(2),
    };
    assert_eq!(
        lm.reports(2, &token, Step::Erase, half).await,
        Directive::Continue
    );
    let client = lm.at(2);
    let said: Directive = client
        .good(
            Method::PUT,
            "/v1/agent/erasure",
            Some(&token),
            Some(&erasure(true)),
        )
        .await;
    assert_eq!(said, Directive::PowerOff);
    lm.kill_and_start();
    lm.until_state(lease, LeaseState::Ended).await;
    lm.kill_and_start();
    lm.until_power("off 2").await;
    assert_eq!(lm.custody(2), "free");
    let signed: SignedErasure = lm.tenant().get(&format!("/v1/leases/{lease}/erasure")).await;
    let key: ErasureKey = lm.tenant().get("/v1/erasure-key").await;
    assert_eq!(signed.verify(&key).unwrap().report, erasure(true));
    let events = lm.tenant().events(lease, 0, 0).await.events;
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(
        sequences,
        (1..=sequences.len() as u64).collect::<Vec<_>>(),
        "no event is lost or double"
    );
    let erased = events
        .iter()
        .filter(|event| matches!(event.what, EventKind::Erased { .. }))
        .count();
    assert_eq!(erased, 1);
}

/// The first server is still quarantined when the second fails too: the lease waits until somebody sets one free.
async fn waits_for_another_server(lm: &mut Lm) {
    let lease = lm.tenant().boot("two").await;
    let (token, _) = lm.agent(2).await;
    let outcome = failed(Step::Kexec, "it hangs").outcome;
    assert_eq!(
        lm.reports(2, &token, Step::Kexec, outcome).await,
        Directive::PowerOff
    );
    let view = lm.tenant().view(&lease).await;
    assert_eq!(view.state, LeaseState::Moving, "{}", view.reason);
    assert_eq!(lm.custody(2), "quarantined");
    lm.kill();
    run(&["servers", "erased", "s1", "--config", text(&lm.process.config())]);
    lm.process.start_again();
    lm.until_state(&lease, LeaseState::Prepared).await;
    lm.kill_and_start();
    assert_eq!(lm.tenant().view(&lease).await.server.as_str(), "s1");
    assert_eq!(lm.tenant().release(&lease).await.state, LeaseState::Ended);
    lm.kill_and_start();
    assert_eq!(lm.custody(1), "free", "it was never booted for this lease");
}
