//! Tenants, servers and an operator who do whatever comes to their mind, at managers of which one after the other is killed.
//!
//! After each step the store is looked at from outside, by SQL of this test's own, in one statement and so at one moment:
//!
//! - no two live leases have one server,
//! - every live lease has its server in its custody, and every server that is lent has its live lease,
//! - no server has gone,
//! - a lease has the events that it says it has,
//! - every lease that was acknowledged is there, and none that was given back lives.
//!
//! What each of them decides follows from a seed, which a failure names and [`SEED`] repeats. How their requests meet follows from it only
//! nearly: the processes run as the machine lets them.

use crate::house::{erasure, failed, finished, hello, settings_for};
use crate::managers::{Answer, Asked, COUNT, Managers, TENANTS};
use futures_util::future::join_all;
use leaseboot_protocol::agent::{BootFacts, Directive, Reports, Task, Welcome};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{LeaseState, LeaseView, Step};
use leaseboot_protocol::leases::{BootOrder, LeaseRequest, Prepared};
use leaseboot_protocol::settings::Requirements;
use reqwest::{Method, StatusCode};
use sqlx::AnyPool;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Fewer than the leases that are wanted.
pub(crate) const SERVERS: u8 = 6;
/// Names a seed, to do the same again.
const SEED: &str = "LEASEBOOT_TEST_SEED";
/// Who act at the same time, besides the one who kills.
const ACTORS: u64 = 4;
const CHAOS: Duration = Duration::from_secs(20);
/// Leases are all over, and servers all free, this soon after.
const CALM: Duration = Duration::from_secs(30);

/// All that is wrong, one line for each; `$1` is the number of servers.
const WRONG: &str = r#"
    WITH live AS (SELECT id, server, state FROM leases WHERE state NOT IN ('"moving"', '"ended"', '"failed"'))
    SELECT 'two live leases have ' || server FROM live GROUP BY server HAVING count(*) > 1
    UNION ALL
    SELECT live.id || ' is ' || state || ' and has not its server ' || server FROM live LEFT JOIN servers ON name = server
        WHERE custody IS DISTINCT FROM 'lent' OR servers.lease IS DISTINCT FROM live.id
    UNION ALL
    SELECT name || ' is ' || custody || ' and its lease is ' || coalesce(servers.lease, 'none') FROM servers
        LEFT JOIN live ON live.id = servers.lease AND live.server = name
        WHERE (custody = 'lent') <> (live.id IS NOT NULL) OR (custody <> 'lent' AND servers.lease IS NOT NULL)
    UNION ALL
    SELECT 'servers have gone' WHERE (SELECT count(*) FROM servers) <> $1
    UNION ALL
    SELECT id || ' has not the events that it says it has' FROM leases LEFT JOIN events ON lease = id
        GROUP BY id, leases.events HAVING count(sequence) <> leases.events OR coalesce(max(sequence), 0) <> leases.events"#;

/// Three managers, and what was acknowledged.
struct World<'a> {
    managers: &'a Managers,
    outside: AnyPool,
    acknowledged: RefCell<Vec<Acknowledged>>,
    /// What was done, by kind, to see that nothing was left out.
    done: RefCell<BTreeMap<&'static str, u32>>,
    over: Cell<bool>,
    seed: u64,
}

/// A lease that a manager has told of.
#[derive(Clone)]
struct Acknowledged {
    tenant: usize,
    request: String,
    lease: LeaseId,
    given_back: bool,
}

/// The steps of one actor (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn manager(&mut self) -> usize {
        self.below(COUNT)
    }

    fn time(&mut self, from_ms: usize, to_ms: usize) -> Duration {
        Duration::from_millis((from_ms + self.below(to_ms - from_ms)) as u64)
    }
}

