//! A tenant's leases, page by page.

use super::driver::Driver;
use super::tenant::OrderError;
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::lease::LeaseView;

/// Part of a list.
#[derive(Debug)]
pub struct Page {
    /// The leases, oldest first.
    pub leases: Vec<LeaseView>,
    /// Where the next page begins; none when this one is the last.
    pub next: Option<i64>,
}

impl Driver {
    /// At most `limit` leases of the tenant behind the number `after`, oldest first.
    ///
    /// # Errors
    /// A failure inside.
    pub async fn lease_page(&self, tenant: &TenantId, after: i64, limit: u32) -> Result<Page, OrderError> {
        // One more than is shown says whether there is a next page.
        let mut found = self
            .store
            .lease_page(tenant, after, limit.saturating_add(1))
            .await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(number, _)| *number);
        let mut leases = Vec::new();
        for (_, id) in found {
            leases.push(self.lease_of(tenant, &id).await?);
        }
        Ok(Page { leases, next })
    }
}
