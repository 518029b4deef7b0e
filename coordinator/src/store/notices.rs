//! Several Lease Managers on one database tell each other that something changed, by PostgreSQL's `NOTIFY`.
//!
//! A notice is a hint, not a fact: what changed is read from the tables. So many changes make one notice, and a notice that is lost
//! because its Lease Manager died, or the connection did, costs others only the time until they look by themselves.
//!
//! A notice is a text: who sends it, then `work` when somebody must act, then the leases that changed. One without all that, as older
//! Lease Managers send it, or when there would be more leases than a notice holds, means: anything may have changed.

use super::changes::Changes;
use super::location::PostgresLocation;
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::secret::Secret;
use sqlx::AnyPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Between two notices of one Lease Manager at least.
const PAUSE: Duration = Duration::from_millis(20);
/// After a failure, until the next attempt.
const RETRY: Duration = Duration::from_secs(1);
const CHANNEL: &str = "leaseboot_changes";
/// PostgreSQL takes notices of less than 8000 bytes.
const LONGEST: usize = 7900;
const WORK: &str = "work";

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Whether somebody must act soon.
    pub(super) work: bool,
    /// Leases that changed.
    pub(super) leases: BTreeSet<LeaseId>,
}

/// Tells and hears until it is stopped or dropped.
pub(super) struct Notices {
    due: Arc<Notify>,
    news: Arc<Mutex<News>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Notices {
    /// `changes` are told of each notice of another; `name` is who we are.
    pub(super) fn start(
        place: &PostgresLocation,
        password: Option<&Secret>,
        pool: AnyPool,
        name: &str,
        changes: Changes,
    ) -> Result<Self, sqlx::Error> {
        let mut options = PgConnectOptions::from_str(place.url())?.application_name("leaseboot-lm");
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        let (due, news) = (Arc::new(Notify::new()), Arc::<Mutex<News>>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(tell(pool, name.to_owned(), due.clone(), news.clone()));
        tasks.spawn(listen(options, name.to_owned(), changes));
        Ok(Self {
            due,
            news,
            tasks: Mutex::new(tasks),
        })
    }

    /// A lease changed, or somebody must act.
    pub(super) fn announce(&self, lease: Option<&LeaseId>, work: bool) {
        {
            let mut news = locked(&self.news);
            news.work |= work;
            news.leases.extend(lease.cloned());
        }
        self.due.notify_one();
    }

    /// Neither tells nor hears any more.
    pub(super) fn stop(&self) {
        locked(&self.tasks).abort_all();
    }
}

/// Each critical section is whole, so what a panicked holder left is.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl News {
    /// As a notice of the Lease Manager `name`.
    fn notice(&self, name: &str) -> String {
        let mut notice = name.to_owned();
        let words = self.work.then_some(WORK).into_iter();
        for word in words.chain(self.leases.iter().map(LeaseId::as_str)) {
            notice.push(' ');
            notice.push_str(word);
        }
        match notice.len() > LONGEST {
            true => name.to_owned(),
            false => notice,
        }
    }

    /// Who sent the notice, and what it says; nothing when anything may have changed.
    fn parse(notice: &str) -> (&str, Option<Self>) {
        let Some((name, words)) = notice.split_once(' ') else {
            return (notice, None);
        };
        let mut news = Self::default();
        for word in words.split(' ') {
            match word.parse() {
                _ if word == WORK => news.work = true,
                Ok(lease) => drop(news.leases.insert(lease)),
                // Of a newer one, perhaps.
                Err(_) => return (name, None),
            }
        }
        (name, Some(news))
    }
}

async fn tell(pool: AnyPool, name: String, due: Arc<Notify>, news: Arc<Mutex<News>>) {
    loop {
        due.notified().await;
        let notice = std::mem::take(&mut *locked(&news)).notice(&name);
        let told = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)")
            .bind(CHANNEL)
            .bind(&notice)
            .execute(&pool)
            .await;
        if let Err(error) = told {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the other Lease Managers could not be told of a change"
            );
        }
        // What changes in this time is told together.
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen(options: PgConnectOptions, name: String, changes: Changes) {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    loop {
        if let Err(error) = hear(&pool, &name, &changes).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the other Lease Managers cannot be heard; trying again"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn hear(pool: &sqlx::PgPool, name: &str, changes: &Changes) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Nothing was heard while there was no connection: look once after each.
        changes.tell_of_all();
        while let Some(notice) = listener.try_recv().await? {
            match News::parse(notice.payload()) {
                (sender, _) if sender == name => {}
                (_, None) => changes.tell_of_all(),
                (_, Some(news)) => {
                    news.leases.iter().for_each(|lease| changes.tell_of(lease));
                    if news.work {
                        changes.tell_of_work();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_was_put_into_it_or_that_anything_may_have_changed() {
        let leases = ["l-1", "l-2"].map(|lease| lease.parse().unwrap());
        for work in [false, true] {
            let news = News {
                work,
                leases: leases.clone().into(),
            };
            assert_eq!(News::parse(&news.notice("us-1")), ("us-1", Some(news)));
        }
        let many = (0..1_000).map(|number| format!("l-{number:08}").parse().unwrap());
        let news = News {
            work: false,
            leases: many.collect(),
        };
        assert_eq!(News::parse(&news.notice("us-1")), ("us-1", None));
        assert_eq!(News::parse("older"), ("older", None));
        assert_eq!(News::parse("newer l-1 !"), ("newer", None));
    }
}
