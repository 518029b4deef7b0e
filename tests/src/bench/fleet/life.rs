//! One server's life, from the request of its tenant until it is in service, by a timetable.
//!
//! ```text
//!  0.0 s  borrow, settings, boot order           the tenant
//!         magic packet                           the Lease Manager; nothing goes on before it has come
//!  2.0 s  boot script, site archive              firmware; kernel and stage 1 are left out, as `bench boot` measures them
//!  3.0 s  hello, key, kickstart, 12 reports      the agent in stage 1: as many as while a fetch of two seconds tells of its progress twice a second
//!  9.0 s  2 reports                              the agent in stage 2
//! 11.0 s  installed, in service                  the tenant, whom the member reached through the tunnel
//! ```
//!
//! Left out are the tunnel, the enterprise's bytes and the installation itself, none of which the Lease Manager sees; so a life is
//! shorter than a real one and the load on the Lease Manager denser. Reports are those of `agent/src/report.rs`, batches as its queue makes them.

use super::numbered;
use super::tally::Asked;
use super::wire::{Agent, Desk, Question, fetch};
use super::world::World;
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hyper::Method;
use leaseboot_protocol::agent::{
    BootFacts, Directive, Hello, KeyOffer, Outcome, Report, Reports, Task, Welcome,
};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{LeaseState, LeaseView, Step};
use leaseboot_protocol::leases::{BootOrder, EventBatch, LeaseRequest, Prepared};
use leaseboot_protocol::settings::Requirements;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long what should happen at once may take before the life is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a step stands, in short.
#[derive(Clone, Copy)]
enum Word {
    Started,
    Progress(u64),
    Finished(u64),
}
use Word::{Finished, Progress, Started};

/// What a stage of the agent says to the Lease Manager.
enum Saying {
    Key,
    Kickstart,
    Reports(&'static [(Step, Word)]),
}

/// Before the hello.
const EARLIER: [(Step, Word); 7] = [
    (Step::Drivers, Started),
    (Step::Drivers, Finished(0)),
    (Step::Network, Started),
    (Step::Network, Finished(0)),
    (Step::Clock, Started),
    (Step::Clock, Finished(0)),
    (Step::Hello, Started),
];

/// Milliseconds after the beginning, and what is said.
const STAGE_1: [(u64, Saying); 14] = [
    (
        3_300,
        Saying::Reports(&[(Step::Hello, Finished(0)), (Step::Key, Started)]),
    ),
    (3_400, Saying::Key),
    (
        3_700,
        Saying::Reports(&[(Step::Key, Finished(0)), (Step::Tunnel, Started)]),
    ),
    (
        4_200,
        Saying::Reports(&[(Step::Tunnel, Finished(0)), (Step::Kickstart, Started)]),
    ),
    (4_300, Saying::Kickstart),
    (
        4_600,
        Saying::Reports(&[(Step::Kickstart, Finished(900)), (Step::Sealed, Started)]),
    ),
    (
        4_900,
        Saying::Reports(&[(Step::Sealed, Finished(0)), (Step::Kernel, Started)]),
    ),
    (5_400, Saying::Reports(&[(Step::Kernel, Progress(8 << 20))])),
    (
        5_500,
        Saying::Reports(&[(Step::Kernel, Finished(8 << 20)), (Step::Initrd, Started)]),
    ),
    (6_000, Saying::Reports(&[(Step::Initrd, Progress(10 << 20))])),
    (6_500, Saying::Reports(&[(Step::Initrd, Progress(20 << 20))])),
    (7_000, Saying::Reports(&[(Step::Initrd, Progress(30 << 20))])),
    (
        7_100,
        Saying::Reports(&[(Step::Initrd, Finished(32 << 20)), (Step::Kexec, Started)]),
    ),
    (7_500, Saying::Reports(&[(Step::Kexec, Finished(0))])),
];
const STAGE_2: [(u64, Saying); 2] = [
    (
        9_000,
        Saying::Reports(&[
            (Step::Network, Started),
            (Step::Network, Finished(0)),
            (Step::Wrapper, Started),
        ]),
    ),
    (9_500, Saying::Reports(&[(Step::Wrapper, Finished(0))])),
];

/// Reports of one life.
pub(super) const REPORTS: usize = STAGE_1.len() - 2 + STAGE_2.len();
/// A life under way.
pub(super) struct Life {
    world: Arc<World>,
    /// Of the lease, not of the server: that is for the Lease Manager to choose.
    number: usize,
    begun: Instant,
}

impl Life {
    pub(super) fn new(world: Arc<World>, number: usize, begun: Instant) -> Self {
        Self { world, number, begun }
    }

