//! Group commit: transactions that wait for SQLite's one writer become one transaction, because what takes long is forcing the
//! journal to the disk, and that takes as long for one as for sixty-four.
//!
//! ```text
//!  asks ──► queue ──► BEGIN ─► SAVEPOINT ─► [a member's statements] ─► RELEASE ─┬─► COMMIT ──► all members are answered
//!                       ▲          ▲                  └─ fails, is dropped ─► ROLLBACK TO ─┐
//!                       │          └── the next that waits, while the group is small ◄─────┘
//!                       └── the next round
//! ```
//!
//! The writer lends its connection to one member after the other; a member that fails or is dropped undoes only its own
//! statements. Nobody is told that his transaction is kept before the common commit has returned. A member sees what the
//! members before it wrote, although that may still be lost: whoever answers from what he read must commit first, too.

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Members of one group at most.
const MOST_MEMBERS: usize = 64;
/// A group that is older takes no more members: somebody waits for its commit.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// Askers in the queue at most; more wait to be let into it.
const QUEUE: usize = 1024;

type Answer = Result<(), sqlx::Error>;
type Asker = oneshot::Sender<Result<Seat, sqlx::Error>>;

/// The writer. It ends when this is dropped and nobody waits any more.
pub(super) struct Group {
    queue: Mutex<Option<mpsc::Sender<Asker>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// A place in the group: the writer's connection, for as long as this lives.
pub(super) struct Seat {
    connection: Option<PoolConnection<Any>>,
    back: Option<oneshot::Sender<Returned>>,
}

/// The connection, whether the statements are to be kept, and the one who waits for the common commit, if anybody does.
struct Returned {
    connection: PoolConnection<Any>,
    keep: bool,
    waits: Option<oneshot::Sender<Answer>>,
}

impl Group {
    /// Starts a writer on a pool that nobody else uses.
    pub(super) fn start(pool: AnyPool) -> Self {
        let (queue, askers) = mpsc::channel(QUEUE);
        Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(tokio::spawn(run(pool, askers)))),
        }
    }

    /// Waits for a place.
    pub(super) async fn join(&self) -> Result<Seat, sqlx::Error> {
        let (asker, answer) = oneshot::channel();
        let queue = locked(&self.queue).clone().ok_or(sqlx::Error::PoolClosed)?;
        queue.send(asker).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        answer.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// Lets nobody in any more, and waits until those that are in have been answered.
    pub(super) async fn close(&self) {
        drop(locked(&self.queue).take());
        let writer = locked(&self.writer).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the store's writer panicked");
        }
    }
}

/// Each critical section is one statement, so what a panicked holder left is whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Gives the place up; returns when what was written is on the disk.
    pub(super) async fn commit(self) -> Answer {
        self.end(true).await
    }

    /// Gives the place up and undoes what was written; returns when what was read is on the disk.
    pub(super) async fn leave(self) -> Answer {
        self.end(false).await
    }

    async fn end(mut self, keep: bool) -> Answer {
        let (waits, answer) = oneshot::channel();
        self.give_back(keep, Some(waits));
        answer.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    fn give_back(&mut self, keep: bool, waits: Option<oneshot::Sender<Answer>>) {
        if let (Some(connection), Some(back)) = (self.connection.take(), self.back.take()) {
            // Without a writer the pool takes the connection, and the asker learns of it by his own channel.
            let _ = back.send(Returned {
                connection,
                keep,
                waits,
            });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_back(false, None);
    }
}

impl Deref for Seat {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.connection
            .as_ref()
            .expect("it is taken out only by those who consume the seat")
    }
}

impl DerefMut for Seat {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.connection
            .as_mut()
            .expect("it is taken out only by those who consume the seat")
    }
}

async fn run(pool: AnyPool, mut askers: mpsc::Receiver<Asker>) {
    while let Some(first) = askers.recv().await {
        let mut members = Vec::new();
        let outcome = round(&pool, first, &mut askers, &mut members)
            .await
            .map_err(Arc::new);
        if let Err(error) = &outcome {
            tracing::error!(%error, members = members.len(), "a group of transactions was lost");
        }
        for member in members {
            let answer = outcome
                .clone()
                .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)));
            // He may have gone away; what he wrote is kept all the same.
            let _ = member.send(answer);
        }
    }
    pool.close().await;
}

/// One common transaction. Those who wait for its commit are in `members` also when it fails.
async fn round(
    pool: &AnyPool,
    first: Asker,
    askers: &mut mpsc::Receiver<Asker>,
    members: &mut Vec<oneshot::Sender<Answer>>,
) -> Answer {
    let mut connection = match begin(pool).await {
        Ok(connection) => connection,
        Err(error) => {
            let _ = first.send(Err(error));
            return Ok(());
        }
    };
    let (begun, mut next) = (Instant::now(), Some(first));
    while let Some(asker) = next {
        connection = serve(connection, asker, members).await?;
        let full = members.len() >= MOST_MEMBERS || begun.elapsed() > LONGEST_WAIT;
        next = if full { None } else { askers.try_recv().ok() };
    }
    if let Err(error) = execute(&mut connection, "COMMIT").await {
        // What state it is in is anybody's guess.
        connection.close().await?;
        return Err(error);
    }
    Ok(())
}

async fn begin(pool: &AnyPool) -> Result<PoolConnection<Any>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    execute(&mut connection, "BEGIN IMMEDIATE").await?;
    Ok(connection)
}

/// Lends the connection to one member. When this fails the connection is gone, and with it the whole group.
async fn serve(
    mut connection: PoolConnection<Any>,
    asker: Asker,
    members: &mut Vec<oneshot::Sender<Answer>>,
) -> Result<PoolConnection<Any>, sqlx::Error> {
    let outcome = match execute(&mut connection, "SAVEPOINT member").await {
        Ok(()) => {
            let returned = lend(connection, asker).await?;
            connection = returned.connection;
            members.extend(returned.waits);
            release(&mut connection, returned.keep).await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Ok(connection),
        Err(error) => {
            connection.close().await?;
            Err(error)
        }
    }
}

async fn lend(connection: PoolConnection<Any>, asker: Asker) -> Result<Returned, sqlx::Error> {
    let (back, returned) = oneshot::channel();
    // One who has gone away drops the seat at once, and dropping gives the connection back.
    let _ = asker.send(Ok(Seat {
        connection: Some(connection),
        back: Some(back),
    }));
    returned.await.map_err(|_| sqlx::Error::WorkerCrashed)
}

async fn release(connection: &mut AnyConnection, keep: bool) -> Answer {
    if !keep {
        execute(connection, "ROLLBACK TO member").await?;
    }
    execute(connection, "RELEASE member").await
}

async fn execute(connection: &mut AnyConnection, sql: &'static str) -> Answer {
    sqlx::query(sql).execute(connection).await.map(drop)
}
