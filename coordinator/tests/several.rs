//! Three Lease Managers on one PostgreSQL serve one fleet, and lose one of them by `kill -9`.
//!
//! The first test holds eight servers at eight places of their boots, kills the one that carries a power order of theirs while the others
//! ask it, and sees every boot through by way of the two that are left. The second kills at random, again and again ([`interleaving`]).

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;
mod interleaving;
mod managers;

use futures_util::future::join_all;
use house::{finished, hello, report, settings_for};
use leaseboot_protocol::agent::{BootFacts, Directive, KeyOffer, Outcome, Reports, Welcome};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{EventKind, LeaseState, LeaseView, Step};
use leaseboot_protocol::leases::{BootOrder, EventBatch, LeaseRequest, Prepared};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::settings::Requirements;
use managers::{Asked, COUNT, Managers};
use reqwest::{Method, StatusCode};
use std::collections::BTreeMap;

const SERVERS: u8 = 8;
/// Servers whose power orders wait for the kill.
const HELD: [u8; 2] = [1, 2];

#[test]
fn a_fleet_boots_on_when_one_of_three_managers_is_killed() {
    let name = "a_fleet_boots_on_when_one_of_three_managers_is_killed";
    managers::run_test(name, SERVERS, 3, one_is_killed_in_mid_boot);
}

#[test]
fn two_leases_never_hold_one_server_whoever_is_killed() {
    let name = "two_leases_never_hold_one_server_whoever_is_killed";
    managers::run_test(name, interleaving::SERVERS, 1, interleaving::run);
}

/// How far a boot has come, with what the server holds in its memory there.
#[derive(Clone)]
enum Stage {
    /// Power is ordered.
    Ordered,
    /// The firmware has its script from one of the managers.
    Script {
        manager: usize,
        site: String,
    },
    /// The site archive is there.
    Archive(Box<BootFacts>),
    /// The agent was welcomed.
    Hello {
        token: String,
    },
    /// The tunnel is up, and the initrd half there.
    Downloading {
        token: String,
    },
    /// The enterprise's installer runs.
    Installing,
    /// The member's key is registered.
    Installed,
    InService,
}

/// One server's boot, which speaks as server and tenant do, to whoever answers.
struct Boot<'a> {
    managers: &'a Managers,
    server: u8,
    lease: LeaseId,
    stage: Stage,
}

async fn one_is_killed_in_mid_boot(managers: &Managers) {
    for server in HELD {
        managers.hold(server);
    }
    let mut boots = Vec::new();
    for number in 0..usize::from(SERVERS) {
        boots.push(Boot::order(managers, number).await);
    }
    let held = managers.until_power(|power| power.server == HELD[0]).await;
    let victim = managers.of_process(held.manager).expect("one of the managers");
    join_all(boots.iter_mut().map(|boot| boot.come_to_its_place(victim))).await;
    // From here on each asks the victim first, while it is killed.
    let freed = async {
        for server in HELD {
            let taken_over = |manager| manager != held.manager && managers.of_process(manager).is_some();
            managers
                .until_power(|power| power.server == server && taken_over(power.manager))
                .await;
            managers.let_go(server);
        }
    };
    let on = join_all(boots.iter_mut().map(|boot| boot.come_into_service(victim)));
    tokio::join!(managers.kill(victim), freed, on);
    for boot in &boots {
        boot.check().await;
    }
    power_was_done_once(managers, held.manager);
    managers.command(&["audit", "verify"]).await.unwrap();
}

/// Each server was sent through its boot once: switched off, and on.
fn power_was_done_once(managers: &Managers, killed: u32) {
    let done: Vec<_> = managers.power().into_iter().filter(|power| power.done).collect();
    for server in 1..=SERVERS {
        let of_it = done.iter().filter(|power| power.server == server);
        let of_it: Vec<_> = of_it.map(|power| power.order.as_str()).collect();
        assert_eq!(of_it, ["off", "on"], "the power of server {server}: {done:#?}");
    }
    let taken_over = done.iter().filter(|power| power.server == HELD[0]);
    assert!(
        taken_over.into_iter().all(|power| power.manager != killed),
        "{done:#?}"
    );
}

impl<'a> Boot<'a> {
    /// Borrows a server, prepares it and orders the boot, at whichever manager.
    async fn order(managers: &'a Managers, number: usize) -> Self {
        let tenant = managers.tenant(0);
        let request = LeaseRequest {
            request_id: format!("boot {number}"),
            requirements: Requirements::default(),
            term_s: None,
            group: None,
        };
        let asked = Asked::new(Method::POST, "/v1/leases").body(&request);
        let view: LeaseView = managers.insist(number, tenant, &asked).await.good();
        let path = format!("/v1/leases/{}/settings", view.id);
        let asked = Asked::new(Method::PUT, &path).body(&settings_for(&view.id));
        let prepared: Prepared = managers.insist(number + 1, tenant, &asked).await.good();
        let path = format!("/v1/leases/{}/boot", view.id);
        let order = BootOrder {
            kickstart_sha256: prepared.kickstart_sha256,
        };
        let asked = Asked::new(Method::POST, &path).body(&order);
        let ordered: LeaseView = managers.insist(number + 2, tenant, &asked).await.good();
        assert_eq!(ordered.state, LeaseState::Booting);
        Self {
            managers,
            server: view.server.as_str()[1..].parse().unwrap(),
            lease: view.id,
            stage: Stage::Ordered,
        }
    }

    /// The place where it stands when one of the managers is killed: another one for each server.
    async fn come_to_its_place(&mut self, victim: usize) {
        let wanted = match self.server {
            server if HELD.contains(&server) => return,
            3 => "script",
            4 => "archive",
            5 => "hello",
            6 => "downloading",
            7 => "installing",
            _ => "installed",
        };
        while self.stage.name() != wanted {
            self.step(victim).await;
        }
    }

