//! Which way into the second kernel works, by model: a board that hangs in kexec hangs in every server that has it.
//!
//! kexec is what a model is taken to do until the other way has worked where it did not, so only the exceptions have a row.

use super::{Store, StoreError, Tx, column, failed, from_json, to_json};
use leaseboot_protocol::handover::Handover;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::timestamp::Timestamp;

/// What servers that behave alike have in common: maker and product; none where the firmware does not tell.
pub fn model(hardware: &HardwareReport) -> Option<String> {
    let words = format!("{} {}", hardware.dmi.vendor, hardware.dmi.product);
    let words = words.trim();
    (!words.is_empty()).then(|| words.to_owned())
}

/// Writes down that a way works on the model of this server.
pub(super) async fn keep(
    tx: &mut Tx,
    server: &ServerId,
    way: Handover,
    at: Timestamp,
) -> Result<(), StoreError> {
    let attempted = "keep which way into the second kernel works";
    let hardware: Option<(Option<String>,)> = sqlx::query_as("SELECT hardware FROM servers WHERE name = $1")
        .bind(server.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed(attempted))?;
    let Some(hardware) = hardware.and_then(|(hardware,)| hardware) else {
        return Ok(());
    };
    let Some(model) = model(&from_json("a server's hardware", &hardware)?) else {
        return Ok(());
    };
    let statement = match way {
        Handover::Disk => {
            "INSERT INTO handovers (model, way, since, server) VALUES ($1, $2, $3, $4)
             ON CONFLICT (model) DO UPDATE SET way = excluded.way, since = excluded.since, server = excluded.server"
        }
        // The row says that it does not: it did.
        Handover::Kexec | Handover::Unknown => {
            return sqlx::query("DELETE FROM handovers WHERE model = $1")
                .bind(model)
                .execute(&mut **tx)
                .await
                .map(drop)
                .map_err(failed(attempted));
        }
    };
    sqlx::query(statement)
        .bind(model)
        .bind(to_json("a way into the second kernel", &way)?)
        .bind(column(at))
        .bind(server.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(failed(attempted))
}

impl Store {
    /// The way into the second kernel that is known for a model; none when nothing speaks against kexec.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn handover(&self, model: &str) -> Result<Option<Handover>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT way FROM handovers WHERE model = $1")
            .bind(model)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("find which way into the second kernel works"))?;
        row.map(|(way,)| from_json("a way into the second kernel", &way))
            .transpose()
    }
}
