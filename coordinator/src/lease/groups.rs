//! Several servers in one request. Each gets a lease of its own, which goes its own way from then on; only the taking is common.
//!
//! The leases are known by the request's name with a number behind it, so a request that is repeated finds them, however many there were.

use super::Lease;
use super::driver::{Driver, now};
use super::tenant::{MOST_SEARCHES, OrderError, busy, new_lease_id, over_quota};
use crate::store::{LeaseRecord, NewLease};
use leaseboot_protocol::ids::{ServerId, TenantId};
use leaseboot_protocol::leases::{LeaseList, LeaseRequest, SearchAnswer, SearchRequest};
use leaseboot_protocol::requirements::Group;

/// Servers that one request may ask for.
pub(super) const MOST_SERVERS: u32 = 1024;

/// The name of the request for the `number`-th server of a group, counted from 1. No other request is named so: `#` is refused in names.
fn member_request(request_id: &str, number: usize) -> String {
    format!("{request_id}#{number:04}")
}

impl Driver {
    /// What a request would find now; nothing is taken.
    ///
    /// # Errors
    /// [`leaseboot_protocol::leases::Refusal::Invalid`], or a failure inside.
    pub async fn search(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
    ) -> Result<SearchAnswer, OrderError> {
        super::tenant::check(&request.requirements, request.group.as_ref())?;
        self.fleet.sync().await?;
        let query = self.query(tenant, &request.requirements).await?;
        Ok(self.fleet.look(&query, request.group.as_ref()))
    }

    /// Finds and takes the servers of a group, all in one transaction.
    pub(super) async fn borrow_group(
        &self,
        tenant: &TenantId,
        request: &LeaseRequest,
        group: &Group,
    ) -> Result<LeaseList, OrderError> {
        let query = self.query(tenant, &request.requirements).await?;
        for _ in 0..MOST_SEARCHES {
            let known = self.known_group(tenant, &request.request_id).await?;
            if !known.is_empty() {
                return self.views(known).await;
            }
            self.fleet.sync().await?;
            let servers = self.fleet.choose(&query, group)?;
            let new = self.new_leases(tenant, request, servers)?;
            let taken = self.store.take_all(new, now()).await?;
            if let Some(leases) = taken.map_err(|over| over_quota(&over))? {
                tracing::info!(%tenant, request = request.request_id, servers = leases.len(), "a group of servers was lent");
                self.store.announce_work();
                return self.views(leases).await;
            }
        }
        Err(busy())
    }

    async fn known_group(&self, tenant: &TenantId, request_id: &str) -> Result<Vec<LeaseRecord>, OrderError> {
        let mut known = Vec::new();
        while let Some(lease) = self
            .store
            .lease_of_request(tenant, &member_request(request_id, known.len() + 1))
            .await?
        {
            known.push(lease);
        }
        Ok(known)
    }

    fn new_leases(
        &self,
        tenant: &TenantId,
        request: &LeaseRequest,
        servers: Vec<ServerId>,
    ) -> Result<Vec<NewLease>, OrderError> {
        let at = now();
        let new = servers.into_iter().enumerate().map(|(index, server)| {
            Ok(NewLease {
                id: new_lease_id()?,
                tenant: tenant.clone(),
                request_id: member_request(&request.request_id, index + 1),
                requirements: request.requirements.clone(),
                first: Lease::begin(server, request.term_s, at, self.rules()),
            })
        });
        new.collect()
    }

    async fn views(&self, leases: Vec<LeaseRecord>) -> Result<LeaseList, OrderError> {
        let mut views = Vec::with_capacity(leases.len());
        for lease in leases {
            views.push(self.view(lease).await?);
        }
        Ok(LeaseList {
            leases: views,
            next: None,
        })
    }
}
