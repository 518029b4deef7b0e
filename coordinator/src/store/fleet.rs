//! The fleet: what the lender declared of each server, and what was changed since.
//!
//! A running Lease Manager follows it ([`Store::fleet_changes`]): the command line and other Lease Managers write here, too.

use super::{Custody, Store, StoreError, column, content, failed, from_json, timestamp, to_json};
use crate::config::Server;
use crate::fleet::Difference;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::BTreeMap;

/// Lines of a server's history that are read at once, the latest.
const MOST_HISTORY: i64 = 50;

/// Labels that were changed since the declaration; `None` for one that was taken away.
pub type LabelChanges = BTreeMap<String, Option<String>>;

/// All that is on record of a server of the fleet.
#[derive(Clone, Debug)]
pub struct FleetRow {
    /// What the lender declared.
    pub declared: Server,
    /// What was changed of its labels since.
    pub labels: LabelChanges,
    /// Why it is in maintenance, if it is.
    pub maintenance: Option<String>,
    /// Since when it is retired, if it is.
    pub retired: Option<Timestamp>,
    /// Who has it.
    pub custody: Custody,
    /// Why, in words.
    pub reason: String,
    /// The lease that has it.
    pub lease: Option<LeaseId>,
    /// What it is made of, once that is known.
    pub hardware: Option<HardwareReport>,
    /// What its last report has otherwise than the one on record.
    pub differences: Vec<Difference>,
    /// Boots that were ordered to learn its hardware.
    pub inventory_boots: u32,
    /// Until when the last of them must have brought a report.
    pub inventory_deadline: Option<Timestamp>,
}

/// What reports of a server are compared with.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// The hardware on record.
    pub hardware: HardwareReport,
    /// Whether an agent reported it; else the lender wrote it down.
    pub reported: bool,
}