    /// Lives it; an error when it does not come to its end.
    pub(super) async fn live(self) -> Result<()> {
        let lease = self.orders().await.context("the tenant's orders")?;
        let (id, server) = (lease.id.clone(), numbered::by_name(lease.server.as_str()));
        let server = server.with_context(|| format!("{} is no server of this fleet", lease.server))?;
        let followed = self.world.follows(self.number).then(|| {
            let (world, desk) = (self.world.clone(), self.number);
            tokio::spawn(async move { follow(&world, world.desk(desk), &id).await })
        });
        self.awaken(server).await?;
        let facts = self.firmware(server).await.context("the firmware")?;
        self.agent(server, &facts).await.context("the agent")?;
        self.installed(&lease.id)
            .await
            .context("the end of the installation")?;
        match followed {
            Some(following) => following
                .await
                .context("a follower panicked")?
                .context("the lease's events"),
            None => Ok(()),
        }
    }

    /// Waits until it is time, asks, and notes how long that took since then.
    async fn at<T>(&self, ms: u64, asked: Asked, ask: impl Future<Output = Result<T>>) -> Result<T> {
        let due = self.begun + self.world.paced(Duration::from_millis(ms));
        tokio::time::sleep_until(due).await;
        let answered = tokio::time::timeout(PATIENCE, ask).await;
        self.world.tally.note(asked, due.elapsed());
        answered.with_context(|| format!("no answer within {PATIENCE:?} at {ms} ms"))?
    }

    async fn orders(&self) -> Result<LeaseView> {
        let desk = self.world.desk(self.number);
        let request = LeaseRequest {
            request_id: format!("web-{}", self.number),
            requirements: Requirements::default(),
            term_s: None,
            group: None,
        };
        let borrowing = order(desk, Method::POST, "/v1/leases", &request);
        let lease: LeaseView = self.at(0, Asked::Order, borrowing).await?;
        let path = format!("/v1/leases/{}/settings", lease.id);
        let settings = numbered::settings(self.number);
        let preparing = order(desk, Method::PUT, &path, &settings);
        let Prepared { kickstart_sha256, .. } = self.at(300, Asked::Order, preparing).await?;
        let (path, consent) = (
            format!("/v1/leases/{}/boot", lease.id),
            BootOrder { kickstart_sha256 },
        );
        self.at(600, Asked::Order, order(desk, Method::POST, &path, &consent))
            .await
    }

    async fn awaken(&self, server: usize) -> Result<()> {
        let woken = tokio::time::timeout(PATIENCE, self.world.woken(server)).await;
        woken.with_context(|| {
            format!(
                "no magic packet came for {} within {PATIENCE:?}",
                numbered::name(server)
            )
        })
    }

    async fn firmware(&self, server: usize) -> Result<BootFacts> {
        let (from, to) = (numbered::address(server), self.world.boot);
        let path = format!("/boot/ipxe/{}.ipxe", numbered::card(server));
        let script = self.at(2_000, Asked::Boot, fetch(from, to, &path)).await?;
        let script = String::from_utf8_lossy(&script);
        let mut places = script
            .split_whitespace()
            .filter_map(|word| word.find("/boot/site/").map(|at| &word[at..]));
        let site = places
            .next_back()
            .with_context(|| format!("no stage 1 in the script:\n{script}"))?;
        let archive = self.at(2_050, Asked::Boot, fetch(from, to, site)).await?;
        // The facts are the only file of the archive, and JSON.
        let begin = archive
            .iter()
            .position(|byte| *byte == b'{')
            .context("the site archive is empty")?;
        let mut facts = serde_json::Deserializer::from_slice(&archive[begin..]).into_iter();
        facts
            .next()
            .context("no facts in the site archive")?
            .context("the facts cannot be read")
    }

    async fn agent(&self, server: usize, facts: &BootFacts) -> Result<()> {
        let agent = || Agent::new(numbered::address(server), self.world.api, &self.world.agents);
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            mac: numbered::card(server),
            hardware: numbered::hardware(server),
            earlier: reports(&EARLIER),
            without_kexec: false,
        };
        let first = agent();
        let asking = say(
            &first,
            Method::POST,
            "/v1/agent/hello",
            facts.boot_token.expose(),
            &hello,
        );
        let welcome: Welcome = parse(&self.at(3_000, Asked::Hello, asking).await?)?;
        ensure!(
            matches!(welcome.task, Task::Install(_)),
            "the task is not to install"
        );
        let token = welcome.session_token.expose();
        self.stage(server, &first, token, &STAGE_1).await?;
        self.stage(server, &agent(), token, &STAGE_2).await
    }

