//! What the PO orders. Every order may be repeated: one that is already carried out answers as the first time.

use super::attention::is_due_soon;
use super::driver::{Driver, DriverError, Extras, concern, now};
use super::groups::MOST_SERVERS;
use super::{Event, Lease, tokens};
use crate::config::Server;
use crate::merge::{self, Lender, Merged, TenantFacts};
use crate::search::Query;
use crate::store::{KickstartRecord, LeaseRecord, NewLease, StoreError, Taken};
use crate::tenants::OverQuota;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::erasure::{ErasureKey, SignedErasure};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{LeaseId, ServerId, TenantId};
use leaseboot_protocol::lease::{LeaseState, LeaseView};
use leaseboot_protocol::leases::{
    BootOrder, EventBatch, LeaseRequest, Lent, MergeProblem, Prepared, Refusal,
};
use leaseboot_protocol::requirements::{Group, Requirements};
use leaseboot_protocol::settings::InstallSettings;
use std::time::Duration;

/// The longest time that a question for events is held.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often another tenant may be faster.
pub(super) const MOST_SEARCHES: u32 = 20;
/// A request's name is no longer than this.
const LONGEST_REQUEST_ID: usize = 128;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// For the tenant to read.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// For the lender only.
    #[error(transparent)]
    Inside(DriverError),
}

impl From<Refusal> for OrderError {
    fn from(refusal: Refusal) -> Self {
        OrderError::Refused(Box::new(refusal))
    }
}

impl From<DriverError> for OrderError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::OutOfPlace(error) => invalid(error.to_string()),
            DriverError::NoLease { id } => no_lease(&id),
            error => OrderError::Inside(error),
        }
    }
}

impl From<StoreError> for OrderError {
    fn from(error: StoreError) -> Self {
        OrderError::Inside(error.into())
    }
}

fn invalid(message: String) -> OrderError {
    Refusal::Invalid { message }.into()
}

pub(super) fn over_quota(over: &OverQuota) -> OrderError {
    let message = over.to_string();
    Refusal::Quota { message }.into()
}

/// The same words for a lease that is not there and for one of another tenant.
fn no_lease(id: &LeaseId) -> OrderError {
    Refusal::NotFound {
        message: format!("there is no lease {id}"),
    }
    .into()
}

impl Driver {
    /// Finds and takes what is asked for: a server, or those of a group.
    ///
    /// # Errors
    /// [`Refusal::NothingFits`] and [`Refusal::Invalid`], or a failure inside.
    pub async fn borrow(&self, tenant: &TenantId, request: LeaseRequest) -> Result<Lent, OrderError> {
        let id = &request.request_id;
        if id.is_empty() || id.len() > LONGEST_REQUEST_ID || id.contains('#') {
            return Err(invalid(format!(
                "request_id must have 1 to {LONGEST_REQUEST_ID} bytes and no '#'"
            )));
        }
        check(&request.requirements, request.group.as_ref())?;
        match &request.group {
            Some(group) => Ok(Lent::Several(self.borrow_group(tenant, &request, group).await?)),
            None => Ok(Lent::One(Box::new(self.borrow_one(tenant, request).await?))),
        }
    }

    async fn borrow_one(&self, tenant: &TenantId, request: LeaseRequest) -> Result<LeaseView, OrderError> {
        let LeaseRequest {
            request_id,
            requirements,
            term_s,
            group: _,
        } = request;
        if let Some(known) = self.store.lease_of_request(tenant, &request_id).await? {
            return Ok(self.view(known).await?);
        }
        let query = self.query(tenant, &requirements).await?;
        for _ in 0..MOST_SEARCHES {
            self.fleet.sync().await?;
            // Held until the server is taken.
            let found = self.reserved.find(&query, |query| self.fleet.find(query))?;
            let at = now();
            let first = Lease::begin(found.server().clone(), term_s, at, self.rules());
            let new = NewLease {
                id: new_lease_id()?,
                tenant: tenant.clone(),
                request_id: request_id.clone(),
                requirements: requirements.clone(),
                first,
            };
            match self.store.take(new, at).await? {
                Taken::New(lease) => {
                    tracing::info!(lease = %lease.id, %tenant, server = %lease.lease.server, "a server was lent");
                    self.store.announce(&lease.id, is_due_soon(&lease.lease, at));
                    return Ok(self.view(lease).await?);
                }
                Taken::Known(lease) => return Ok(self.view(lease).await?),
                Taken::ServerGone => {}
                Taken::OverQuota(over) => return Err(over_quota(&over)),
            }
        }
        Err(busy())
    }

