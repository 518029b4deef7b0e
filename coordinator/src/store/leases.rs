//! Leases and their events.

use super::effects::{carry_out, take};
use super::erasures;
use super::kickstarts::{self, KickstartRecord};
use super::{
    Store, StoreError, Tx, audit, column, content, failed, from_json, power, tenants, timestamp, to_json,
};
use crate::audit::Deed;
use crate::lease::{Effect, Lease, Step, Term};
use crate::tenants::OverQuota;
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::lease::{LeaseEvent, LeaseState};
use leaseboot_protocol::settings::Requirements;
use leaseboot_protocol::timestamp::Timestamp;

/// Events that are read at once.
const MOST_EVENTS: i64 = 500;

/// A lease on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Its name.
    pub id: LeaseId,
    /// Who holds it.
    pub tenant: TenantId,
    /// The PO's name for its request.
    pub request_id: String,
    /// What was asked for.
    pub requirements: Requirements,
    /// Where it stands.
    pub lease: Lease,
    /// Events so far.
    pub(super) events: i64,
    /// Counted up at each change.
    version: i64,
}

impl LeaseRecord {
    /// How many events it has so far; they are numbered from 1.
    pub fn events(&self) -> u64 {
        u64::try_from(self.events).unwrap_or_default()
    }
}

/// A lease that is to be made.
#[derive(Clone, Debug)]
pub struct NewLease {
    /// Its name.
    pub id: LeaseId,
    /// Who asks.
    pub tenant: TenantId,
    /// The PO's name for its request.
    pub request_id: String,
    /// What was asked for.
    pub requirements: Requirements,
    /// The first step, on the server that was found.
    pub first: Step,
}

/// What came of a new lease.
#[derive(Clone, Debug)]
pub enum Taken {
    /// It was made.
    New(LeaseRecord),
    /// The same request has its lease already.
    Known(LeaseRecord),
    /// The server is not free any more: search again.
    ServerGone,
    /// The tenant would have more than it was granted.
    OverQuota(OverQuota),
}

/// What a lease becomes.
#[derive(Clone, Debug)]
pub struct Change {
    /// The lease afterwards.
    pub lease: Lease,
    /// What goes with it, each with the state that the lease was in after it.
    pub effects: Vec<(LeaseState, Effect)>,
    /// The merge that the settings brought, or that another server needs.
    pub kickstart: Option<KickstartRecord>,
    /// The erasure record.
    pub erasure: Option<SignedErasure>,
    /// The power order that this answers; without it on record, nothing is changed.
    pub answered: Option<i64>,
    /// Who did it, for the audit log, where it was not the LM or the server.
    pub deeds: Vec<Deed>,
    /// Now.
    pub at: Timestamp,
}

type LeaseRow = (
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    Option<i64>,
    i64,
    Option<i64>,
    String,
    i64,
    i64,
);

const BY_ID: &str = "SELECT id, tenant, request_id, server, requirements, phase, reason, since, deadline, expires, warning, failed, events, version FROM leases WHERE id = $1";
const BY_REQUEST: &str = "SELECT id, tenant, request_id, server, requirements, phase, reason, since, deadline, expires, warning, failed, events, version FROM leases
    WHERE tenant = $1 AND request_id = $2";
const ALL: &str = "SELECT id, tenant, request_id, server, requirements, phase, reason, since, deadline, expires, warning, failed, events, version FROM leases ORDER BY number";
const DUE: &str = "SELECT id, tenant, request_id, server, requirements, phase, reason, since, deadline, expires, warning, failed, events, version FROM leases
    WHERE due <= $1 ORDER BY due";

fn record(row: LeaseRow) -> Result<LeaseRecord, StoreError> {
    let (
        id,
        tenant,
        request_id,
        server,
        requirements,
        phase,
        reason,
        since,
        deadline,
        expires,
        warning,
        failed,
        events,
        version,
    ) = row;
    Ok(LeaseRecord {
        id: id.parse().map_err(|error| content("a lease's name", error))?,
        tenant: tenant
            .parse()
            .map_err(|error| content("a tenant's name", error))?,
        request_id,
        requirements: from_json("requirements", &requirements)?,
        lease: Lease {
            server: server
                .parse()
                .map_err(|error| content("a server's name", error))?,
            phase: from_json("a lease's phase", &phase)?,
            since: timestamp(since),
            reason,
            deadline: deadline.map(timestamp),
            term: Term {
                expires: timestamp(expires),
                warning: warning.map(timestamp),
            },
            failed: from_json("the servers that failed a lease", &failed)?,
        },
        events,
        version,
    })
}

