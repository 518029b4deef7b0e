//! How long each state of a lease may last, and what is awaited in it. A wait without a deadline and a reason
//! cannot be written down.

use super::machine::{Phase, Term};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// The `[deadlines]` table of `lm.toml`, in seconds. The defaults are generous: they catch what is stuck, not
/// what is slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// For the PO to send its settings.
    pub leased: NonZeroU32,
    /// For the PO to order the boot.
    pub prepared: NonZeroU32,
    /// From the power order to the agent's first word.
    pub booting: NonZeroU32,
    /// From there to the tunnel. The agent itself gives a gateway that is down some five minutes.
    pub stage1: NonZeroU32,
    /// From there to the second kernel: the image is fetched in this time.
    pub tunnel: NonZeroU32,
    /// From there to the wrapper's word.
    pub chained: NonZeroU32,
    /// For the installation.
    pub installing: NonZeroU32,
    /// From the registered member's key to the member itself: a reboot.
    pub installed: NonZeroU32,
    /// For a server that goes back: from the power order to the agent's first word in wipe mode; and, after the
    /// erasure, for the power to go off.
    pub returning: NonZeroU32,
    /// For the erasure; what moves is given this time anew.
    pub wiping: NonZeroU32,
    /// For another server to come free, after one has failed.
    pub moving: NonZeroU32,
    /// For which an order to stay in rescue mode is good.
    pub rescue: NonZeroU32,
}

const fn seconds(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("written below as a positive number")
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            leased: seconds(900),
            prepared: seconds(900),
            booting: seconds(300),
            stage1: seconds(300),
            tunnel: seconds(300),
            chained: seconds(180),
            installing: seconds(3600),
            installed: seconds(600),
            returning: seconds(300),
            wiping: seconds(3600),
            moving: seconds(900),
            rescue: seconds(4 * 3600),
        }
    }
}

/// What the lender decided about all leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long each state may last.
    pub deadlines: Deadlines,
    /// How many times a server is sent through the boot before it is given up.
    pub attempts: NonZeroU32,
    /// How many times a lease moves to another server before it is given up.
    pub moves: u32,
    /// For how long servers are lent.
    pub term: TermRules,
}

/// The `[term]` table of `lm.toml`, in seconds: for how long servers are lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TermRules {
    /// When the enterprise names no term.
    pub default_s: u64,
    /// The longest term from the lending or from a renewal on. A longer one is cut to this.
    pub maximum_s: u64,
    /// How long before its end a term is announced to end.
    pub warning_s: u64,
}

const DAY_S: u64 = 86_400;

impl Default for TermRules {
    fn default() -> Self {
        Self {
            default_s: 30 * DAY_S,
            maximum_s: 365 * DAY_S,
            warning_s: DAY_S,
        }
    }
}

impl TermRules {
    /// The term that is asked for at `now`. Of a short one at most the second half is announced as its end, so that a renewal is not
    /// followed by the next announcement at once.
    pub fn begin(&self, asked_s: Option<u64>, now: Timestamp) -> Term {
        let length = Duration::from_secs(asked_s.unwrap_or(self.default_s).min(self.maximum_s));
        let announced = Duration::from_secs(self.warning_s).min(length / 2);
        Term {
            expires: now + length,
            warning: Some(now + (length - announced)),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            deadlines: Deadlines::default(),
            attempts: seconds(3),
            moves: 2,
            term: TermRules::default(),
        }
    }
}

/// What a state waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who and what is awaited, in words.
    pub awaited: &'static str,
    /// For how long.
    pub at_most: Duration,
}

impl Deadlines {
    /// What is awaited in `phase`; `None` where nobody is waited for. A server in service is bounded by its term.
    pub fn wait(&self, phase: &Phase) -> Option<Wait> {
        let (awaited, at_most) = match phase {
            Phase::Moving { .. } => ("another server that fits is awaited", self.moving),
            Phase::Leased => ("the enterprise's settings are awaited", self.leased),
            Phase::Prepared => ("the enterprise's order to boot is awaited", self.prepared),
            Phase::Booting { .. } => ("the agent's first word is awaited", self.booting),
            Phase::Stage1(_) => ("the agent's tunnel to the enterprise is awaited", self.stage1),
            Phase::TunnelUp(_) => (
                "the enterprise's kernel and initrd are awaited on the server",
                self.tunnel,
            ),
            Phase::Chained(_) => ("the wrapper's word from stage 2 is awaited", self.chained),
            // A whole start by the firmware comes first.
            Phase::Staged { .. } => (
                "the wrapper's word from stage 2 is awaited, by way of the server's own disk",
                self.booting.saturating_add(self.chained.get()),
            ),
            Phase::Installing(_) => ("the end of the installation is awaited", self.installing),
            Phase::Installed { .. } => (
                "the installed system is awaited in the enterprise",
                self.installed,
            ),
            Phase::Returning(_) => ("the agent's first word in wipe mode is awaited", self.returning),
            Phase::Wiping(_) => ("the erasure of every disk is awaited", self.wiping),
            Phase::Erased { .. } => ("the server's power is awaited to go off", self.returning),
            Phase::InService { .. } | Phase::Ended { .. } | Phase::Failed { .. } => return None,
        };
        Some(Wait {
            awaited,
            at_most: Duration::from_secs(at_most.get().into()),
        })
    }
}
