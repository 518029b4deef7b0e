//! Another server for a lease whose server failed: searched as the first was, its settings merged anew.
//!
//! The merge decides too: a server that meets the requirements and yet cannot be installed with the settings is passed over. What the
//! enterprise agreed to was the text for the old server, so the lease waits for its consent to the new one (`docs/decisions/0002`).

use super::driver::{Driver, DriverError};
use super::machine::Lease;
use crate::store::{KickstartRecord, LeaseRecord};
use leaseboot_protocol::ids::ServerId;

/// Servers that meet the requirements and fail the merge, at most, in one search.
const MOST_PASSED_OVER: usize = 16;

impl Driver {
    /// The server that `lease` goes on with, and the settings merged for it; `None` while there is none.
    pub(super) async fn replacement(
        &self,
        record: &LeaseRecord,
        lease: &Lease,
    ) -> Result<Option<(ServerId, KickstartRecord)>, DriverError> {
        let Some(known) = self.store.kickstart(&record.id).await? else {
            return Ok(None);
        };
        let mut not_these = lease.failed.clone();
        for _ in 0..MOST_PASSED_OVER {
            let Ok(server) = self
                .find(&record.tenant, &record.requirements, &not_these)
                .await?
            else {
                return Ok(None);
            };
            match self.merged(record, &server, known.settings.clone()).await? {
                Ok(kickstart) => return Ok(Some((server, kickstart))),
                Err(problems) => {
                    tracing::info!(lease = %record.id, %server, ?problems, "a server is passed over: the settings do not fit it");
                    not_these.push(server);
                }
            }
        }
        Ok(None)
    }
}