/// A server cannot be declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Another server has its card or its address.
    #[error(
        "{what} of {name} belongs to the server {other} already: give each server its own, or retire {other}"
    )]
    Taken {
        /// The card or the address.
        what: String,
        /// The server that was to be declared.
        name: ServerId,
        /// The server that has it.
        other: String,
    },
    /// It was retired.
    #[error("the server {name} is retired: `leaseboot-lm servers retire {name} --undo` brings it back")]
    Retired {
        /// The server.
        name: ServerId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Row = (
    String,
    String,
    Option<String>,
    Option<i64>,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    i64,
    Option<i64>,
);

/// Without servers that were never declared: those are only on record. They are sorted where they are read: asked for in the order of their
/// names, the database would go through the whole fleet each time.
const CHANGED: &str = "SELECT declared, labels, maintenance, retired, custody, reason, lease, hardware, differences, inventory_boots, inventory_deadline
    FROM servers WHERE changed >= $1 AND declared IS NOT NULL";
const BY_NAME: &str = "SELECT declared, labels, maintenance, retired, custody, reason, lease, hardware, differences, inventory_boots, inventory_deadline
    FROM servers WHERE name = $1 AND declared IS NOT NULL";

fn fleet_row(row: Row) -> Result<FleetRow, StoreError> {
    let (
        declared,
        labels,
        maintenance,
        retired,
        custody,
        reason,
        lease,
        hardware,
        differences,
        boots,
        deadline,
    ) = row;
    Ok(FleetRow {
        declared: from_json("a server's declaration", &declared)?,
        labels: from_json("a server's labels", &labels)?,
        maintenance,
        retired: retired.map(timestamp),
        custody: Custody::parse(&custody)?,
        reason,
        lease: lease
            .map(|id| id.parse().map_err(|error| content("a lease's name", error)))
            .transpose()?,
        hardware: hardware
            .map(|json| from_json("a hardware report", &json))
            .transpose()?,
        differences: from_json("a server's differences", &differences)?,
        inventory_boots: u32::try_from(boots).unwrap_or(u32::MAX),
        inventory_deadline: deadline.map(timestamp),
    })
}

impl Store {
    /// Servers that were changed at or after `since`, by name, and where to go on from: 0 gives all. A server may come in two answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fleet_changes(&self, since: i64) -> Result<(Vec<FleetRow>, i64), StoreError> {
        let attempted = "follow the fleet";
        // First: what is written from here on is read now, or next time, or both.
        let watermark: i64 = sqlx::query_scalar("SELECT watermark FROM fleet_watermark")
            .fetch_one(&self.pool)
            .await
            .map_err(failed(attempted))?;
        let rows: Vec<Row> = sqlx::query_as(CHANGED)
            .bind(since)
            .fetch_all(&self.pool)
            .await
            .map_err(failed(attempted))?;
        let mut rows: Vec<_> = rows.into_iter().map(fleet_row).collect::<Result<_, _>>()?;
        rows.sort_unstable_by(|a, b| a.declared.name.cmp(&b.declared.name));
        Ok((rows, watermark))
    }

    /// One server of the fleet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fleet_server(&self, name: &ServerId) -> Result<Option<FleetRow>, StoreError> {
        let row: Option<Row> = sqlx::query_as(BY_NAME)
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find a server"))?;
        row.map(fleet_row).transpose()
    }

    /// Puts servers into the fleet, all or none. Those that are there keep their custody, their hardware and the changes of their labels. A
    /// retired server stays retired, and is refused when `retired_is_error`. Gives the names of those that are new.
    ///
    /// # Errors
    /// [`DeclareError`].
    pub async fn declare_servers<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
        retired_is_error: bool,
        now: Timestamp,
    ) -> Result<Vec<ServerId>, DeclareError> {
        let attempted = "put the servers on record";
        let mut tx = self.write(attempted).await?;
        let (servers, mut new) = (Vec::from_iter(servers), Vec::new());
        for server in &servers {
            // Cards and addresses may change hands among them.
            give_up(&mut tx, server).await?;
        }
        for server in servers {
            let known: Option<(Option<i64>,)> = sqlx::query_as("SELECT retired FROM servers WHERE name = $1")
                .bind(server.name.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed(attempted))?;
            match known {
                None => new.push(server.name.clone()),
                Some((Some(_),)) if retired_is_error => {
                    let name = server.name.clone();
                    return Err(DeclareError::Retired { name });
                }
                Some((Some(_),)) => continue,
                Some((None,)) => {}
            }
            refuse_taken(&mut tx, server).await?;
            declare(&mut tx, server, now).await?;
        }
        tx.commit().await.map_err(failed(attempted))?;
        Ok(new)
    }

    /// Takes a stranger off the list of strangers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_stranger(&self, mac: MacAddress) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM strangers WHERE mac = $1").bind(mac.to_string());
        self.execute("forget a stranger", statement).await.map(drop)
    }

    /// Replaces the changes of a server's labels; `false` when there is no such server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_labels(&self, name: &ServerId, labels: &LabelChanges) -> Result<bool, StoreError> {
        let statement =
            sqlx::query("UPDATE servers SET labels = $1 WHERE name = $2 AND declared IS NOT NULL")
                .bind(to_json("a server's labels", labels)?)
                .bind(name.as_str());
        Ok(self.execute("change a server's labels", statement).await? == 1)
    }

    /// Takes a server into maintenance for this reason, or out of it; `false` when there is no such server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_maintenance(&self, name: &ServerId, reason: Option<&str>) -> Result<bool, StoreError> {
        let statement =
            sqlx::query("UPDATE servers SET maintenance = $1 WHERE name = $2 AND declared IS NOT NULL")
                .bind(reason)
                .bind(name.as_str());
        Ok(self.execute("change a server's maintenance", statement).await? == 1)
    }

    /// Takes a server that nobody has out of the fleet for good; `false` when it is lent or not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire(&self, name: &ServerId, now: Timestamp) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "UPDATE servers SET retired = $1 WHERE name = $2 AND declared IS NOT NULL AND custody <> 'lent'",
        )
        .bind(column(now))
        .bind(name.as_str());
        Ok(self.execute("retire a server", statement).await? == 1)
    }

    /// Takes a retired server back into the fleet; its declaration must not clash with another's.
    ///
    /// # Errors
    /// [`DeclareError`].
    pub async fn unretire(&self, server: &Server) -> Result<(), DeclareError> {
        let attempted = "take a server back into the fleet";
        let mut tx = self.write(attempted).await?;
        refuse_taken(&mut tx, server).await?;
        sqlx::query("UPDATE servers SET retired = NULL WHERE name = $1")
            .bind(server.name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(())
    }

    /// What reports of the server are compared with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn baseline(&self, name: &ServerId) -> Result<Option<Baseline>, StoreError> {
        let row: Option<(Option<String>, i64)> =
            sqlx::query_as("SELECT baseline, reported FROM servers WHERE name = $1")
                .bind(name.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("find a server's hardware"))?;
        let Some((Some(json), reported)) = row else {
            return Ok(None);
        };
        Ok(Some(Baseline {
            hardware: from_json("a hardware report", &json)?,
            reported: reported != 0,
        }))
    }

    /// Keeps a report, and what it has otherwise. Without differences it is the one that later ones are compared with. With `quarantine`, a
    /// server that is free is quarantined in the same step; a lent one is its lease's affair.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_report(
        &self,
        name: &ServerId,
        report: &HardwareReport,
        differences: &[Difference],
        quarantine: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let attempted = "keep a hardware report";
        let json = to_json("a hardware report", report)?;
        let mut tx = self.write(attempted).await?;
        let before: Option<String> = sqlx::query_scalar("SELECT differences FROM servers WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        let after = to_json("a server's differences", &differences)?;
        sqlx::query("UPDATE servers SET hardware = $1, differences = $2, inventory_boots = 0, inventory_deadline = NULL WHERE name = $3")
            .bind(&json)
            .bind(&after)
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        if differences.is_empty() {
            sqlx::query("UPDATE servers SET baseline = $1, reported = 1 WHERE name = $2")
                .bind(&json)
                .bind(name.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
        } else if before.as_deref() != Some(&after) {
            for difference in differences {
                history(&mut tx, name, &difference.words, now).await?;
            }
        }
        if let Some(reason) = quarantine {
            sqlx::query("UPDATE servers SET custody = 'quarantined', reason = $1, since = $2, unlike = 1 WHERE name = $3 AND custody = 'free'")
                .bind(reason)
                .bind(column(now))
                .bind(name.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed(attempted))?;
        }
        tx.commit().await.map_err(failed(attempted))
    }

    /// The last report is the one on record from now on; a server that was quarantined for its differences while it was free is free again.
    /// `false` when there was nothing to accept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept_differences(&self, name: &ServerId, now: Timestamp) -> Result<bool, StoreError> {
        let attempted = "accept a server's hardware";
        let mut tx = self.write(attempted).await?;
        let accepted = sqlx::query(
            "UPDATE servers SET baseline = hardware, reported = 1, differences = '[]' WHERE name = $1 AND differences <> '[]'",
        )
        .bind(name.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if accepted.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE servers SET custody = 'free', reason = 'its hardware was accepted', since = $1 WHERE name = $2 AND custody = 'quarantined' AND unlike = 1",
        )
        .bind(column(now))
        .bind(name.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        sqlx::query("UPDATE servers SET unlike = 0 WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        history(&mut tx, name, "the differences were accepted", now).await?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(true)
    }

    /// Adds a line to a server's history.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_history(&self, name: &ServerId, what: &str, now: Timestamp) -> Result<(), StoreError> {
        let attempted = "write a server's history";
        let mut tx = self.write(attempted).await?;
        history(&mut tx, name, what, now).await?;
        tx.commit().await.map_err(failed(attempted))
    }

    /// The last lines of a server's history, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, name: &ServerId) -> Result<Vec<(Timestamp, String)>, StoreError> {
        let mut rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT at, what FROM server_history WHERE server = $1 ORDER BY number DESC LIMIT $2",
        )
        .bind(name.as_str())
        .bind(MOST_HISTORY)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read a server's history"))?;
        rows.reverse();
        Ok(rows.into_iter().map(|(at, what)| (timestamp(at), what)).collect())
    }
}

