//! Orders to stay in rescue mode, the tenant's consent, who waits for a console, and where a tenant's data may be left.

use super::{Store, StoreError, Tx, column, content, failed, power, timestamp};
use crate::power::PowerOrder;
use leaseboot_protocol::console::CallId;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::rescue::ConsoleCall;
use leaseboot_protocol::timestamp::Timestamp;

/// What a tenant has said about its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantsWord {
    /// Until when the agent is to stay.
    pub until: Option<Timestamp>,
    /// Whether the lender may open a console.
    pub lender_console: bool,
}

/// Where a tenant's data may be left on a server that no lease has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Nowhere.
    None,
    /// On its disks, from this lease; from one that is not known any more where there is none.
    Of(Option<LeaseId>),
}

impl Store {
    /// Orders that the agent of a server stays. A server without a lease is sent through the boot for it. An order that stands keeps its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn order_rescue(
        &self,
        server: &ServerId,
        lent: bool,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "order rescue mode";
        let mut tx = self.write(attempted).await?;
        sqlx::query(
            "INSERT INTO server_rescues (server, since, until) VALUES ($1, $2, $3)
             ON CONFLICT (server) DO UPDATE SET since = excluded.since, until = excluded.until WHERE server_rescues.until <= excluded.since",
        )
        .bind(server.as_str())
        .bind(column(now))
        .bind(column(until))
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if !lent {
            power::order(&mut tx, server, PowerOrder::NetworkBootOnce, None, now).await?;
        }
        tx.commit().await.map_err(failed(attempted))
    }

    /// Withdraws the lender's order; `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn withdraw_rescue(&self, server: &ServerId) -> Result<bool, StoreError> {
        let statement = sqlx::query("DELETE FROM server_rescues WHERE server = $1").bind(server.as_str());
        let done = self.execute("withdraw rescue mode", statement).await?;
        Ok(done == 1)
    }

    /// Until when the agent of a server is to stay, on the lender's word about it or on the word of the tenant of `lease`. One cheap question: it is asked at
    /// each report.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stays(
        &self,
        lease: Option<&LeaseId>,
        server: &ServerId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let orders: Vec<(i64,)> = sqlx::query_as(
            "SELECT until FROM server_rescues WHERE server = $1 AND until > $2 UNION ALL
             SELECT until FROM lease_rescues WHERE lease = $3 AND until > $2",
        )
        .bind(server.as_str())
        .bind(column(now))
        .bind(lease.map_or("", LeaseId::as_str))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look for an order of rescue mode"))?;
        Ok(orders.into_iter().map(|(until,)| timestamp(until)).max())
    }

    /// Keeps what a tenant says about its lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_tenants_word(&self, lease: &LeaseId, word: TenantsWord) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO lease_rescues (lease, until, lender_console) VALUES ($1, $2, $3)
             ON CONFLICT (lease) DO UPDATE SET until = excluded.until, lender_console = excluded.lender_console",
        )
        .bind(lease.as_str())
        .bind(word.until.map(column))
        .bind(i64::from(word.lender_console));
        self.execute("keep a tenant's word about rescue mode", statement)
            .await
            .map(drop)
    }

    /// What a tenant has said about its lease; an order whose time is over is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tenants_word(&self, lease: &LeaseId, now: Timestamp) -> Result<TenantsWord, StoreError> {
        let row: Option<(Option<i64>, i64)> =
            sqlx::query_as("SELECT until, lender_console FROM lease_rescues WHERE lease = $1")
                .bind(lease.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("look for a tenant's word about rescue mode"))?;
        Ok(
            row.map_or_else(TenantsWord::default, |(until, lender_console)| TenantsWord {
                until: until.map(timestamp).filter(|until| *until > now),
                lender_console: lender_console != 0,
            }),
        )
    }

    /// An operator waits for the console of a server at the Lease Manager that serves `lm_url`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn call_console(
        &self,
        server: &ServerId,
        call: &CallId,
        lm_url: &str,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO console_calls (server, call, lm_url, until) VALUES ($1, $2, $3, $4)
             ON CONFLICT (server) DO UPDATE SET call = excluded.call, lm_url = excluded.lm_url, until = excluded.until",
        )
        .bind(server.as_str())
        .bind(call.as_str())
        .bind(lm_url)
        .bind(column(until));
        self.execute("call for a console", statement).await.map(drop)
    }

    /// Who waits for the console of a server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_call(
        &self,
        server: &ServerId,
        now: Timestamp,
    ) -> Result<Option<ConsoleCall>, StoreError> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT call, lm_url FROM console_calls WHERE server = $1 AND until > $2")
                .bind(server.as_str())
                .bind(column(now))
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("look who waits for a console"))?;
        row.map(|(call, lm_url)| {
            Ok(ConsoleCall {
                id: call.parse().map_err(|error| content("a console's call", error))?,
                lm_url: Some(lm_url),
            })
        })
        .transpose()
    }

    /// Nobody waits for this console any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_called(&self, call: &CallId) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM console_calls WHERE call = $1").bind(call.as_str());
        self.execute("end the call for a console", statement)
            .await
            .map(drop)
    }

    /// Where a tenant's data may be left on a server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remains(&self, server: &ServerId) -> Result<Remains, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT lease FROM remains WHERE server = $1")
            .bind(server.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look for what a tenant left"))?;
        Ok(match row {
            None => Remains::None,
            Some((lease,)) if lease.is_empty() => Remains::Of(None),
            Some((lease,)) => Remains::Of(Some(
                lease.parse().map_err(|error| content("a lease's name", error))?,
            )),
        })
    }
}

/// A tenant's data may be left on this server.
pub(super) async fn left(tx: &mut Tx, server: &ServerId, lease: &LeaseId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO remains (server, lease) VALUES ($1, $2) ON CONFLICT (server) DO UPDATE SET lease = excluded.lease",
    )
    .bind(server.as_str())
    .bind(lease.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(failed("keep where a tenant's data may be"))
}

/// Nothing of a tenant's is left there.
pub(super) async fn clear(tx: &mut Tx, server: &ServerId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM remains WHERE server = $1")
        .bind(server.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(failed("forget where a tenant's data was"))
}
