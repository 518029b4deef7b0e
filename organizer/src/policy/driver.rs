//! Carries out what policies decide: borrows for what is wanted, runs the enterprise's program, gives servers back.
//!
//! Each round reads everything from the store, decides, writes the decisions down and does what the written stages ask for. So a round may
//! end anywhere, by a kill, too: the next one finds what is written and goes on there. A program that was running is run again.

use super::decide::{Action, Verdict};
use super::desk::{Desk, Knowledge};
use super::hook::{self, Word};
use super::{Policy, Server, Stage, Tries, Want, WantKey};
use crate::gateway::Peers;
use crate::organizer::{BorrowError, LookupError, Organizer, Wish};
use crate::store::{CreateError, StoreError};
use crate::{error_chain, now};
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often borrowings are looked at while a policy has some.
const BUSY: Duration = Duration::from_millis(500);
/// How often else: the file of policies may have changed.
const IDLE: Duration = Duration::from_secs(5);
/// A moment that has come is looked at after so long.
const SHORTEST: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Carries out policies until `stop` is cancelled.
pub async fn run<P: Peers>(desk: Arc<Desk>, organizer: Arc<Organizer<P>>, stop: CancellationToken) {
    let mut driver = Driver {
        desk,
        organizer,
        hooks: JoinSet::new(),
        running: BTreeSet::new(),
    };
    loop {
        let pause = driver.round().await.unwrap_or_else(|error| {
            tracing::error!(error = error_chain(&error), "policies wait for the store");
            IDLE
        });
        // Goal: the next round. Nothing is lost by a drop: a notice is kept by `Notify`, a program's end by the `JoinSet`.
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
            () = driver.desk.raised.notified() => {}
            Some(ended) = driver.hooks.join_next() => match ended {
                Ok(ended) => driver.ended(ended).await,
                Err(error) => tracing::error!(%error, "a drain is lost"),
            },
        }
    }
}

struct Driver<P> {
    desk: Arc<Desk>,
    organizer: Arc<Organizer<P>>,
    hooks: JoinSet<Ended>,
    running: BTreeSet<WantKey>,
}

/// A program has ended.
struct Ended {
    key: WantKey,
    word: Word,
    tries: Tries,
    result: Result<(), String>,
}

impl<P: Peers> Driver<P> {
    /// One round; gives how long to wait for the next one.
    async fn round(&mut self) -> Result<Duration, StoreError> {
        self.desk.refresh();
        let policies = self.desk.in_force().policies;
        let mut known = self.desk.knowledge().await?;
        if self.close_what_is_over(&known).await? {
            known = self.desk.knowledge().await?;
        }
        let verdicts = known.verdicts(&policies);
        let mut wake: Option<Timestamp> = None;
        for verdict in &verdicts {
            wake = wake.into_iter().chain(verdict.wake).min();
            if let Some(policy) = policies
                .get(&verdict.policy)
                .filter(|_| verdict.action != Action::Wait)
            {
                self.write(verdict, policy, &known).await?;
            }
        }
        let wants = self.desk.store.wants().await?;
        for want in &wants {
            self.carry_out(want, policies.get(&want.policy)).await?;
        }
        let usual = if wants.is_empty() { IDLE } else { BUSY };
        Ok(wake.map_or(usual, |wake| wake.since(now()).clamp(SHORTEST, usual)))
    }

    async fn close_what_is_over(&self, known: &Knowledge) -> Result<bool, StoreError> {
        let mut any = false;
        for want in known
            .wants
            .iter()
            .filter(|want| want.server == Server::Over || is_lost(want))
        {
            let why = match want.stage {
                Stage::Leaving => "given back",
                _ => "its borrowing ended by itself, or by a person",
            };
            self.desk
                .store
                .moved(&want.key, &Stage::Closed { why: why.to_owned() })
                .await?;
            any = true;
        }
        Ok(any)
    }

    /// Writes a decision down; what it asks for is done by [`Driver::carry_out`], in this round or, after a kill, in the first one.
    async fn write(&self, verdict: &Verdict, policy: &Policy, known: &Knowledge) -> Result<(), StoreError> {
        let keys: &[WantKey] = match &verdict.action {
            Action::GiveBack { wants } | Action::Keep { wants } => wants,
            Action::Wait | Action::Borrow { .. } => &[],
        };
        let concerned = known.wants.iter().filter(|want| keys.contains(&want.key));
        let moved: Vec<_> = concerned
            .map(|want| {
                (
                    want.key.clone(),
                    stage_after(&verdict.action, policy, want, known.now),
                )
            })
            .collect();
        self.desk
            .store
            .decided(verdict, policy, &moved, known.now)
            .await?;
        tracing::info!(policy = verdict.policy, action = %verdict.action, reason = verdict.reason, "a policy decides");
        Ok(())
    }

    async fn carry_out(&mut self, want: &Want, policy: Option<&Policy>) -> Result<(), StoreError> {
        match &want.stage {
            Stage::Wanted => self.borrow(want).await,
            Stage::Draining(tries) => self.ask(want, policy, Word::Drain, tries).await,
            Stage::Resuming(tries) => self.ask(want, policy, Word::Resume, tries).await,
            Stage::Leaving => self.give_back(want).await,
            Stage::Borrowed | Stage::Closed { .. } => Ok(()),
        }
    }