    /// The free server that suits best, without those in `not_these`.
    pub(super) async fn find(
        &self,
        tenant: &TenantId,
        requirements: &Requirements,
        not_these: &[ServerId],
    ) -> Result<Result<ServerId, Refusal>, StoreError> {
        self.fleet.sync().await?;
        let query = self.query(tenant, requirements).await?.without(not_these);
        Ok(self.fleet.find(&query))
    }

    /// What the tenant asks for, among the servers that it may have.
    pub(super) async fn query(
        &self,
        tenant: &TenantId,
        requirements: &Requirements,
    ) -> Result<Query, StoreError> {
        let query = Query::new(requirements);
        let granted = self.store.tenant(tenant).await?;
        Ok(match granted.and_then(|tenant| tenant.terms.labels) {
            Some(labels) => query.restricted_to(labels),
            None => query,
        })
    }

    /// One lease.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or a failure inside.
    pub async fn lease_of(&self, tenant: &TenantId, id: &LeaseId) -> Result<LeaseView, OrderError> {
        let lease = self.own(tenant, id).await?;
        Ok(self.view(lease).await?)
    }

    pub(super) async fn own(&self, tenant: &TenantId, id: &LeaseId) -> Result<LeaseRecord, OrderError> {
        self.still_known(tenant).await?;
        let lease = self.store.lease(id).await?;
        lease
            .filter(|lease| lease.tenant == *tenant)
            .inspect(concern)
            .ok_or_else(|| no_lease(id))
    }

    pub(super) async fn view(&self, record: LeaseRecord) -> Result<LeaseView, DriverError> {
        let hardware = self.hardware(&record.lease.server).await?;
        let LeaseRecord {
            id, tenant, lease, ..
        } = record;
        Ok(LeaseView {
            id,
            tenant,
            state: lease.phase.state(),
            since: lease.since,
            attempt: lease.phase.attempt(),
            agent_key: lease.phase.agent_key(),
            // The last one that failed has no successor yet, or had none.
            moves: u32::try_from(
                lease
                    .failed
                    .iter()
                    .filter(|failed| **failed != lease.server)
                    .count(),
            )
            .unwrap_or(u32::MAX),
            expires: Some(lease.term.expires),
            server: lease.server,
            reason: lease.reason,
            hardware,
        })
    }

    pub(super) async fn hardware(&self, server: &ServerId) -> Result<HardwareReport, StoreError> {
        Ok(self
            .store
            .server(server)
            .await?
            .and_then(|record| record.hardware)
            .unwrap_or_default())
    }

    /// Merges the settings with the hardware.
    ///
    /// # Errors
    /// [`Refusal::Merge`] with every problem at once, [`Refusal::Invalid`] once the boot is ordered, or a
    /// failure inside.
    pub async fn settings(
        &self,
        tenant: &TenantId,
        id: &LeaseId,
        settings: InstallSettings,
    ) -> Result<Prepared, OrderError> {
        let lease = self.own(tenant, id).await?;
        if let Some(known) = self.store.kickstart(id).await?
            && known.settings == settings
            && lease.lease.phase.state() != LeaseState::Leased
        {
            return Ok(prepared(&known.merged));
        }
        let merged = self.merged(&lease, &lease.lease.server, settings).await?;
        let record = merged.map_err(|problems| Refusal::Merge { problems })?;
        let answer = prepared(&record.merged);
        // Nothing is answered here, so the outcome is the lease itself.
        let extras = Extras {
            kickstart: Some(record),
            ..Extras::default()
        };
        let _ = self.apply_with(id, &[Event::SettingsMerged], extras).await?;
        Ok(answer)
    }

    /// The settings merged with the hardware of `server`, or why they do not go together.
    pub(super) async fn merged(
        &self,
        lease: &LeaseRecord,
        server: &ServerId,
        settings: InstallSettings,
    ) -> Result<Result<KickstartRecord, Vec<MergeProblem>>, DriverError> {
        let member = self.configured(lease, server)?;
        let configured = &member.server;
        let hardware = self.hardware(server).await?;
        let granted = self.store.tenant(&lease.tenant).await?;
        let address = settings.tunnel.address.addr();
        let holder = self
            .store
            .holder_of_address(&lease.tenant, address, &lease.id)
            .await?;
        let taken: Vec<_> = holder.map(|holder| (address, holder)).into_iter().collect();
        let lender = Lender {
            tenant: TenantFacts {
                sealed_secrets: granted.is_some_and(|tenant| tenant.terms.sealed_secrets),
                taken: &taken,
            },
            ..lender(configured, &hardware, lease)
        };
        let merged = merge::merge(&lender, &settings);
        Ok(merged.map(|Merged { kickstart, disk, .. }| KickstartRecord {
            merged: kickstart,
            settings,
            disk,
        }))
    }

