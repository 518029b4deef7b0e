//! What outlives a kill of events and policies: what stands, what was decided, and which borrowing is whose.
//!
//! A decision and the wants that it makes or moves are one transaction. [`super::Store::create_for`] writes a want's borrowing in the transaction
//! that creates it.

use super::{CreateError, Record, Store, StoreError, from_json, signed, statement, to_json, unsigned};
use crate::borrowing::BorrowingId;
use crate::borrowing::machine::State;
use crate::events::{Event, Key, Known, Status};
use crate::policy::decide::{Action, Verdict};
use crate::policy::{Decision, Policy, Server, Stage, Want, WantKey};
use leaseboot_protocol::timestamp::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most things that are remembered at once.
const MOST_EVENTS: i64 = 10_000;
/// How long what is over is remembered.
const MEMORY: Duration = Duration::from_secs(8 * 86_400);

/// Why events are not kept.
#[derive(Debug, thiserror::Error)]
pub enum HearError {
    /// There would be too many.
    #[error(
        "more than {MOST_EVENTS} things would stand at once; let Alertmanager route only what policies are about to this receiver"
    )]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes in what was raised; all of it or nothing.
    ///
    /// # Errors
    /// [`HearError`].
    pub async fn hear(&self, events: Vec<Event>, now: Timestamp) -> Result<(), HearError> {
        let failed = || statement("write down what was raised");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        for event in events {
            let before = known(&mut transaction, &event.key).await?;
            if let Some(after) = Known::after(before.as_ref(), event, now) {
                remember(&mut transaction, &after).await.map_err(failed())?;
            }
        }
        let forgotten = Timestamp(
            now.0
                .saturating_sub(u64::try_from(MEMORY.as_millis()).unwrap_or(u64::MAX)),
        );
        sqlx::query("DELETE FROM event WHERE firing = 0 AND since < ?")
            .bind(signed(forgotten.0))
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        let many: i64 = sqlx::query_scalar("SELECT count(*) FROM event")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
        if many > MOST_EVENTS {
            return Err(HearError::TooMany);
        }
        transaction.commit().await.map_err(failed())?;
        Ok(())
    }

    /// Everything that was raised and is remembered, in the order of keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self) -> Result<Vec<Known>, StoreError> {
        let rows = sqlx::query("SELECT * FROM event ORDER BY key")
            .fetch_all(&self.pool)
            .await;
        let rows = rows.map_err(statement("read what was raised"))?;
        rows.iter().map(known_of).collect()
    }

    /// Writes a verdict down, with the wants that it makes and those that it moves to another stage.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    pub async fn decided(
        &self,
        verdict: &Verdict,
        policy: &Policy,
        moved: &[(WantKey, Stage)],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let failed = || statement("write down what a policy decided");
        let mut transaction = self.pool.begin().await.map_err(failed())?;
        let decision: i64 = sqlx::query_scalar(
            "INSERT INTO decision (policy, at, what, reason) VALUES (?, ?, ?, ?) RETURNING sequence",
        )
        .bind(&verdict.policy)
        .bind(signed(at.0))
        .bind(to_json(&verdict.action))
        .bind(&verdict.reason)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed())?;
        if let Action::Borrow { servers } = verdict.action {
            for number in 1..=servers {
                sqlx::query(
                    "INSERT INTO want (key, policy, profile, lenders, decision, stage) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(WantKey::of(unsigned(decision), number).as_str())
                .bind(&policy.name)
                .bind(&policy.profile)
                .bind(to_json(&policy.lenders))
                .bind(decision)
                .bind(to_json(&Stage::Wanted))
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
            }
        }
        for (key, stage) in moved {
            move_to(&mut transaction, key, stage).await.map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// Moves a want to another stage.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn moved(&self, key: &WantKey, stage: &Stage) -> Result<(), StoreError> {
        let failed = || statement("write down where a wanted server stands");
        let mut connection = self.pool.acquire().await.map_err(failed())?;
        move_to(&mut connection, key, stage).await.map_err(failed())
    }

    /// The wants that are not closed, in the order in which they were decided.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wants(&self) -> Result<Vec<Want>, StoreError> {
        let rows = sqlx::query(
            "SELECT key, policy, profile, lenders, stage, want.borrowing, state, since FROM want \
             LEFT JOIN borrowing ON borrowing.id = want.borrowing WHERE closed = 0 ORDER BY decision, length(key), key",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(statement("read which servers are wanted"))?;
        rows.iter().map(want_of).collect()
    }

    /// Servers that are borrowed for no policy and were not given back or lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn borrowed_by_hand(&self) -> Result<u32, StoreError> {
        let states: Vec<String> = sqlx::query_scalar(
            "SELECT state FROM borrowing WHERE over = 0 AND id NOT IN \
             (SELECT borrowing FROM want WHERE borrowing IS NOT NULL AND closed = 0)",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(statement("count the borrowings"))?;
        let mut many = 0;
        for state in &states {
            let state: State = from_json("state", state)?;
            many += u32::from(state.outcome().is_none());
        }
        Ok(many)
    }

    /// When each policy decided last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_decisions(&self) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        let rows = sqlx::query("SELECT policy, max(at) AS at FROM decision GROUP BY policy")
            .fetch_all(&self.pool)
            .await
            .map_err(statement("read when was decided last"))?;
        let entry = |row: &SqliteRow| (row.get("policy"), Timestamp(unsigned(row.get("at"))));
        Ok(rows.iter().map(entry).collect())
    }

    /// The last decisions of a policy, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn decisions(&self, policy: &str, most: u32) -> Result<Vec<Decision>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, what, reason FROM decision WHERE policy = ? ORDER BY sequence DESC LIMIT ?",
        )
        .bind(policy)
        .bind(most)
        .fetch_all(&self.pool)
        .await
        .map_err(statement("read what was decided"))?;
        let decision = |row: &SqliteRow| {
            Ok(Decision {
                at: Timestamp(unsigned(row.get("at"))),
                what: from_json("decision", row.get("what"))?,
                reason: row.get("reason"),
            })
        };
        rows.iter().map(decision).collect()
    }
}