    async fn borrow(&self, want: &Want) -> Result<(), StoreError> {
        let wish = Wish {
            profile: want.profile.clone(),
            hostname: None,
            lenders: want.lenders.clone(),
            want: Some(want.key.clone()),
        };
        let error = match self.organizer.borrow(wish).await {
            Ok(view) => {
                tracing::info!(policy = want.policy, want = %want.key, borrowing = %view.id, "a policy borrows");
                return Ok(());
            }
            Err(BorrowError::Create(CreateError::NotWanted(_))) => return Ok(()),
            Err(BorrowError::Create(CreateError::Store(error))) => return Err(error),
            Err(error) => error_chain(&error),
        };
        tracing::error!(policy = want.policy, want = %want.key, error, "a policy cannot borrow");
        self.desk
            .store
            .moved(&want.key, &Stage::Closed { why: error })
            .await
    }

    async fn give_back(&self, want: &Want) -> Result<(), StoreError> {
        let Some(id) = want.borrowing.as_ref().filter(|_| want.server != Server::Gone) else {
            return Ok(());
        };
        match self.organizer.release(id.as_str()).await {
            Ok(_) | Err(LookupError::Over(_)) => Ok(()),
            Err(LookupError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(borrowing = %id, error = error_chain(&error), "a server is not given back yet");
                Ok(())
            }
        }
    }

    /// Runs the enterprise's program, when it is due and not running. Without one (the policy changed) there is nothing to wait for.
    async fn ask(
        &mut self,
        want: &Want,
        policy: Option<&Policy>,
        word: Word,
        tries: &Tries,
    ) -> Result<(), StoreError> {
        if self.running.contains(&want.key) || now() < tries.again {
            return Ok(());
        }
        let Some(drain) = policy.and_then(|policy| policy.drain.clone()) else {
            return self.desk.store.moved(&want.key, &after(word)).await;
        };
        let Some(id) = &want.borrowing else {
            return self.desk.store.moved(&want.key, &after(word)).await;
        };
        let Ok(view) = self.organizer.find(id.as_str()).await else {
            return Ok(());
        };
        let tries = Tries {
            count: tries.count + 1,
            ..tries.clone()
        };
        self.desk
            .store
            .moved(&want.key, &stage_of(word, tries.clone()))
            .await?;
        self.running.insert(want.key.clone());
        tracing::info!(policy = want.policy, hostname = %view.hostname, ?word, attempt = tries.count, "the enterprise's program is asked");
        let (key, server) = (
            want.key.clone(),
            [view.hostname.to_string(), view.address.to_string()],
        );
        self.hooks.spawn(async move {
            let result = hook::run(drain, word, server).await;
            Ended {
                key,
                word,
                tries,
                result,
            }
        });
        Ok(())
    }

    /// Takes in how a program ended, unless the want has moved on meanwhile.
    async fn ended(&mut self, ended: Ended) {
        self.running.remove(&ended.key);
        let done = self.settle(&ended).await;
        if let Err(error) = done {
            // It is run again: its stage has not moved.
            tracing::error!(want = %ended.key, error = error_chain(&error), "how a drain ended is lost");
        }
    }

    async fn settle(&self, ended: &Ended) -> Result<(), StoreError> {
        let wants = self.desk.store.wants().await?;
        let want = wants.iter().find(|want| want.key == ended.key);
        let Some(Want { stage, .. }) = want else {
            return Ok(());
        };
        if *stage != stage_of(ended.word, ended.tries.clone()) {
            return Ok(());
        }
        let next = match &ended.result {
            Ok(()) => after(ended.word),
            Err(failure) => {
                tracing::warn!(want = %ended.key, failure, "the enterprise's program failed; it is run again");
                stage_of(ended.word, failed(&ended.tries, failure, now()))
            }
        };
        self.desk.store.moved(&ended.key, &next).await
    }
}

/// The stage that a decision brings a want to. A server that does not serve yet has nothing to drain.
fn stage_after(action: &Action, policy: &Policy, want: &Want, now: Timestamp) -> Stage {
    let tried = matches!(&want.stage, Stage::Draining(tries) if tries.count > 0);
    match action {
        Action::GiveBack { .. } => match (&want.server, &policy.drain) {
            (Server::None, _) => Stage::Closed {
                why: "not needed any more".to_owned(),
            },
            (Server::Serving(_), Some(_)) => Stage::Draining(Tries::due(now)),
            _ => Stage::Leaving,
        },
        Action::Keep { .. } if tried => Stage::Resuming(Tries::due(now)),
        Action::Keep { .. } | Action::Wait | Action::Borrow { .. } => Stage::Borrowed,
    }
}

fn stage_of(word: Word, tries: Tries) -> Stage {
    match word {
        Word::Drain => Stage::Draining(tries),
        Word::Resume => Stage::Resuming(tries),
    }
}

fn after(word: Word) -> Stage {
    match word {
        Word::Drain => Stage::Leaving,
        Word::Resume => Stage::Borrowed,
    }
}

fn failed(tries: &Tries, failure: &str, now: Timestamp) -> Tries {
    let doubled = 2_u32.saturating_pow(tries.count.saturating_sub(1));
    Tries {
        again: now + FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE),
        failure: Some(failure.to_owned()),
        ..tries.clone()
    }
}

/// Whether the server of a want went without the policy's word.
fn is_lost(want: &Want) -> bool {
    want.server == Server::Gone && want.stage != Stage::Leaving
}