pub(crate) async fn run(managers: &Managers) {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("the seed is a number"),
        Err(_) => getrandom::u64().unwrap(),
    };
    println!("repeat it with {SEED}={seed}");
    sqlx::any::install_default_drivers();
    let world = World {
        managers,
        outside: AnyPool::connect(managers.database()).await.unwrap(),
        acknowledged: RefCell::default(),
        done: RefCell::default(),
        over: Cell::new(false),
        seed,
    };
    let actors = join_all((0..ACTORS).map(|number| world.act(number)));
    let clock = async {
        tokio::time::sleep(CHAOS).await;
        world.over.set(true);
    };
    tokio::join!(actors, world.kill_at_random(), clock);
    world.calm_down().await;
}

impl World<'_> {
    async fn act(&self, number: u64) {
        let mut dice = Dice(self.seed.wrapping_add(number << 32));
        while !self.over.get() {
            match dice.below(20) {
                0..=4 => self.borrow(&mut dice).await,
                5 => self.borrow_again(&mut dice).await,
                6..=7 => drop(self.prepare(&mut dice).await),
                8..=11 => self.boot(&mut dice).await,
                12..=15 => {
                    let server = 1 + dice.below(SERVERS.into()) as u8;
                    let good = dice.below(3) > 0;
                    self.server_boots(&mut dice, server, good).await;
                }
                16..=18 => self.give_back(&mut dice).await,
                _ => drop(self.set_free().await),
            }
            self.look().await;
        }
    }

    async fn kill_at_random(&self) {
        let mut dice = Dice(!self.seed);
        while !self.over.get() {
            tokio::time::sleep(dice.time(200, 1200)).await;
            let manager = dice.manager();
            self.managers.kill(manager).await;
            self.count("killed");
            tokio::time::sleep(dice.time(0, 400)).await;
            self.managers.start(manager).await;
        }
    }

    async fn borrow(&self, dice: &mut Dice) {
        let (tenant, number) = (dice.below(TENANTS.len()), dice.below(usize::MAX));
        self.ask_for_a_server(dice.manager(), tenant, format!("r{number}"))
            .await;
    }

    /// What was asked for before brings what it brought before.
    async fn borrow_again(&self, dice: &mut Dice) {
        let Some(known) = self.any(dice, |_| true) else {
            return;
        };
        let answer = self
            .ask_for_a_server(dice.manager(), known.tenant, known.request)
            .await;
        assert_eq!(
            answer,
            Some(known.lease),
            "another lease for the same request; {}",
            self.seed()
        );
    }

    async fn ask_for_a_server(&self, first: usize, tenant: usize, request: String) -> Option<LeaseId> {
        let asked = LeaseRequest {
            request_id: request.clone(),
            requirements: Requirements::default(),
            term_s: None,
            group: None,
        };
        let asked = Asked::new(Method::POST, "/v1/leases").body(&asked);
        // Whoever gets no answer asks the next one, under the same name.
        let answer = self
            .managers
            .insist(first, self.managers.tenant(tenant), &asked)
            .await;
        let Some(view) = answer.granted::<LeaseView>() else {
            assert_eq!(
                answer.status,
                StatusCode::CONFLICT,
                "{}; {}",
                answer.text,
                self.seed()
            );
            self.count("nothing free");
            return None;
        };
        self.count("lent");
        self.acknowledged.borrow_mut().push(Acknowledged {
            tenant,
            request,
            lease: view.id.clone(),
            given_back: false,
        });
        Some(view.id)
    }

    async fn prepare(&self, dice: &mut Dice) -> Option<(Acknowledged, Prepared)> {
        let known = self.any(dice, |known| !known.given_back)?;
        let path = format!("/v1/leases/{}/settings", known.lease);
        let asked = Asked::new(Method::PUT, &path).body(&settings_for(&known.lease));
        let answer = self.tenant_asks(dice, &known, &asked).await?;
        let prepared = answer.granted()?;
        self.count("prepared");
        Some((known, prepared))
    }

    async fn boot(&self, dice: &mut Dice) {
        let Some((known, Prepared { kickstart_sha256, .. })) = self.prepare(dice).await else {
            return;
        };
        let path = format!("/v1/leases/{}/boot", known.lease);
        let asked = Asked::new(Method::POST, &path).body(&BootOrder { kickstart_sha256 });
        let answer = self.tenant_asks(dice, &known, &asked).await;
        if answer.is_some_and(|answer| answer.status.is_success()) {
            self.count("ordered to boot");
        }
    }

    async fn give_back(&self, dice: &mut Dice) {
        let Some(known) = self.any(dice, |known| !known.given_back) else {
            return;
        };
        let path = format!("/v1/leases/{}", known.lease);
        let answer = self
            .tenant_asks(dice, &known, &Asked::new(Method::DELETE, &path))
            .await;
        if answer.is_some_and(|answer| answer.status.is_success()) {
            self.count("given back");
            let mut all = self.acknowledged.borrow_mut();
            for same in all.iter_mut().filter(|other| other.lease == known.lease) {
                same.given_back = true;
            }
        }
    }

    async fn tenant_asks(&self, dice: &mut Dice, who: &Acknowledged, asked: &Asked<'_>) -> Option<Answer> {
        let client = self.managers.tenant(who.tenant);
        self.managers.ask(dice.manager(), client, asked).await
    }

    /// A server starts, and does what it is told, well or badly. Nobody watches over it: when a manager dies, it stands still.
    async fn server_boots(&self, dice: &mut Dice, server: u8, good: bool) -> Option<()> {
        let manager = dice.manager();
        let site = self.managers.script(manager, server).await?;
        let facts: BootFacts = self.managers.archive(manager, server, &site).await?;
        let card = self.managers.card(server);
        let hello = hello(server);
        let asked = Asked::new(Method::POST, "/v1/agent/hello")
            .token(facts.boot_token.expose())
            .body(&hello);
        let welcome: Welcome = self.managers.ask(dice.manager(), card, &asked).await?.granted()?;
        let token = welcome.session_token.expose();
        let (what, asked) = match welcome.task {
            Task::Install(_) => {
                let report = if good {
                    finished(Step::Tunnel)
                } else {
                    failed(Step::Kexec, "it hangs")
                };
                let reports = Reports {
                    reports: vec![report],
                };
                let what = if good { "installs" } else { "failed" };
                (what, Asked::new(Method::POST, "/v1/agent/reports").body(&reports))
            }
            Task::Wipe(_) => {
                let what = if good { "erased" } else { "not erased" };
                (
                    what,
                    Asked::new(Method::PUT, "/v1/agent/erasure").body(&erasure(good)),
                )
            }
            _ => return None,
        };
        let answer = self
            .managers
            .ask(dice.manager(), card, &asked.token(token))
            .await?;
        answer.granted::<Directive>()?;
        self.count(what);
        Some(())
    }

    /// The operator has looked at one that is quarantined.
    async fn set_free(&self) -> bool {
        let kept = "SELECT name FROM servers WHERE custody IN ('held', 'quarantined') ORDER BY since LIMIT 1";
        let kept: Option<String> = sqlx::query_scalar(kept)
            .fetch_optional(&self.outside)
            .await
            .unwrap();
        let Some(name) = kept else { return false };
        let set_free = self.managers.command(&["servers", "erased", &name]).await;
        // Two may have looked at the same one.
        if let Err(error) = set_free {
            assert!(error.contains("nothing to set free"), "{error}; {}", self.seed());
        }
        self.count("set free");
        true
    }

    fn any(&self, dice: &mut Dice, wanted: impl Fn(&Acknowledged) -> bool) -> Option<Acknowledged> {
        let all = self.acknowledged.borrow();
        let found: Vec<_> = all.iter().filter(|known| wanted(known)).collect();
        (!found.is_empty()).then(|| found[dice.below(found.len())].clone())
    }

    fn count(&self, what: &'static str) {
        *self.done.borrow_mut().entry(what).or_default() += 1;
    }

    fn seed(&self) -> String {
        format!("repeat it with {SEED}={}", self.seed)
    }

    /// Nothing is wrong, and nothing that was acknowledged is missing.
    async fn look(&self) {
        let known = self.acknowledged.borrow().clone();
        let wrong: Vec<String> = sqlx::query_scalar(WRONG)
            .bind(i64::from(SERVERS))
            .fetch_all(&self.outside)
            .await
            .unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}; {}", self.seed());
        let rows: Vec<(String, String, String, String)> =
            sqlx::query_as("SELECT id, tenant, request_id, state FROM leases")
                .fetch_all(&self.outside)
                .await
                .unwrap();
        let leases: BTreeMap<_, _> = rows
            .iter()
            .map(|(id, tenant, request, state)| (id.as_str(), (tenant, request, state)))
            .collect();
        for Acknowledged {
            tenant,
            request,
            lease,
            given_back,
        } in &known
        {
            let found = leases.get(lease.as_str());
            let Some((holder, name, state)) = found else {
                panic!("{lease} was acknowledged and is not there; {}", self.seed());
            };
            assert_eq!(
                (holder.as_str(), *name),
                (TENANTS[*tenant], request),
                "{}",
                self.seed()
            );
            let state: LeaseState = serde_json::from_str(state).unwrap();
            let gone = [
                LeaseState::Returning,
                LeaseState::Wiping,
                LeaseState::Ended,
                LeaseState::Failed,
            ];
            assert!(
                !given_back || gone.contains(&state),
                "{lease} was given back and is {state}; {}",
                self.seed()
            );
        }
        self.count("looks");
    }

    /// Everything is given back; then every server is free, and may be lent again.
    async fn calm_down(&self) {
        let begun = Instant::now();
        let mut dice = Dice(self.seed);
        while self.tidies_up(&mut dice).await {
            self.look().await;
            assert!(
                begun.elapsed() < CALM,
                "leases do not end: {:?}; {}",
                self.open().await,
                self.seed()
            );
        }
        let mut lent = BTreeSet::new();
        for number in 0..=SERVERS {
            lent.extend(
                self.ask_for_a_server(dice.manager(), 0, format!("last {number}"))
                    .await,
            );
        }
        self.look().await;
        assert_eq!(
            lent.len(),
            usize::from(SERVERS),
            "servers are lost; {}",
            self.seed()
        );
        self.managers.command(&["audit", "verify"]).await.unwrap();
        let moved = "SELECT count(*) FROM events WHERE what LIKE '%\"kind\":\"moved\"%'";
        let moved: i64 = sqlx::query_scalar(moved).fetch_one(&self.outside).await.unwrap();
        let done = self.done.borrow();
        println!("{moved} moves; {done:?}");
        for what in [
            "lent",
            "prepared",
            "ordered to boot",
            "installs",
            "failed",
            "given back",
            "erased",
            "set free",
            "killed",
        ] {
            assert!(
                done.contains_key(what),
                "nothing was {what}: {done:?}; {}",
                self.seed()
            );
        }
        assert!(moved > 0, "nothing moved: {done:?}; {}", self.seed());
    }

    /// Gives back, erases and sets free; whether there was anything to do.
    async fn tidies_up(&self, dice: &mut Dice) -> bool {
        let open = self.open().await;
        for (lease, tenant, _) in &open {
            let tenant = TENANTS.iter().position(|name| name == tenant).unwrap();
            let path = format!("/v1/leases/{lease}");
            let asked = Asked::new(Method::DELETE, &path);
            self.managers
                .insist(dice.manager(), self.managers.tenant(tenant), &asked)
                .await;
        }
        for server in 1..=SERVERS {
            self.server_boots(dice, server, true).await;
        }
        self.set_free().await || !open.is_empty()
    }

    async fn open(&self) -> Vec<(String, String, String)> {
        let open = r#"SELECT id, tenant, state FROM leases WHERE state NOT IN ('"ended"', '"failed"')"#;
        sqlx::query_as(open).fetch_all(&self.outside).await.unwrap()
    }
}
