//! How much there is of what, for metrics.

use super::{Store, StoreError, failed, from_json};

/// Numbers of rows, each with what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases by state, as the wire names it.
    pub leases: Vec<(String, i64)>,
    /// Servers by custody.
    pub servers: Vec<(String, i64)>,
}

impl Store {
    /// Counts leases and servers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let by = async |statement: &'static str| -> Result<Vec<(String, i64)>, StoreError> {
            sqlx::query_as(statement)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("count leases and servers"))
        };
        let leases = by("SELECT state, count(*) FROM leases GROUP BY state").await?;
        let named = leases
            .into_iter()
            .map(|(state, count)| Ok((from_json("a lease's state", &state)?, count)));
        Ok(Counts {
            leases: named.collect::<Result<_, StoreError>>()?,
            servers: by("SELECT custody, count(*) FROM servers GROUP BY custody").await?,
        })
    }
}
