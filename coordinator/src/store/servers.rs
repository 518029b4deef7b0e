//! The servers' custody and what they are made of.

use super::{Store, StoreError, column, content, failed, from_json, rescues, timestamp, to_json};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// Servers that nobody wrote down, at most; the one that was longest silent makes room.
const MOST_STRANGERS: i64 = 256;

/// Who has a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Custody {
    /// The lender, and it may be lent.
    Free,
    /// A tenant.
    Lent,
    /// The lender, until it is erased.
    Held,
    /// The lender, until somebody has looked at it.
    Quarantined,
}

impl Custody {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Custody::Free => "free",
            Custody::Lent => "lent",
            Custody::Held => "held",
            Custody::Quarantined => "quarantined",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        [Custody::Free, Custody::Lent, Custody::Held, Custody::Quarantined]
            .into_iter()
            .find(|custody| custody.as_str() == text)
            .ok_or_else(|| content("a server's custody", text))
    }
}

impl fmt::Display for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Custody::Held => "held for erasure",
            other => other.as_str(),
        })
    }
}

/// A server on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRecord {
    /// Its name.
    pub name: ServerId,
    /// Who has it.
    pub custody: Custody,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// The lease that has it.
    pub lease: Option<LeaseId>,
    /// What it is made of, once that is known.
    pub hardware: Option<HardwareReport>,
    /// Boots that were ordered to learn its hardware.
    pub inventory_boots: u32,
    /// Until when the last of them must have brought a report.
    pub inventory_deadline: Option<Timestamp>,
}

/// A server that nobody wrote down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrangerRecord {
    /// The card that it booted from.
    pub mac: MacAddress,
    /// The address that it had.
    pub address: IpAddr,
    /// What it is made of.
    pub hardware: HardwareReport,
    /// When it reported.
    pub seen: Timestamp,
}

type ServerRow = (
    String,
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    i64,
    Option<i64>,
);

const SERVER_COLUMNS: &str = "SELECT name, custody, reason, since, lease, hardware, inventory_boots, inventory_deadline FROM servers ORDER BY name";
const SERVER_BY_NAME: &str = "SELECT name, custody, reason, since, lease, hardware, inventory_boots, inventory_deadline FROM servers WHERE name = $1";

fn server(row: ServerRow) -> Result<ServerRecord, StoreError> {
    let (name, custody, reason, since, lease, hardware, boots, deadline) = row;
    Ok(ServerRecord {
        name: name.parse().map_err(|error| content("a server's name", error))?,
        custody: Custody::parse(&custody)?,
        reason,
        since: timestamp(since),
        lease: lease
            .map(|id| id.parse().map_err(|error| content("a lease's name", error)))
            .transpose()?,
        hardware: hardware
            .map(|json| from_json("a hardware report", &json))
            .transpose()?,
        inventory_boots: u32::try_from(boots).unwrap_or(u32::MAX),
        inventory_deadline: deadline.map(timestamp),
    })
}

impl Store {
    /// All servers by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn servers(&self) -> Result<Vec<ServerRecord>, StoreError> {
        let rows: Vec<ServerRow> = sqlx::query_as(SERVER_COLUMNS)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list the servers"))?;
        rows.into_iter().map(server).collect()
    }

    /// One server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server(&self, name: &ServerId) -> Result<Option<ServerRecord>, StoreError> {
        let row: Option<ServerRow> = sqlx::query_as(SERVER_BY_NAME)
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find a server"))?;
        row.map(server).transpose()
    }

    /// Keeps what a server that nobody wrote down is made of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_stranger(&self, stranger: &StrangerRecord) -> Result<(), StoreError> {
        let attempted = "keep a stranger's hardware report";
        let mut tx = self.write(attempted).await?;
        sqlx::query(
            "INSERT INTO strangers (mac, address, hardware, seen) VALUES ($1, $2, $3, $4)
             ON CONFLICT (mac) DO UPDATE SET address = excluded.address, hardware = excluded.hardware, seen = excluded.seen",
        )
            .bind(stranger.mac.to_string())
            .bind(stranger.address.to_string())
            .bind(to_json("a hardware report", &stranger.hardware)?)
            .bind(column(stranger.seen))
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        sqlx::query(
            "DELETE FROM strangers WHERE mac NOT IN (SELECT mac FROM strangers ORDER BY seen DESC LIMIT $1)",
        )
        .bind(MOST_STRANGERS)
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// Servers that nobody wrote down, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn strangers(&self) -> Result<Vec<StrangerRecord>, StoreError> {
        let rows: Vec<(String, String, String, i64)> =
            sqlx::query_as("SELECT mac, address, hardware, seen FROM strangers ORDER BY seen DESC")
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list the strangers"))?;
        rows.into_iter()
            .map(|(mac, address, hardware, seen)| {
                Ok(StrangerRecord {
                    mac: mac.parse().map_err(|error| content("a MAC address", error))?,
                    address: address.parse().map_err(|error| content("an address", error))?,
                    hardware: from_json("a hardware report", &hardware)?,
                    seen: timestamp(seen),
                })
            })
            .collect()
    }

    /// Gives a server that is held back or quarantined free again; `false` when it is neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_free(&self, name: &ServerId, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let attempted = "set a server free";
        let mut tx = self.write(attempted).await?;
        let freed = sqlx::query(
            "UPDATE servers SET custody = 'free', reason = $1, since = $2, lease = NULL, inventory_boots = 0, inventory_deadline = NULL
             WHERE name = $3 AND custody IN ('held', 'quarantined')",
        )
        .bind(reason)
        .bind(column(now))
        .bind(name.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        let freed = freed.rows_affected() == 1;
        if freed {
            rescues::clear(&mut tx, name).await?;
        }
        tx.commit().await.map_err(failed(attempted))?;
        Ok(freed)
    }

    /// Takes a free server out of service.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine(&self, name: &ServerId, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE servers SET custody = 'quarantined', reason = $1, since = $2 WHERE name = $3 AND custody = 'free'",
        )
        .bind(reason)
        .bind(column(now))
        .bind(name.as_str());
        self.execute("quarantine a server", statement).await.map(drop)
    }
}