    async fn come_into_service(&mut self, victim: usize) {
        while self.stage.name() != "in service" {
            self.step(victim).await;
        }
    }

    /// The next step; `first` is asked first, and another one when it does not answer.
    async fn step(&mut self, first: usize) {
        self.stage = match self.stage.clone() {
            Stage::Ordered => self.firmware(first).await,
            Stage::Script { manager, site } => {
                let archive = self.managers.archive(manager, self.server, &site).await;
                // Only who promised an archive gives it; without one the firmware begins anew.
                archive.map_or(Stage::Ordered, |facts| {
                    // With these the agent, too, finds whoever is left.
                    assert_eq!(facts.lm_others.len(), COUNT - 1);
                    Stage::Archive(Box::new(facts))
                })
            }
            Stage::Archive(facts) => self.hello(first, &facts).await,
            Stage::Hello { token } => self.tunnel(first, token).await,
            Stage::Downloading { token } => self.installer(first, &token).await,
            Stage::Installing => self.tell(first, "installed", Stage::Installed).await,
            Stage::Installed | Stage::InService => self.tell(first, "in-service", Stage::InService).await,
        };
    }

    async fn firmware(&self, first: usize) -> Stage {
        let server = self.server;
        let on = |power: &managers::Power| power.done && power.order == "on" && power.server == server;
        self.managers.until_power(on).await;
        for manager in (first..first + COUNT).map(|manager| manager % COUNT) {
            if let Some(site) = self.managers.script(manager, self.server).await {
                return Stage::Script { manager, site };
            }
        }
        Stage::Ordered
    }

    async fn hello(&self, first: usize, facts: &BootFacts) -> Stage {
        let hello = hello(self.server);
        let asked = Asked::new(Method::POST, "/v1/agent/hello")
            .token(facts.boot_token.expose())
            .body(&hello);
        let answer = self
            .managers
            .insist(first, self.managers.card(self.server), &asked)
            .await;
        // The token was used up, and the answer lost with the one that gave it: the server restarts.
        if answer.status == StatusCode::UNAUTHORIZED {
            return Stage::Ordered;
        }
        let welcome: Welcome = answer.good();
        Stage::Hello {
            token: welcome.session_token.expose().to_owned(),
        }
    }

    async fn tunnel(&self, first: usize, token: String) -> Stage {
        let offer = KeyOffer { key: self.key() };
        let asked = Asked::new(Method::PUT, "/v1/agent/key")
            .token(&token)
            .body(&offer);
        let answer = self
            .managers
            .insist(first, self.managers.card(self.server), &asked)
            .await;
        assert!(answer.status.is_success(), "{}", answer.text);
        let half = Outcome::Progress {
            bytes: 1,
            total: Some(2),
        };
        self.reports(
            first,
            &token,
            vec![finished(Step::Tunnel), report(Step::Initrd, half)],
        )
        .await;
        Stage::Downloading { token }
    }

    async fn installer(&self, first: usize, token: &str) -> Stage {
        self.reports(first, token, vec![finished(Step::Initrd)]).await;
        self.reports(first + 1, token, vec![finished(Step::Wrapper)])
            .await;
        Stage::Installing
    }

    async fn reports(&self, first: usize, token: &str, reports: Vec<leaseboot_protocol::agent::Report>) {
        let asked = Asked::new(Method::POST, "/v1/agent/reports")
            .token(token)
            .body(&Reports { reports });
        let answer = self
            .managers
            .insist(first, self.managers.card(self.server), &asked)
            .await;
        assert_eq!(answer.good::<Directive>(), Directive::Continue);
    }

    async fn tell(&self, first: usize, word: &str, then: Stage) -> Stage {
        let path = format!("/v1/leases/{}/{word}", self.lease);
        let asked = Asked::new(Method::POST, &path);
        let answer = self.managers.insist(first, self.managers.tenant(0), &asked).await;
        answer.good::<LeaseView>();
        then
    }

    fn key(&self) -> WireguardPublicKey {
        WireguardPublicKey([self.server; 32])
    }

    /// It is in service on its first server, and its history is that of one boot.
    async fn check(&self) {
        let path = format!("/v1/leases/{}/events", self.lease);
        let asked = Asked::new(Method::GET, &path);
        let batch: EventBatch = self
            .managers
            .insist(0, self.managers.tenant(0), &asked)
            .await
            .good();
        let EventBatch { lease, events } = batch;
        assert_eq!(
            (lease.state, lease.moves),
            (LeaseState::InService, 0),
            "{events:#?}"
        );
        let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        let mut entered = BTreeMap::<_, u32>::new();
        for event in &events {
            if matches!(event.what, EventKind::Transition { .. }) {
                *entered.entry(event.state).or_default() += 1;
            }
        }
        // A server whose welcome was lost with the manager restarts once; nothing else happens twice.
        let boots = entered.remove(&LeaseState::Stage1);
        assert!(matches!(boots, Some(1 | 2)), "{events:#?}");
        assert!(
            entered.values().all(|times| *times == 1),
            "{entered:?}: {events:#?}"
        );
        assert_eq!(entered.len(), 8, "{entered:?}");
    }
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Ordered => "ordered",
            Stage::Script { .. } => "script",
            Stage::Archive(_) => "archive",
            Stage::Hello { .. } => "hello",
            Stage::Downloading { .. } => "downloading",
            Stage::Installing => "installing",
            Stage::Installed => "installed",
            Stage::InService => "in service",
        }
    }
}