impl Store {
    /// Takes the server, if it is free, and writes the lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take(&self, new: NewLease, at: Timestamp) -> Result<Taken, StoreError> {
        let attempted = "write a new lease";
        let mut tx = self.write(attempted).await?;
        let known: Option<LeaseRow> = sqlx::query_as(BY_REQUEST)
            .bind(new.tenant.as_str())
            .bind(&new.request_id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        if let Some(known) = known {
            // A neighbour in the group may have written it: it must be kept before it is told.
            tx.commit().await.map_err(failed(attempted))?;
            return Ok(Taken::Known(record(known)?));
        }
        let (tenant, request_id) = (new.tenant.clone(), new.request_id.clone());
        match take_one(&mut tx, new, at).await? {
            TakenOne::New(lease) => {
                tx.commit().await.map_err(failed(attempted))?;
                Ok(Taken::New(*lease))
            }
            TakenOne::ServerGone => {
                tx.leave().await.map_err(failed(attempted))?;
                Ok(Taken::ServerGone)
            }
            TakenOne::OverQuota(over) => {
                tx.leave().await.map_err(failed(attempted))?;
                Ok(Taken::OverQuota(over))
            }
            TakenOne::RequestKnown => {
                tx.leave().await.map_err(failed(attempted))?;
                let known = self.lease_of_request(&tenant, &request_id).await?;
                Ok(known.map_or(Taken::ServerGone, Taken::Known))
            }
        }
    }

    /// One lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease(&self, id: &LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        let row: Option<LeaseRow> = sqlx::query_as(BY_ID)
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find a lease"))?;
        row.map(record).transpose()
    }

    /// The lease that a request brought.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_of_request(
        &self,
        tenant: &TenantId,
        request_id: &str,
    ) -> Result<Option<LeaseRecord>, StoreError> {
        let row: Option<LeaseRow> = sqlx::query_as(BY_REQUEST)
            .bind(tenant.as_str())
            .bind(request_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find a request's lease"))?;
        row.map(record).transpose()
    }

    /// All leases, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let rows: Vec<LeaseRow> = sqlx::query_as(ALL)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list the leases"))?;
        rows.into_iter().map(record).collect()
    }

    /// Leases that wait for another server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leases_that_move(&self) -> Result<Vec<LeaseId>, StoreError> {
        // The state stands in the text, so that the index of these few is used.
        let moving = "SELECT id FROM leases WHERE state = '\"moving\"'";
        let ids: Vec<String> = sqlx::query_scalar(moving)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list the leases that move"))?;
        ids.into_iter()
            .map(|id| id.parse().map_err(|error| content("a lease's name", error)))
            .collect()
    }

    /// Leases whose deadline has passed, whose term has ended or is about to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_leases(&self, now: Timestamp) -> Result<Vec<LeaseRecord>, StoreError> {
        let rows: Vec<LeaseRow> = sqlx::query_as(DUE)
            .bind(column(now))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list the due leases"))?;
        rows.into_iter().map(record).collect()
    }

    /// The next deadline of any lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar("SELECT min(due) FROM leases WHERE due IS NOT NULL")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("find the next deadline"))?;
        Ok(next.map(timestamp))
    }

    /// Writes what `before` became; `false`, and nothing is written, when it was changed in the meantime, or
    /// the answered power order was replaced, or the server that it moves to is not free any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commit(&self, before: &LeaseRecord, change: Change) -> Result<bool, StoreError> {
        let attempted = "write a lease's next state";
        let mut tx = self.write(attempted).await?;
        let version: Option<i64> = sqlx::query_scalar(self.backend.hold_lease())
            .bind(before.id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        if version != Some(before.version) {
            return tx.leave().await.map(|()| false).map_err(failed(attempted));
        }
        if let Some(order) = change.answered
            && !power::remove(&mut tx, order).await?
        {
            return tx.leave().await.map(|()| false).map_err(failed(attempted));
        }
        let taken = change.effects.iter().find_map(|(_, effect)| match effect {
            Effect::Take(server) => Some(server),
            _ => None,
        });
        if let Some(server) = taken
            && !take(&mut tx, before, server, change.at).await?
        {
            return tx.leave().await.map(|()| false).map_err(failed(attempted));
        }
        let mut after = LeaseRecord {
            lease: change.lease,
            version: before.version + 1,
            ..before.clone()
        };
        if let Some(kickstart) = &change.kickstart {
            kickstarts::keep(&mut tx, &after.id, kickstart).await?;
        }
        for deed in &change.deeds {
            audit::append(&mut tx, deed, change.at).await?;
        }
        if let Some(erasure) = &change.erasure {
            erasures::keep(&mut tx, &after.id, erasure).await?;
        }
        let server = &before.lease.server;
        after.events = carry_out(&mut tx, &after, server, &change.effects, change.at).await?;
        // Nobody can have come between: the lease is held since its version was read.
        if !update(&mut tx, &after, before.version).await? {
            return tx.leave().await.map(|()| false).map_err(failed(attempted));
        }
        tx.commit().await.map_err(failed(attempted))?;
        Ok(true)
    }

    /// Events of a lease with a number above `after`, in order, a bounded number of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, lease: &LeaseId, after: u64) -> Result<Vec<LeaseEvent>, StoreError> {
        let rows: Vec<(i64, i64, String, String)> = sqlx::query_as(
            "SELECT sequence, at, state, what FROM events WHERE lease = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        )
        .bind(lease.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(MOST_EVENTS)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list a lease's events"))?;
        rows.into_iter()
            .map(|(sequence, at, state, what)| {
                Ok(LeaseEvent {
                    sequence: u64::try_from(sequence).unwrap_or_default(),
                    at: timestamp(at),
                    state: from_json("a lease's state", &state)?,
                    what: from_json("an event", &what)?,
                })
            })
            .collect()
    }
}

