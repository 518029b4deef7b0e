//! Whether a tenant is heard at all. Asked for each request, so that a revoked tenant is refused from the next one on.

use super::driver::{Driver, locked, now};
use super::tenant::OrderError;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::leases::Refusal;

impl Driver {
    /// Hears the tenant that shows this certificate, which the CA has signed.
    ///
    /// # Errors
    /// [`Refusal::Unauthorized`] when the certificate is not on record or was revoked, [`Refusal::Busy`] when the tenant asks too
    /// often, or a failure inside.
    pub async fn admit(&self, tenant: &TenantId, certificate: &Sha256) -> Result<(), OrderError> {
        let Some(record) = self.store.tenant_by_certificate(tenant, certificate).await? else {
            return Err(revoked());
        };
        let Some(rate) = record.terms.rate else {
            return Ok(());
        };
        locked(&self.rates)
            .admit(tenant, rate, now())
            .map_err(|wait| Refusal::busy(wait).into())
    }

    /// Whether a tenant that was admitted before is still heard: what it waits for may come after it was revoked.
    pub(super) async fn still_known(&self, tenant: &TenantId) -> Result<(), OrderError> {
        match self.store.tenant(tenant).await? {
            Some(record) if record.revoked.is_some() => Err(revoked()),
            _ => Ok(()),
        }
    }
}

fn revoked() -> OrderError {
    Refusal::Unauthorized {
        message: "this client certificate does not count: it was revoked, or is not on record; ask the lender for an invitation"
            .to_owned(),
    }
    .into()
}
