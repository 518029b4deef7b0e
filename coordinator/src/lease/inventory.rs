//! What servers are made of: asked for where it is not known, and compared at each boot with what is on record.

use super::driver::{Driver, now};
use crate::fleet::{self, Basis};
use crate::store::StoreError;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;

impl Driver {
    /// Keeps a server's report and what is different about it. Gives the reason when the lender's policy is not to lend such a server: a free one is
    /// quarantined here, a lent one by its lease.
    pub(super) async fn take_report(
        &self,
        name: &ServerId,
        report: &HardwareReport,
    ) -> Result<Option<String>, StoreError> {
        let differences = match self.store.baseline(name).await? {
            None => Vec::new(),
            Some(baseline) => {
                let basis = match baseline.reported {
                    true => Basis::Reported,
                    false => Basis::Declared,
                };
                fleet::compare(&baseline.hardware, basis, report)
            }
        };
        for difference in &differences {
            tracing::warn!(server = %name, %difference, "a server is not what it was");
        }
        let unfit = self.config.inventory.quarantine(&differences);
        self.store
            .save_report(name, report, &differences, unfit.as_deref(), now())
            .await?;
        self.fleet.sync().await?;
        Ok(unfit)
    }

    /// A free server that never told what it is made of is booted for that, a bounded number of times. Gives
    /// the time of the next look.
    pub(super) async fn order_inventories(&self) -> Result<Option<Timestamp>, StoreError> {
        let at = now();
        let mut next: Option<Timestamp> = None;
        let rules = self.rules();
        let patience = rules.deadlines.booting.get() + rules.deadlines.stage1.get();
        for member in self.fleet.without_hardware() {
            let (name, boots) = (&member.server.name, member.inventory_boots);
            if let Some(deadline) = member.inventory_deadline.filter(|deadline| *deadline > at) {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
                continue;
            }
            if boots >= rules.attempts.get() {
                let reason = format!("no hardware report after {boots} boots");
                tracing::error!(server = %name, reason, "a server is quarantined");
                self.store.quarantine(name, &reason, at).await?;
            } else {
                tracing::info!(server = %name, "a server is booted for its hardware report");
                let deadline = at + Duration::from_secs(patience.into());
                self.store.order_inventory(name, at, deadline).await?;
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        Ok(next)
    }
}