/// What came of one server in a transaction.
pub(super) enum TakenOne {
    New(Box<LeaseRecord>),
    ServerGone,
    OverQuota(OverQuota),
    /// The same request, at another Lease Manager, at the same time: it has its lease by now.
    RequestKnown,
}

/// Takes the server, if it is free and not withheld, and writes the lease. Unless the lease is new, the transaction must be dropped.
pub(super) async fn take_one(tx: &mut Tx, new: NewLease, at: Timestamp) -> Result<TakenOne, StoreError> {
    let attempted = "write a new lease";
    if let Err(over) = tenants::check_quota(tx, &new.tenant, &new.first.lease.server).await? {
        return Ok(TakenOne::OverQuota(over));
    }
    let taken = sqlx::query(
        "UPDATE servers SET custody = 'lent', reason = $1, since = $2, lease = $3
         WHERE name = $4 AND custody = 'free' AND maintenance IS NULL AND retired IS NULL",
    )
    .bind(format!("lent to {}", new.tenant))
    .bind(column(at))
    .bind(new.id.as_str())
    .bind(new.first.lease.server.as_str())
    .execute(&mut **tx)
    .await
    .map_err(failed(attempted))?;
    if taken.rows_affected() == 0 {
        return Ok(TakenOne::ServerGone);
    }
    let mut written = LeaseRecord {
        id: new.id,
        tenant: new.tenant,
        request_id: new.request_id,
        requirements: new.requirements,
        lease: new.first.lease,
        events: 0,
        version: 1,
    };
    if !insert(tx, &written).await? {
        return Ok(TakenOne::RequestKnown);
    }
    let deed = Deed::of_tenant(&written.tenant, "borrow").on(Some(&written.id), Some(&written.lease.server));
    audit::append(tx, &deed, at).await?;
    let state = written.lease.phase.state();
    let effects = new.first.effects.into_iter();
    let effects: Vec<_> = effects.map(|effect| (state, effect)).collect();
    written.events = carry_out(tx, &written, &written.lease.server, &effects, at).await?;
    update(tx, &written, written.version).await?;
    Ok(TakenOne::New(Box::new(written)))
}

async fn insert(tx: &mut Tx, new: &LeaseRecord) -> Result<bool, StoreError> {
    let made = sqlx::query(
        "INSERT INTO leases (id, tenant, request_id, server, requirements, phase, state, reason, since, deadline, events, version)
         VALUES ($1, $2, $3, $4, $5, '', '', '', 0, NULL, 0, $6) ON CONFLICT (tenant, request_id) DO NOTHING",
    )
    .bind(new.id.as_str())
    .bind(new.tenant.as_str())
    .bind(&new.request_id)
    .bind(new.lease.server.as_str())
    .bind(to_json("requirements", &new.requirements)?)
    .bind(new.version)
    .execute(&mut **tx)
    .await
    .map_err(failed("write a new lease"))?;
    Ok(made.rows_affected() == 1)
}

/// Writes `after` over the row that has `version`; `false` when there is none.
async fn update(tx: &mut Tx, after: &LeaseRecord, version: i64) -> Result<bool, StoreError> {
    let lease = &after.lease;
    let changed = sqlx::query(
        "UPDATE leases SET phase = $1, state = $2, reason = $3, since = $4, deadline = $5, events = $6, version = $7, server = $8, expires = $9,
         warning = $10, failed = $11, due = $12 WHERE id = $13 AND version = $14",
    )
    .bind(to_json("a lease's phase", &lease.phase)?)
    .bind(to_json("a lease's state", &lease.phase.state())?)
    .bind(&lease.reason)
    .bind(column(lease.since))
    .bind(lease.deadline.map(column))
    .bind(after.events)
    .bind(after.version)
    .bind(lease.server.as_str())
    .bind(column(lease.term.expires))
    .bind(lease.term.warning.map(column))
    .bind(to_json("the servers that failed a lease", &lease.failed)?)
    .bind(lease.due().map(column))
    .bind(after.id.as_str())
    .bind(version)
    .execute(&mut **tx)
    .await
    .map_err(failed("write a lease's next state"))?;
    Ok(changed.rows_affected() == 1)
}
