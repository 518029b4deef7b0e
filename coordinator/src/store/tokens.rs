//! Boot tokens and session tokens, of which only the digests are kept: whoever reads the store cannot speak for a server.

use super::{Store, StoreError, Tx, column, content, failed, timestamp};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::timestamp::Timestamp;
use std::net::IpAddr;

/// Boot tokens of servers that nobody wrote down, at most.
const MOST_STRANGERS: i64 = 1024;
const USED_BEFORE: &str = "the boot token was used before";

/// A boot token that was just made. It replaces the one that the card had before.
#[derive(Clone, Debug)]
pub struct NewBootToken {
    /// Digest of the token.
    pub sha256: Sha256,
    /// What it stands for.
    pub ticket: BootTicket,
    /// Where it must come from.
    pub address: IpAddr,
    /// Until when.
    pub expires: Timestamp,
    /// Which drivers the boot is given.
    pub drivers: DriverSet,
}

/// Which drivers a boot into stage 1 is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverSet {
    /// All of them: nothing is on record to choose by, or everything is to be seen.
    All,
    /// Those of the server on record.
    Own,
    /// All of them, because with its own the server did not come up.
    AllAfterOwn,
}

impl DriverSet {
    const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Own => "own",
            Self::AllAfterOwn => "all-after-own",
        }
    }
}

/// What a boot token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTicket {
    /// The card that is booted from.
    pub mac: MacAddress,
    /// The server, when it is on record.
    pub server: Option<ServerId>,
    /// The lease that the boot serves.
    pub lease: Option<LeaseId>,
}

/// What came of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// It was good, and is used up now.
    Good(BootTicket),
    /// It is not good, for this reason.
    Bad(&'static str),
}

/// What a session token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The card that was booted from.
    pub mac: MacAddress,
    /// The lease that the boot serves; none for a boot that only brings a hardware report.
    pub lease: Option<LeaseId>,
    /// Where it must come from.
    pub address: IpAddr,
}

type TokenRow = (String, Option<String>, Option<String>, String, i64, Option<i64>);

/// A boot token on record.
struct Kept {
    ticket: BootTicket,
    address: IpAddr,
    expires: Timestamp,
    used: bool,
}

impl Store {
    /// Keeps a boot token's digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_boot_token(&self, token: &NewBootToken) -> Result<(), StoreError> {
        let attempted = "keep a boot token's digest";
        let mut tx = self.write(attempted).await?;
        sqlx::query(
            "INSERT INTO boot_tokens (sha256, mac, server, lease, address, expires, drivers) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (mac) DO UPDATE SET sha256 = excluded.sha256, server = excluded.server, lease = excluded.lease,
             address = excluded.address, expires = excluded.expires, drivers = excluded.drivers, used = NULL",
        )
        .bind(token.sha256.to_string())
        .bind(token.ticket.mac.to_string())
        .bind(token.ticket.server.as_ref().map(ServerId::as_str))
        .bind(token.ticket.lease.as_ref().map(LeaseId::as_str))
        .bind(token.address.to_string())
        .bind(column(token.expires))
        .bind(token.drivers.word())
        .execute(&mut *tx)
        .await
        .map_err(failed(attempted))?;
        if token.ticket.server.is_none() {
            sqlx::query(
                "DELETE FROM boot_tokens WHERE server IS NULL AND sha256 NOT IN
                 (SELECT sha256 FROM boot_tokens WHERE server IS NULL ORDER BY expires DESC LIMIT $1)",
            )
            .bind(MOST_STRANGERS)
            .execute(&mut *tx)
            .await
            .map_err(failed(attempted))?;
        }
        tx.commit().await.map_err(failed(attempted))
    }

    /// Whether a boot of this card for this lease was given its server's own drivers and never said hello. It stays so until the lease has
    /// no boot any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn own_drivers_failed(&self, mac: MacAddress, lease: &LeaseId) -> Result<bool, StoreError> {
        let silent: Option<(i64,)> = sqlx::query_as(
            "SELECT CAST(1 AS BIGINT) FROM boot_tokens WHERE mac = $1 AND lease = $2
             AND (drivers = $3 OR (drivers = $4 AND used IS NULL))",
        )
        .bind(mac.to_string())
        .bind(lease.as_str())
        .bind(DriverSet::AllAfterOwn.word())
        .bind(DriverSet::Own.word())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up how a card's last boot went"))?;
        Ok(silent.is_some())
    }

    /// Uses a boot token up, and keeps the digest of the session token that follows it, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redeem(
        &self,
        token: &Sha256,
        mac: MacAddress,
        from: IpAddr,
        session: &Sha256,
        now: Timestamp,
    ) -> Result<Redeemed, StoreError> {
        let attempted = "look a boot token up";
        let mut tx = self.write(attempted).await?;
        let Some(kept) = kept(&mut tx, token).await? else {
            tx.leave().await.map_err(failed(attempted))?;
            return Ok(Redeemed::Bad("the boot token is not known"));
        };
        let bad = if kept.used {
            Some(USED_BEFORE)
        } else if kept.expires <= now {
            Some("the boot token is too old")
        } else if kept.ticket.mac != mac || kept.address != from {
            Some("the boot token belongs to another server")
        } else {
            None
        };
        let bad = match bad {
            None if !use_up(&mut tx, token, now).await? => Some(USED_BEFORE),
            bad => bad,
        };
        if let Some(bad) = bad {
            tx.leave().await.map_err(failed(attempted))?;
            return Ok(Redeemed::Bad(bad));
        }
        open_session(&mut tx, session, &kept).await?;
        tx.commit().await.map_err(failed(attempted))?;
        Ok(Redeemed::Good(kept.ticket))
    }

    /// Whether this is a session token or a boot token, used or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn knows_token(&self, token: &Sha256) -> Result<bool, StoreError> {
        let known: Option<(i64,)> = sqlx::query_as(
            "SELECT CAST(1 AS BIGINT) FROM sessions WHERE sha256 = $1 UNION ALL
             SELECT CAST(1 AS BIGINT) FROM boot_tokens WHERE sha256 = $1",
        )
        .bind(token.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look a token up"))?;
        Ok(known.is_some())
    }

    /// The session that a token belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, token: &Sha256) -> Result<Option<SessionRecord>, StoreError> {
        let row: Option<(String, Option<String>, String)> =
            sqlx::query_as("SELECT mac, lease, address FROM sessions WHERE sha256 = $1")
                .bind(token.to_string())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("look a session up"))?;
        row.map(|(mac, lease, address)| {
            Ok(SessionRecord {
                mac: mac.parse().map_err(|error| content("a MAC address", error))?,
                lease: parse_lease(lease)?,
                address: address.parse().map_err(|error| content("an address", error))?,
            })
        })
        .transpose()
    }
}