/// The indexes would refuse it as well, but not say which server it is.
async fn refuse_taken(tx: &mut super::transaction::Tx, server: &Server) -> Result<(), DeclareError> {
    let (mac, address) = (
        server.place.mac.to_string(),
        server.place.address.addr().to_string(),
    );
    let other: Option<(String, Option<String>)> = sqlx::query_as(
        // Not one question with OR: no index answers that.
        "SELECT name, mac FROM servers WHERE mac = $2 AND name <> $1 AND retired IS NULL
         UNION ALL SELECT name, mac FROM servers WHERE address = $3 AND name <> $1 AND retired IS NULL",
    )
    .bind(server.name.as_str())
    .bind(&mac)
    .bind(&address)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("put the servers on record"))?;
    let Some((other, its_mac)) = other else {
        return Ok(());
    };
    let what = match its_mac == Some(mac.clone()) {
        true => format!("the card {mac}"),
        false => format!("the address {address}"),
    };
    let name = server.name.clone();
    Err(DeclareError::Taken { what, name, other })
}

async fn give_up(tx: &mut super::transaction::Tx, server: &Server) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE servers SET mac = NULL, address = NULL WHERE name = $1 AND retired IS NULL AND (mac <> $2 OR address <> $3)",
    )
    .bind(server.name.as_str())
    .bind(server.place.mac.to_string())
    .bind(server.place.address.addr().to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed("put the servers on record"))?;
    Ok(())
}

async fn declare(tx: &mut super::transaction::Tx, server: &Server, now: Timestamp) -> Result<(), StoreError> {
    let (custody, reason) = match server.wiped {
        true => (Custody::Free, "never lent"),
        false => (Custody::Held, "its declaration says that it is not wiped"),
    };
    let hardware = server
        .hardware
        .as_ref()
        .map(|report| to_json("a hardware report", report))
        .transpose()?;
    sqlx::query(
        "INSERT INTO servers (name, custody, reason, since, hardware, baseline, declared, mac, address) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)
         ON CONFLICT (name) DO UPDATE SET hardware = coalesce(servers.hardware, excluded.hardware), baseline = coalesce(servers.baseline, excluded.baseline),
             declared = excluded.declared, mac = excluded.mac, address = excluded.address
         WHERE servers.declared IS NULL OR servers.declared <> excluded.declared OR servers.mac IS NULL",
    )
    .bind(server.name.as_str())
    .bind(custody.as_str())
    .bind(reason)
    .bind(column(now))
    .bind(hardware)
    .bind(to_json("a server's declaration", server)?)
    .bind(server.place.mac.to_string())
    .bind(server.place.address.addr().to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed("put the servers on record"))?;
    Ok(())
}

async fn history(
    tx: &mut super::transaction::Tx,
    name: &ServerId,
    what: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO server_history (server, at, what) VALUES ($1, $2, $3)")
        .bind(name.as_str())
        .bind(column(now))
        .bind(what)
        .execute(&mut **tx)
        .await
        .map_err(failed("write a server's history"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