    /// Sends the server through the boot, when the PO has looked at the very text that stands in the store.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], or a failure inside.
    pub async fn boot(
        &self,
        tenant: &TenantId,
        id: &LeaseId,
        order: BootOrder,
    ) -> Result<LeaseView, OrderError> {
        self.own(tenant, id).await?;
        let Some(kickstart) = self.store.kickstart(id).await? else {
            return Err(invalid(
                "there is no merged kickstart yet: send the install settings first".to_owned(),
            ));
        };
        let found = Sha256::of(kickstart.merged.as_bytes());
        if found != order.kickstart_sha256 {
            return Err(invalid(format!(
                "the merged kickstart has the digest {found}, not {}: look at it again and order the boot with its digest",
                order.kickstart_sha256
            )));
        }
        let lease = self.apply(id, &[Event::BootOrdered]).await?;
        Ok(self.view(lease).await?)
    }

    /// Applies one of the PO's plain orders.
    ///
    /// # Errors
    /// [`Refusal`], or a failure inside.
    pub async fn order(
        &self,
        tenant: &TenantId,
        id: &LeaseId,
        event: Event,
    ) -> Result<LeaseView, OrderError> {
        self.own(tenant, id).await?;
        let lease = self.apply(id, &[event]).await?;
        Ok(self.view(lease).await?)
    }

    /// The signed record of the erasure that the lease ended with.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] until there is one, or a failure inside.
    pub async fn erasure_of(&self, tenant: &TenantId, id: &LeaseId) -> Result<SignedErasure, OrderError> {
        let lease = self.own(tenant, id).await?;
        self.store.erasure(id).await?.ok_or_else(|| {
            let message = format!(
                "there is no erasure record of the lease {id}: it is {}, {}",
                lease.lease.phase.state(),
                lease.lease.reason
            );
            Refusal::NotFound { message }.into()
        })
    }

    /// What erasure records are verified with.
    pub fn erasure_key(&self) -> ErasureKey {
        self.signer.public_key()
    }

    /// Events after `after`; waits for one, at most `wait`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], or a failure inside.
    pub async fn events_of(
        &self,
        tenant: &TenantId,
        id: &LeaseId,
        after: u64,
        wait: Duration,
    ) -> Result<EventBatch, OrderError> {
        let deadline = tokio::time::Instant::now() + wait.min(LONGEST_WAIT);
        // Subscribed before the first look, so that nothing is missed in between.
        let mut following = self.store.follow(id);
        loop {
            following.look();
            let lease = self.own(tenant, id).await?;
            let events = self.store.events(id, after).await?;
            let over = tokio::time::Instant::now() >= deadline || lease.lease.phase.state().is_final();
            if !events.is_empty() || over {
                return Ok(EventBatch {
                    lease: self.view(lease).await?,
                    events,
                });
            }
            // Goal: the next change or the end of the wait; either way the store is asked again.
            let _ = tokio::time::timeout_at(deadline, following.changed()).await;
        }
    }
}

pub(super) fn busy() -> OrderError {
    invalid("other requests were faster again and again: ask once more".to_owned())
}

/// What a search could not work with.
pub(super) fn check(requirements: &Requirements, group: Option<&Group>) -> Result<(), OrderError> {
    requirements.check().map_err(invalid)?;
    match group {
        Some(group) if group.count.get() > MOST_SERVERS => Err(invalid(format!(
            "group.count is {}: {MOST_SERVERS} servers are the most in one request",
            group.count
        ))),
        _ => Ok(()),
    }
}

pub(super) fn new_lease_id() -> Result<LeaseId, OrderError> {
    let name = tokens::lease_name().map_err(DriverError::from)?;
    Ok(name.parse().expect("letters, digits and a dash"))
}

fn prepared(kickstart: &str) -> Prepared {
    Prepared {
        kickstart: kickstart.to_owned(),
        kickstart_sha256: Sha256::of(kickstart.as_bytes()),
    }
}

fn lender<'a>(server: &'a Server, hardware: &'a HardwareReport, lease: &'a LeaseRecord) -> Lender<'a> {
    Lender {
        server: &server.name,
        place: server.lent_place(),
        console: server.console.as_ref(),
        hardware,
        requirements: &lease.requirements,
        tenant: TenantFacts::default(),
    }
}
