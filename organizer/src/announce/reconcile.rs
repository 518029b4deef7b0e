//! Brings a channel that has a memory of its own into line with the roster: the driver of [`super::plan`].

use super::plan::{Act, Mark, Row, Step, Subject, Wanted, plan};
use super::{Roster, Standing};
use crate::borrowing::BorrowingId;
use crate::error_chain;
use crate::store::{Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Steps of one channel at the same time.
const AT_ONCE: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// When the store fails.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// When there is nothing to do but to wait for a change.
const REST: Duration = Duration::from_secs(3600);

/// Somebody who is told, and remembers.
pub(super) trait Channel: Send + Sync + 'static {
    /// Its name in the journal.
    const NAME: &'static str;
    /// How often it is told the same in vain; `None` for as long as it takes.
    const TRIES: Option<u32>;
    /// What it shows of one subject.
    type Shown: Clone + Eq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why it was not told.
    type Error: Error + Send + 'static;

    /// What it should show.
    fn wanted(&self, roster: &Roster) -> BTreeMap<Subject, Wanted<Self::Shown>>;

    /// Tells it. May be repeated, and dropped at any point.
    fn carry_out(&self, step: &Step<Self::Shown>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One channel with its journal.
pub(super) struct Reconciler<C> {
    teller: Arc<Teller<C>>,
    roster: watch::Receiver<Roster>,
    standing: Standing,
    running: JoinSet<(Subject, Result<Ended, StoreError>)>,
    busy: BTreeMap<Subject, BorrowingId>,
    not_before: HashMap<Subject, Instant>,
}

struct Teller<C> {
    channel: C,
    store: Store,
}

/// How a step ended.
enum Ended {
    Done,
    /// Not done; tried so often.
    Failed(u32),
}

impl<C: Channel> Reconciler<C> {
    pub(super) fn new(channel: C, store: Store, roster: watch::Receiver<Roster>, standing: Standing) -> Self {
        Self {
            teller: Arc::new(Teller { channel, store }),
            roster,
            standing,
            running: JoinSet::new(),
            busy: BTreeMap::new(),
            not_before: HashMap::new(),
        }
    }

    /// Keeps the channel up until `stop` is cancelled. Steps that run then are dropped: the journal knows of them.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let look = match self.begin().await {
                Ok(look) => look,
                Err(error) => {
                    tracing::error!(
                        channel = C::NAME,
                        error = error_chain(&error),
                        "announcements wait"
                    );
                    Instant::now() + STORE_PAUSE
                }
            };
            // Goal: one more look at journal and roster. All four only wait; steps go on in their own tasks.
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.roster.changed() => if changed.is_err() { return },
                Some(ended) = self.running.join_next() => match ended {
                    Ok((subject, ended)) => self.ended(subject, ended),
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                () = sleep_until(look) => {}
            }
        }
    }

    /// Begins every step that is due; says when the next one will be.
    async fn begin(&mut self) -> Result<Instant, StoreError> {
        let roster = self.roster.borrow_and_update().clone();
        let rows = self.teller.store.announced::<C::Shown>(C::NAME).await?;
        let wanted = self.teller.channel.wanted(&roster);
        // A step that runs may not have come to its mark yet.
        let shown = rows.values().map(|row| &row.borrowing).chain(self.busy.values());
        self.standing
            .set(C::NAME, roster.version, shown.cloned().collect());
        let steps = plan(&wanted, &rows);
        self.not_before
            .retain(|subject, _| steps.iter().any(|step| step.subject == *subject));
        let now = Instant::now();
        let mut next = now + REST;
        for step in steps {
            let due = self.not_before.get(&step.subject).copied().unwrap_or(now);
            if self.busy.contains_key(&step.subject) {
                continue;
            }
            if due > now {
                next = next.min(due);
            } else if self.busy.len() < AT_ONCE {
                self.busy.insert(step.subject.clone(), step.borrowing.clone());
                let before = rows.get(&step.subject);
                let tries = before.map_or(0, |row| tries_so_far(row, step.act));
                self.running.spawn(Arc::clone(&self.teller).take(step, tries));
            }
        }
        Ok(next)
    }

    fn ended(&mut self, subject: Subject, ended: Result<Ended, StoreError>) {
        self.busy.remove(&subject);
        let pause = match ended {
            Ok(Ended::Done) => return,
            Ok(Ended::Failed(tries)) => backoff(tries),
            Err(error) => {
                tracing::error!(
                    channel = C::NAME,
                    error = error_chain(&error),
                    "the journal is behind"
                );
                STORE_PAUSE
            }
        };
        self.not_before.insert(subject, Instant::now() + pause);
    }
}

/// Tries count for one way only.
fn tries_so_far<S>(row: &Row<S>, act: Act) -> u32 {
    if row.mark == act.begun() { row.tries } else { 0 }
}

fn backoff(tries: u32) -> Duration {
    let doubled = 1 << tries.saturating_sub(1).min(10);
    (FIRST_PAUSE * doubled).min(LONGEST_PAUSE)
}

impl<C: Channel> Teller<C> {
    async fn take(self: Arc<Self>, step: Step<C::Shown>, tries: u32) -> (Subject, Result<Ended, StoreError>) {
        let ended = self.tell(&step, tries).await;
        (step.subject, ended)
    }

    /// The mark, the word, the mark.
    async fn tell(&self, step: &Step<C::Shown>, tries: u32) -> Result<Ended, StoreError> {
        self.mark(step, step.act.begun(), tries).await?;
        let told = self.channel.carry_out(step).await;
        if let Err(error) = told {
            let tries = tries + 1;
            let (act, error) = (step.act, error_chain(&error));
            let given_up = C::TRIES.is_some_and(|most| tries >= most);
            if !given_up {
                tracing::warn!(channel = C::NAME, borrowing = %step.borrowing, subject = step.subject, ?act, tries, error, "not announced; trying again");
                self.mark(step, act.begun(), tries).await?;
                return Ok(Ended::Failed(tries));
            }
            tracing::error!(channel = C::NAME, borrowing = %step.borrowing, subject = step.subject, ?act, tries, error, "not announced, and not tried again");
        } else {
            tracing::info!(channel = C::NAME, borrowing = %step.borrowing, subject = step.subject, act = ?step.act, "announced");
        }
        match step.act {
            Act::Tell => self.mark(step, Mark::Told, 0).await?,
            Act::Withdraw => self.store.forget_announced(C::NAME, &step.subject).await?,
        }
        Ok(Ended::Done)
    }

    async fn mark(&self, step: &Step<C::Shown>, mark: Mark, tries: u32) -> Result<(), StoreError> {
        let row = Row {
            borrowing: step.borrowing.clone(),
            shown: step.shown.clone(),
            mark,
            tries,
        };
        self.store.mark_announced(C::NAME, &step.subject, &row).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses = [1, 2, 3, 7, 8, 60].map(|tries| backoff(tries).as_secs());
        assert_eq!(pauses, [1, 2, 4, 60, 60, 60]);
    }
}