    async fn stage(
        &self,
        server: usize,
        agent: &Agent,
        token: &str,
        sayings: &[(u64, Saying)],
    ) -> Result<()> {
        for (ms, saying) in sayings {
            match saying {
                Saying::Key => {
                    let offer = KeyOffer {
                        key: numbered::key(server),
                    };
                    self.at(
                        *ms,
                        Asked::Exchange,
                        say(agent, Method::PUT, "/v1/agent/key", token, &offer),
                    )
                    .await?;
                }
                Saying::Kickstart => {
                    let question = Question {
                        token: Some(token),
                        ..Question::get("/v1/agent/kickstart")
                    };
                    self.at(*ms, Asked::Exchange, agent.ask(&question)).await?;
                }
                Saying::Reports(words) => {
                    let all = Reports {
                        reports: reports(words),
                    };
                    let saying = say(agent, Method::POST, "/v1/agent/reports", token, &all);
                    let answer: Directive = parse(&self.at(*ms, Asked::Progress, saying).await?)?;
                    ensure!(
                        answer == Directive::Continue,
                        "the agent is told to power off at {ms} ms"
                    );
                }
            }
        }
        Ok(())
    }

    async fn installed(&self, lease: &LeaseId) -> Result<()> {
        let desk = self.world.desk(self.number);
        let path = format!("/v1/leases/{lease}/installed");
        let _: LeaseView = self
            .at(11_000, Asked::Order, order(desk, Method::POST, &path, &()))
            .await?;
        let path = format!("/v1/leases/{lease}/in-service");
        let view: LeaseView = self
            .at(11_500, Asked::Order, order(desk, Method::POST, &path, &()))
            .await?;
        ensure!(
            view.state == LeaseState::InService,
            "the lease is {} in the end",
            view.state
        );
        Ok(())
    }
}

/// What the organizer does beside: one question for events, held until there is one, again and again.
async fn follow(world: &World, desk: &Desk, lease: &LeaseId) -> Result<()> {
    let mut after = 0;
    loop {
        let path = format!("/v1/leases/{lease}/events?after={after}&wait_s=30");
        let batch: EventBatch = parse(&desk.ask(&Question::get(&path)).await?)?;
        for event in &batch.events {
            ensure!(
                event.sequence == after + 1,
                "event {} follows event {after}",
                event.sequence
            );
            after = event.sequence;
            let now: Timestamp = SystemTime::now().into();
            world.tally.note(
                Asked::Events,
                Duration::from_millis(now.0.saturating_sub(event.at.0)),
            );
        }
        match batch.lease.state {
            LeaseState::InService => return Ok(()),
            state if state.is_final() => bail!("the lease is {state}: {}", batch.lease.reason),
            _ => {}
        }
    }
}

fn reports(words: &[(Step, Word)]) -> Vec<Report> {
    let at: Timestamp = SystemTime::now().into();
    let report = |(step, word): &(Step, Word)| Report {
        step: *step,
        at,
        outcome: match *word {
            Started => Outcome::Started,
            Progress(bytes) => Outcome::Progress {
                bytes,
                total: Some(32 << 20),
            },
            Finished(bytes) => Outcome::Finished { took_ms: 300, bytes },
        },
    };
    words.iter().map(report).collect()
}

async fn order<T: DeserializeOwned>(
    desk: &Desk,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<T> {
    let body = json(body)?;
    parse(
        &desk
            .ask(&Question {
                method,
                path,
                token: None,
                body,
            })
            .await?,
    )
}

async fn say(agent: &Agent, method: Method, path: &str, token: &str, body: &impl Serialize) -> Result<Bytes> {
    let (token, body) = (Some(token), json(body)?);
    agent
        .ask(&Question {
            method,
            path,
            token,
            body,
        })
        .await
}

fn json(message: &impl Serialize) -> Result<Bytes> {
    Ok(serde_json::to_vec(message)
        .context("a message is not JSON")?
        .into())
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer)
        .with_context(|| format!("an answer cannot be read: {}", String::from_utf8_lossy(answer)))
}
