//! What goes with a lease's new state, in the same transaction: events, power orders, revoked tokens, the
//! server's custody.

use super::leases::LeaseRecord;
use super::{StoreError, Tx, audit, column, failed, handovers, power, rescues, to_json, tokens};
use crate::audit::Deed;
use crate::lease::{Effect, Release};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::{EventKind, LeaseState};
use leaseboot_protocol::timestamp::Timestamp;

/// Takes the server of [`Effect::Take`] for the lease; `false` when it is not free any more.
pub(super) async fn take(
    tx: &mut Tx,
    lease: &LeaseRecord,
    server: &ServerId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "UPDATE servers SET custody = 'lent', reason = $1, since = $2, lease = $3
         WHERE name = $4 AND custody = 'free' AND maintenance IS NULL AND retired IS NULL",
    )
    .bind(format!("lent to {}", lease.tenant))
    .bind(column(at))
    .bind(lease.id.as_str())
    .bind(server.as_str())
    .execute(&mut **tx)
    .await
    .map_err(failed("take a server"))?;
    Ok(taken.rows_affected() == 1)
}

/// Writes down what goes with a new state; gives the number of events that there are then. Power and custody are those of `server`, which
/// the lease had before.
pub(super) async fn carry_out(
    tx: &mut Tx,
    lease: &LeaseRecord,
    server: &ServerId,
    effects: &[(LeaseState, Effect)],
    at: Timestamp,
) -> Result<i64, StoreError> {
    let mut sequence = lease.events;
    // Who was let go has no lease any more that would hear of its power.
    let mut listens = Some(&lease.id);
    for (state, effect) in effects {
        match effect {
            Effect::Record(what) => {
                sequence += 1;
                append(tx, &lease.id, sequence, at, *state, what).await?;
            }
            Effect::Power { order, after } => {
                power::order(tx, server, *order, listens, at + *after).await?;
                let deed = Deed::of_manager(format!("order power {order}"));
                audit::append(tx, &deed.on(Some(&lease.id), Some(server)), at).await?;
            }
            Effect::RevokeTokens => tokens::revoke(tx, &lease.id).await?,
            Effect::Works(handover) => handovers::keep(tx, server, *handover, at).await?,
            Effect::LetGo(release) => {
                let_go(tx, lease, server, release, at).await?;
                listens = None;
            }
            // Taken before all else, by `take`: it may fail.
            Effect::Take(_) => {}
        }
    }
    Ok(sequence)
}

async fn append(
    tx: &mut Tx,
    lease: &LeaseId,
    sequence: i64,
    at: Timestamp,
    state: LeaseState,
    what: &EventKind,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (lease, sequence, at, state, what) VALUES ($1, $2, $3, $4, $5)")
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
    tx: &mut Tx,
    lease: &LeaseRecord,
    server: &ServerId,
    release: &Release,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (custody, reason) = match release {
        Release::Untouched => ("free", format!("{} ended before it was booted", lease.id)),
        Release::Erased => ("free", format!("erased after {} gave it back", lease.tenant)),
        Release::Quarantined(why) => ("quarantined", format!("{}: {why}", lease.id)),
    };
    sqlx::query(
        "UPDATE servers SET custody = $1, reason = $2, since = $3, lease = NULL WHERE name = $4 AND lease = $5",
    )
    .bind(custody)
    .bind(reason)
    .bind(column(at))
    .bind(server.as_str())
    .bind(lease.id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(failed("let a server go"))?;
    match release {
        Release::Untouched => Ok(()),
        Release::Erased => rescues::clear(tx, server).await,
        Release::Quarantined(_) => rescues::left(tx, server, &lease.id).await,
    }
}