/// Writes the borrowing of a want to its row, in the transaction that creates it.
pub(super) async fn fulfil(
    connection: &mut SqliteConnection,
    key: &WantKey,
    record: &Record,
) -> Result<(), CreateError> {
    let done = sqlx::query(
        "UPDATE want SET borrowing = ?, stage = ? WHERE key = ? AND borrowing IS NULL AND closed = 0",
    )
    .bind(record.id.as_str())
    .bind(to_json(&Stage::Borrowed))
    .bind(key.as_str())
    .execute(connection)
    .await
    .map_err(statement("create a wanted borrowing"))?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(CreateError::NotWanted(key.clone())),
    }
}

async fn known(connection: &mut SqliteConnection, key: &Key) -> Result<Option<Known>, StoreError> {
    let row = sqlx::query("SELECT * FROM event WHERE key = ?").bind(key.as_str());
    let row = row
        .fetch_optional(connection)
        .await
        .map_err(statement("read what was raised"))?;
    row.as_ref().map(known_of).transpose()
}

async fn remember(connection: &mut SqliteConnection, known: &Known) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO event (key, source, name, labels, firing, at, since, heard) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(known.event.key.as_str())
    .bind(&known.event.source)
    .bind(&known.event.name)
    .bind(to_json(&known.event.labels))
    .bind(known.event.status == Status::Firing)
    .bind(signed(known.event.at.0))
    .bind(signed(known.since.0))
    .bind(signed(known.heard.0))
    .execute(connection)
    .await
    .map(drop)
}

fn known_of(row: &SqliteRow) -> Result<Known, StoreError> {
    let time = |name: &str| Timestamp(unsigned(row.get(name)));
    Ok(Known {
        event: Event {
            key: Key::from_text(row.get::<String, _>("key")),
            source: row.get("source"),
            name: row.get("name"),
            labels: from_json("label", row.get("labels"))?,
            status: if row.get("firing") {
                Status::Firing
            } else {
                Status::Resolved
            },
            at: time("at"),
        },
        since: time("since"),
        heard: time("heard"),
    })
}

async fn move_to(connection: &mut SqliteConnection, key: &WantKey, stage: &Stage) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE want SET stage = ?, closed = ? WHERE key = ? AND closed = 0")
        .bind(to_json(stage))
        .bind(matches!(stage, Stage::Closed { .. }))
        .bind(key.as_str())
        .execute(connection)
        .await
        .map(drop)
}

fn want_of(row: &SqliteRow) -> Result<Want, StoreError> {
    let state: Option<State> = row
        .get::<Option<String>, _>("state")
        .map(|state| from_json("state", &state))
        .transpose()?;
    let since = Timestamp(unsigned(row.get::<Option<i64>, _>("since").unwrap_or_default()));
    let borrowing = row.get::<Option<String>, _>("borrowing");
    Ok(Want {
        key: WantKey::from_text(row.get::<String, _>("key")),
        policy: row.get("policy"),
        profile: row.get("profile"),
        lenders: from_json("list of lenders", row.get("lenders"))?,
        stage: from_json("stage", row.get("stage"))?,
        borrowing: borrowing.map(BorrowingId::from_text),
        server: match &state {
            None => Server::None,
            Some(state) if state.is_over() => Server::Over,
            Some(state) if state.outcome().is_some() => Server::Gone,
            Some(State::InService { .. }) => Server::Serving(since),
            Some(_) => Server::Coming,
        },
    })
}
