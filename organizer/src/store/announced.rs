//! The journal of the channels that have a memory of their own (see [`crate::announce::plan`]).

use super::{Store, StoreError, from_json, statement, to_json};
use crate::announce::hook;
use crate::announce::plan::{Mark, Row, Subject};
use crate::borrowing::{BorrowingId, Order};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Row as _, SqliteConnection};
use std::collections::BTreeMap;

impl Store {
    /// What a channel was told, or may have been.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn announced<S: DeserializeOwned>(
        &self,
        channel: &str,
    ) -> Result<BTreeMap<Subject, Row<S>>, StoreError> {
        let rows =
            sqlx::query("SELECT subject, borrowing, shown, mark, tries FROM announced WHERE channel = ?")
                .bind(channel)
                .fetch_all(&self.pool)
                .await
                .map_err(statement("read what was announced"))?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let announced = Row {
                borrowing: BorrowingId::from_text(row.get::<String, _>("borrowing")),
                shown: from_json("announcement", row.get("shown"))?,
                mark: from_json("mark of an announcement", row.get("mark"))?,
                tries: row.get("tries"),
            };
            Ok((row.get("subject"), announced))
        };
        rows.iter().map(row).collect()
    }

    /// Writes down how far a channel was told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_announced<S: Serialize>(
        &self,
        channel: &str,
        subject: &str,
        row: &Row<S>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT OR REPLACE INTO announced (channel, subject, borrowing, shown, mark, tries) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(channel)
        .bind(subject)
        .bind(row.borrowing.as_str())
        .bind(to_json(&row.shown))
        .bind(to_json(&row.mark))
        .bind(row.tries)
        .execute(&self.pool)
        .await
        .map_err(statement("write down what is announced"))?;
        Ok(())
    }

    /// The channel shows this no longer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_announced(&self, channel: &str, subject: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM announced WHERE channel = ? AND subject = ?")
            .bind(channel)
            .bind(subject)
            .execute(&self.pool)
            .await
            .map_err(statement("write down what is no longer announced"))?;
        Ok(())
    }

    /// What was ordered for a borrowing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn order(&self, id: &BorrowingId) -> Result<Option<Order>, StoreError> {
        let order: Option<String> = sqlx::query_scalar(r#"SELECT "order" FROM borrowing WHERE id = ?"#)
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(statement("read an order"))?;
        order.map(|order| from_json("order", &order)).transpose()
    }
}

/// A server came into service: the hook is owed the word, even if the server is gone before anybody says it.
pub(super) async fn owe(connection: &mut SqliteConnection, id: &BorrowingId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO announced (channel, subject, borrowing, shown, mark) VALUES (?1, ?2, ?2, ?3, ?4)",
    )
    .bind(hook::NAME)
    .bind(id.as_str())
    .bind(to_json(&()))
    .bind(to_json(&Mark::Owed))
    .execute(connection)
    .await
    .map_err(statement("write down what is to be announced"))?;
    Ok(())
}
