//! Several Lease Managers on one database tell each other that something changed, by PostgreSQL's `NOTIFY`.
//!
//! A notice is a hint, not a fact: what changed is read from the tables. So many changes make one notice, and a notice that is lost
//! because its Lease Manager died, or the connection did, costs others only the time until they look by themselves.

use super::location::PostgresLocation;
use leaseboot_protocol::secret::Secret;
use sqlx::AnyPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Between two notices of one Lease Manager at least.
const PAUSE: Duration = Duration::from_millis(20);
/// After a failure, until the next attempt.
const RETRY: Duration = Duration::from_secs(1);
const CHANNEL: &str = "leaseboot_changes";

/// Tells and hears until it is stopped or dropped.
pub(super) struct Notices {
    due: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
}

impl Notices {
    /// `heard` counts up at each notice of another; `name` is who we are.
    pub(super) fn start(
        place: &PostgresLocation,
        password: Option<&Secret>,
        pool: AnyPool,
        name: &str,
        heard: watch::Sender<u64>,
    ) -> Result<Self, sqlx::Error> {
        let mut options = PgConnectOptions::from_str(place.url())?.application_name("leaseboot-lm");
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        let due = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(tell(pool, name.to_owned(), due.clone()));
        tasks.spawn(listen(options, name.to_owned(), heard));
        Ok(Self {
            due,
            tasks: Mutex::new(tasks),
        })
    }

    /// Something changed.
    pub(super) fn announce(&self) {
        self.due.notify_one();
    }

    /// Neither tells nor hears any more.
    pub(super) fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

async fn tell(pool: AnyPool, name: String, due: Arc<Notify>) {
    loop {
        due.notified().await;
        let told = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)")
            .bind(CHANNEL)
            .bind(&name)
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

async fn listen(options: PgConnectOptions, name: String, heard: watch::Sender<u64>) {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    loop {
        if let Err(error) = hear(&pool, &name, &heard).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the other Lease Managers cannot be heard; trying again"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn hear(pool: &sqlx::PgPool, name: &str, heard: &watch::Sender<u64>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Nothing was heard while there was no connection: look once after each.
        heard.send_modify(|count| *count += 1);
        while let Some(notice) = listener.try_recv().await? {
            if notice.payload() != name {
                heard.send_modify(|count| *count += 1);
            }
        }
    }
}