async fn kept(tx: &mut Tx, token: &Sha256) -> Result<Option<Kept>, StoreError> {
    let row: Option<TokenRow> = sqlx::query_as(
        "SELECT mac, server, lease, address, expires, used FROM boot_tokens WHERE sha256 = $1",
    )
    .bind(token.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("look a boot token up"))?;
    row.map(|(mac, server, lease, address, expires, used)| {
        let server = server.map(|name| name.parse().map_err(|error| content("a server's name", error)));
        Ok(Kept {
            ticket: BootTicket {
                mac: mac.parse().map_err(|error| content("a MAC address", error))?,
                server: server.transpose()?,
                lease: parse_lease(lease)?,
            },
            address: address.parse().map_err(|error| content("an address", error))?,
            expires: timestamp(expires),
            used: used.is_some(),
        })
    })
    .transpose()
}

/// Two Lease Managers may have read that a token was not used: one of them uses it, the other is told `false`.
async fn use_up(tx: &mut Tx, token: &Sha256, now: Timestamp) -> Result<bool, StoreError> {
    let used = sqlx::query("UPDATE boot_tokens SET used = $1 WHERE sha256 = $2 AND used IS NULL")
        .bind(column(now))
        .bind(token.to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed("use a boot token up"))?;
    Ok(used.rows_affected() == 1)
}

/// The card's session from now on; an earlier one is over.
async fn open_session(tx: &mut Tx, session: &Sha256, kept: &Kept) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sessions (sha256, mac, lease, address) VALUES ($1, $2, $3, $4)
         ON CONFLICT (mac) DO UPDATE SET sha256 = excluded.sha256, lease = excluded.lease, address = excluded.address",
    )
    .bind(session.to_string())
    .bind(kept.ticket.mac.to_string())
    .bind(kept.ticket.lease.as_ref().map(LeaseId::as_str))
    .bind(kept.address.to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed("open a session"))?;
    Ok(())
}

fn parse_lease(lease: Option<String>) -> Result<Option<LeaseId>, StoreError> {
    lease
        .map(|id| id.parse().map_err(|error| content("a lease's name", error)))
        .transpose()
}

/// Tokens and sessions of a lease are good no more.
pub(super) async fn revoke(tx: &mut Tx, lease: &LeaseId) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM boot_tokens WHERE lease = $1",
        "DELETE FROM sessions WHERE lease = $1",
    ] {
        sqlx::query(statement)
            .bind(lease.as_str())
            .execute(&mut **tx)
            .await
            .map_err(failed("revoke a boot's tokens"))?;
    }
    Ok(())
}
