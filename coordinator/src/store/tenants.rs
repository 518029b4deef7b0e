//! Tenants, their certificates and their invitations.

use super::{Store, StoreError, Tx, audit, column, content, failed, from_json, timestamp, to_json};
use crate::audit::Deed;
use crate::tenants::{OverQuota, Terms, Usage};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{ServerId, TenantId};
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;

/// A tenant on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantRecord {
    /// Its name.
    pub name: TenantId,
    /// What it may have.
    pub terms: Terms,
    /// Since when it is known.
    pub since: Timestamp,
    /// Since when it is refused.
    pub revoked: Option<Timestamp>,
}

/// An invitation that is about to be written down.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// Its name, as in the code.
    pub name: String,
    /// Who is invited.
    pub tenant: TenantId,
    /// The digest of its secret.
    pub sha256: Sha256,
    /// Until when it is good.
    pub expires: Timestamp,
    /// How many wrong secrets it bears.
    pub attempts: u32,
}

/// What a code is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// It was good, and is used up now.
    Good(TenantId),
    /// No such invitation, used, out of time, or the wrong secret: the bearer is not told which.
    Refused,
}

type TenantRow = (String, String, i64, Option<i64>);

fn tenant(row: TenantRow) -> Result<TenantRecord, StoreError> {
    let (name, terms, since, revoked) = row;
    Ok(TenantRecord {
        name: name.parse().map_err(|error| content("a tenant's name", error))?,
        terms: from_json("a tenant's terms", &terms)?,
        since: timestamp(since),
        revoked: revoked.map(timestamp),
    })
}

/// What the tenant may have has room for the server; nothing else of the tenant's is taken until the transaction ends.
pub(super) async fn check_quota(
    tx: &mut Tx,
    name: &TenantId,
    wanted: &ServerId,
) -> Result<Result<(), OverQuota>, StoreError> {
    const ATTEMPT: &str = "check a tenant's quota";
    // Holds the tenant's row: two requests at once must not both find the last place free.
    sqlx::query("UPDATE tenants SET since = since WHERE name = $1")
        .bind(name.as_str())
        .execute(&mut **tx)
        .await
        .map_err(failed(ATTEMPT))?;
    let terms: Option<String> = sqlx::query_scalar("SELECT terms FROM tenants WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed(ATTEMPT))?;
    let terms: Terms = match terms {
        Some(terms) => from_json("a tenant's terms", &terms)?,
        None => Terms::default(),
    };
    if terms.servers.is_none() && terms.cores.is_none() {
        return Ok(Ok(()));
    }
    let held: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT servers.hardware FROM servers JOIN leases ON servers.lease = leases.id WHERE leases.tenant = $1",
    )
    .bind(name.as_str())
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(ATTEMPT))?;
    let asked: Option<String> = sqlx::query_scalar("SELECT hardware FROM servers WHERE name = $1")
        .bind(wanted.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed(ATTEMPT))?
        .flatten();
    Ok(terms.check(usage(&held)?, usage(&[asked])?))
}

fn usage(hardware: &[Option<String>]) -> Result<Usage, StoreError> {
    let mut usage = Usage::default();
    for report in hardware {
        let cores = match report {
            Some(report) => {
                from_json::<HardwareReport>("a hardware report", report)?
                    .cpu
                    .cores
            }
            None => 0,
        };
        usage.servers += 1;
        usage.cores = usage.cores.saturating_add(cores);
    }
    Ok(usage)
}

async fn write_tenant(tx: &mut Tx, name: &TenantId, at: Timestamp) -> Result<(), StoreError> {
    // Whoever is let in anew is not revoked any more; its terms stay.
    sqlx::query(
        "INSERT INTO tenants (name, terms, since, revoked) VALUES ($1, $2, $3, NULL)
         ON CONFLICT (name) DO UPDATE SET revoked = NULL",
    )
    .bind(name.as_str())
    .bind(to_json("a tenant's terms", &Terms::default())?)
    .bind(column(at))
    .execute(&mut **tx)
    .await
    .map_err(failed("write a tenant"))?;
    Ok(())
}

async fn write_certificate(
    tx: &mut Tx,
    name: &TenantId,
    certificate: &Sha256,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tenant_certificates (sha256, tenant, issued, revoked) VALUES ($1, $2, $3, NULL)",
    )
    .bind(certificate.to_string())
    .bind(name.as_str())
    .bind(column(at))
    .execute(&mut **tx)
    .await
    .map_err(failed("write a tenant's certificate"))?;
    Ok(())
}

