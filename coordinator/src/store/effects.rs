//! What goes with a lease's new state, in the same transaction: events, power orders, revoked tokens, the
//! server's custody.

use super::leases::LeaseRecord;
use super::{StoreError, column, failed, power, to_json, tokens};
use crate::lease::{Effect, Release};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{EventKind, LeaseState};
use leaseboot_protocol::timestamp::Timestamp;
use sqlx::{Sqlite, Transaction};

/// Writes down what goes with a new state; gives the number of events that there are then.
pub(super) async fn carry_out(
    tx: &mut Transaction<'static, Sqlite>,
    lease: &LeaseRecord,
    effects: &[(LeaseState, Effect)],
    at: Timestamp,
) -> Result<i64, StoreError> {
    let mut sequence = lease.events;
    for (state, effect) in effects {
        match effect {
            Effect::Record(what) => {
                sequence += 1;
                append(tx, &lease.id, sequence, at, *state, what).await?;
            }
            Effect::Power { order, after } => {
                power::order(tx, &lease.server, *order, Some(&lease.id), at + *after).await?;
            }
            Effect::RevokeTokens => tokens::revoke(tx, &lease.id).await?,
            Effect::LetGo(release) => let_go(tx, lease, release, at).await?,
        }
    }
    Ok(sequence)
}

async fn append(
    tx: &mut Transaction<'static, Sqlite>,
    lease: &LeaseId,
    sequence: i64,
    at: Timestamp,
    state: LeaseState,
    what: &EventKind,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (lease, sequence, at, state, what) VALUES (?, ?, ?, ?, ?)")
        .bind(lease.as_str())
        .bind(sequence)
        .bind(column(at))
        .bind(to_json("a lease's state", &state)?)
        .bind(to_json("an event", what)?)
        .execute(&mut **tx)
        .await
        .map_err(failed("write an event"))?;
    Ok(())
}

async fn let_go(
    tx: &mut Transaction<'static, Sqlite>,
    lease: &LeaseRecord,
    release: &Release,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (custody, reason) = match release {
        Release::Untouched => ("free", format!("{} ended before it was booted", lease.id)),
        Release::ToBeErased => ("held", format!("given back by {}; not erased yet", lease.tenant)),
        Release::Quarantined(why) => ("quarantined", format!("{}: {why}", lease.id)),
    };
    sqlx::query(
        "UPDATE servers SET custody = ?, reason = ?, since = ?, lease = NULL WHERE name = ? AND lease = ?",
    )
    .bind(custody)
    .bind(reason)
    .bind(column(at))
    .bind(lease.server.as_str())
    .bind(lease.id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(failed("let a server go"))?;
    Ok(())
}
