//! A server in the middle of a download, for scenarios in which something happens then. Its plan is [`Plan::without_installer`](crate::lab::Plan::without_installer).

use crate::events::{History, Tenant};
use crate::folders::Folders;
use crate::lab::{CHAIN, Lab};
use crate::managers::Borrowing;
use crate::tiny_image::{Packing, SEEN, TINY, add_profile, archive};
use anyhow::Result;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, Step};
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
/// So much that the download has a middle.
const LARGE: usize = 48 << 20;
/// In bytes a second. However slow the laboratory's host is, there is time to kill a manager before the download is over.
const UNHURRIED: u32 = 2 << 20;

/// A server that has fetched the beginning of a large initrd, and fetches on slowly until [`goes_on`].
pub async fn in_mid_download(lab: &mut Lab) -> Result<(Borrowing, History)> {
    let large = Packing::Plain
        .pack(&archive(&Folders::find()?, LARGE).await?)
        .await?;
    add_profile(&lab.po, TINY, &large, &[])?;
    lab.network.limit_transit(Some(UNHURRIED)).await?;
    let mut borrowing = lab.borrow(TINY)?;
    let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
    let under_way = |event: &LeaseEvent| matches!(event.what, EventKind::StepProgress { step: Step::Initrd, bytes, .. } if bytes > 1 << 20);
    let progress = history.wait_for("progress of the initrd", CHAIN, under_way);
    borrowing.during(progress).await?;
    Ok((borrowing, history))
}

/// That it has not fetched all of it yet.
///
/// # Panics
/// When it has.
pub fn assert_in_mid_download(lab: &Lab) {
    let over = lab.machine().serial().tail(usize::MAX).contains(SEEN);
    assert!(!over, "the download was over before the manager was killed");
}

/// Lets the rest come as fast as it can, waits until it has come and the enterprise's kernel runs, and looks that it took no other boot.
///
/// # Panics
/// When it did.
pub async fn goes_on(lab: &Lab, history: &mut History, within: Duration) -> Result<()> {
    lab.network.limit_transit(None).await?;
    history.wait_for_state(LeaseState::Installing, within).await?;
    lab.machine().serial().wait_for(SEEN, CHAIN).await?;
    let starts = lab.machine().starts();
    assert_eq!(starts, 1, "the agent goes on without another boot");
    Ok(())
}