impl Store {
    /// Lets a tenant in by this certificate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_tenant(
        &self,
        name: &TenantId,
        certificate: &Sha256,
        deed: &Deed,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "write a tenant";
        let mut tx = self.write(attempted).await?;
        write_tenant(&mut tx, name, at).await?;
        write_certificate(&mut tx, name, certificate, at).await?;
        audit::append(&mut tx, deed, at).await?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// The tenant, when this certificate counts; terms and all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tenant_by_certificate(
        &self,
        name: &TenantId,
        certificate: &Sha256,
    ) -> Result<Option<TenantRecord>, StoreError> {
        let row: Option<TenantRow> = sqlx::query_as(
            "SELECT tenants.name, tenants.terms, tenants.since, tenants.revoked
             FROM tenants JOIN tenant_certificates ON tenant_certificates.tenant = tenants.name
             WHERE tenants.name = $1 AND tenant_certificates.sha256 = $2
               AND tenants.revoked IS NULL AND tenant_certificates.revoked IS NULL",
        )
        .bind(name.as_str())
        .bind(certificate.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("find a tenant"))?;
        row.map(tenant).transpose()
    }

    /// One tenant, also a revoked one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tenant(&self, name: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        let row: Option<TenantRow> =
            sqlx::query_as("SELECT name, terms, since, revoked FROM tenants WHERE name = $1")
                .bind(name.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("find a tenant"))?;
        row.map(tenant).transpose()
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        let rows: Vec<TenantRow> =
            sqlx::query_as("SELECT name, terms, since, revoked FROM tenants ORDER BY name")
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list the tenants"))?;
        rows.into_iter().map(tenant).collect()
    }

    /// Grants other terms; `false` when there is no such tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_terms(
        &self,
        name: &TenantId,
        terms: &Terms,
        deed: &Deed,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let attempted = "write a tenant's terms";
        let mut tx = self.write(attempted).await?;
        let changed = sqlx::query("UPDATE tenants SET terms = $1 WHERE name = $2")
            .bind(to_json("a tenant's terms", terms)?)
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        audit::append(&mut tx, deed, at).await?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(true)
    }

    /// Refuses a tenant from now on, with all its certificates and invitations; `false` when there is no such tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_tenant(
        &self,
        name: &TenantId,
        deed: &Deed,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let attempted = "revoke a tenant";
        let mut tx = self.write(attempted).await?;
        let changed = sqlx::query("UPDATE tenants SET revoked = $1 WHERE name = $2")
            .bind(column(at))
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        for statement in [
            "UPDATE tenant_certificates SET revoked = $1 WHERE tenant = $2 AND revoked IS NULL",
            "UPDATE invitations SET used = $1 WHERE tenant = $2 AND used IS NULL",
        ] {
            sqlx::query(statement)
                .bind(column(at))
                .bind(name.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
        }
        audit::append(&mut tx, deed, at).await?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(true)
    }

    /// Writes an invitation down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invite(&self, new: &NewInvitation, deed: &Deed, at: Timestamp) -> Result<(), StoreError> {
        let attempted = "write an invitation";
        let mut tx = self.write(attempted).await?;
        sqlx::query(
            "INSERT INTO invitations (name, tenant, sha256, expires, attempts, used) VALUES ($1, $2, $3, $4, $5, NULL)",
        )
        .bind(&new.name)
        .bind(new.tenant.as_str())
        .bind(new.sha256.to_string())
        .bind(column(new.expires))
        .bind(i64::from(new.attempts))
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        audit::append(&mut tx, deed, at).await?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// Who is invited by this code, as far as can be told before it is used up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invited(&self, invitation: &str) -> Result<Option<TenantId>, StoreError> {
        let name: Option<String> = sqlx::query_scalar("SELECT tenant FROM invitations WHERE name = $1")
            .bind(invitation)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find an invitation"))?;
        name.map(|name| name.parse().map_err(|error| content("a tenant's name", error)))
            .transpose()
    }

    /// Uses an invitation up for a tenant that gets this certificate. A wrong secret costs one of its attempts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redeem_invitation(
        &self,
        invitation: &str,
        secret: &Sha256,
        certificate: &Sha256,
        at: Timestamp,
    ) -> Result<Redemption, StoreError> {
        let attempted = "redeem an invitation";
        let mut tx = self.write(attempted).await?;
        // One statement decides, so that two bearers of one code cannot both be let in.
        let used = sqlx::query(
            "UPDATE invitations SET used = $1
             WHERE name = $2 AND sha256 = $3 AND used IS NULL AND expires > $1 AND attempts > 0",
        )
        .bind(column(at))
        .bind(invitation)
        .bind(secret.to_string())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if used.rows_affected() == 0 {
            sqlx::query("UPDATE invitations SET attempts = attempts - 1 WHERE name = $1 AND attempts > 0")
                .bind(invitation)
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
            tx.commit().await.map_err(failed(attempted))?;
            return Ok(Redemption::Refused);
        }
        let name: String = sqlx::query_scalar("SELECT tenant FROM invitations WHERE name = $1")
            .bind(invitation)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        let name: TenantId = name.parse().map_err(|error| content("a tenant's name", error))?;
        write_tenant(&mut tx, &name, at).await?;
        write_certificate(&mut tx, &name, certificate, at).await?;
        let deed = Deed::of_tenant(&name, "enrol").saying(format!("certificate {certificate}"));
        audit::append(&mut tx, &deed, at).await?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(Redemption::Good(name))
    }
}
