//! Taking the load off a server before it is given back: a program of the enterprise's own, as the profile says.
//!
//! ```text
//! run ── status 0 ──────────────────────────► drained
//!  ▲ └── failed ── pause ── time left? ─ no ─► not drained, said so, and the server goes back nevertheless
//!  └──────────────────────── yes ┘
//! ```
//!
//! The deadline counts from the moment at which the release was written down, so a PO that was killed does not begin anew; what it
//! ran is run again, and has to bear that.

use super::Order;
use super::machine::Event;
use super::membership::Drain;
use crate::announce::hook::{self, HookError};
use crate::{error_chain, now};
use leaseboot_protocol::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::sleep;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the program until it succeeds or its time, which counts from `since`, is over. May be dropped at any point.
pub(super) async fn drain(order: &Order, since: Timestamp) -> Event {
    let Some(drain) = &order.membership.drain else {
        return Event::Drained { error: None };
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match once(order, drain, left(drain, since)).await {
            Ok(()) => return Event::Drained { error: None },
            Err(error) => error_chain(&error),
        };
        if left(drain, since) <= pause {
            tracing::error!(hostname = %order.settings.hostname, error, "the server is not drained, and its time is over");
            return Event::Drained { error: Some(error) };
        }
        tracing::warn!(hostname = %order.settings.hostname, error, "the server is not drained yet; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn left(drain: &Drain, since: Timestamp) -> Duration {
    Duration::from_secs(drain.deadline_s).saturating_sub(now().since(since))
}

async fn once(order: &Order, drain: &Drain, left: Duration) -> Result<(), HookError> {
    let address = order.address().to_string();
    let words = ["drain", order.settings.hostname.as_str(), &address];
    hook::run(&drain.command, &words, left).await
}
