//! Leases of one tenant, page by page. A page begins behind a lease's number, which neither changes nor comes again, so what is made
//! or ended between two pages neither repeats a lease nor leaves one out.

use super::{Store, StoreError, failed};
use leaseboot_protocol::ids::{LeaseId, TenantId};

impl Store {
    /// The next leases behind the number `after`, in the order in which they were made, at most `limit`, each with its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_page(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, LeaseId)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT number, id FROM leases WHERE tenant = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list a tenant's leases"))?;
        let parsed = rows.into_iter().map(|(number, id)| {
            let id = id
                .parse()
                .map_err(|error| super::content("a lease's name", error))?;
            Ok((number, id))
        });
        parsed.collect()
    }
}
