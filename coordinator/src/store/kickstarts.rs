//! What the servers of leases are installed by: the merged text, the settings that it came from, and the address inside the enterprise
//! that goes with them.

use super::{Store, StoreError, Tx, content, failed, from_json, to_json};
use leaseboot_protocol::ids::{LeaseId, TenantId};
use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::settings::InstallSettings;
use std::net::IpAddr;

/// A merged kickstart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KickstartRecord {
    /// The text, marks in place.
    pub merged: String,
    /// What the PO sent.
    pub settings: InstallSettings,
    /// The disk that is installed on, as `/dev/disk/by-id` names it.
    pub disk: String,
}

impl Store {
    /// The merged kickstart of a lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn kickstart(&self, lease: &LeaseId) -> Result<Option<KickstartRecord>, StoreError> {
        let row: Option<(String, String, String)> =
            sqlx::query_as("SELECT merged, settings, disk FROM kickstarts WHERE lease = $1")
                .bind(lease.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("find a kickstart"))?;
        row.map(|(merged, settings, disk)| {
            Ok(KickstartRecord {
                merged,
                settings: from_json("install settings", &settings)?,
                disk,
            })
        })
        .transpose()
    }

    /// Another lease of the tenant that is not over and whose server has this address inside the enterprise.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn holder_of_address(
        &self,
        tenant: &TenantId,
        address: IpAddr,
        except: &LeaseId,
    ) -> Result<Option<LeaseId>, StoreError> {
        let over = [LeaseState::Ended, LeaseState::Failed];
        let holder: Option<(String,)> = sqlx::query_as(
            "SELECT l.id FROM kickstarts k JOIN leases l ON l.id = k.lease
             WHERE k.address = $1 AND l.tenant = $2 AND l.id <> $3 AND l.state NOT IN ($4, $5) ORDER BY l.id LIMIT 1",
        )
        .bind(address.to_string())
        .bind(tenant.as_str())
        .bind(except.as_str())
        .bind(to_json("a lease's state", &over[0])?)
        .bind(to_json("a lease's state", &over[1])?)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("find who has an address"))?;
        holder
            .map(|(id,)| id.parse().map_err(|error| content("a lease's name", error)))
            .transpose()
    }
}

/// Keeps the merge of a lease in place of an older one.
pub(super) async fn keep(
    tx: &mut Tx,
    lease: &LeaseId,
    kickstart: &KickstartRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO kickstarts (lease, merged, settings, disk, address) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (lease) DO UPDATE SET merged = excluded.merged, settings = excluded.settings, disk = excluded.disk,
             address = excluded.address",
    )
        .bind(lease.as_str())
        .bind(&kickstart.merged)
        .bind(to_json("install settings", &kickstart.settings)?)
        .bind(&kickstart.disk)
        .bind(kickstart.settings.tunnel.address.addr().to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed("keep a merged kickstart"))?;
    Ok(())
}
