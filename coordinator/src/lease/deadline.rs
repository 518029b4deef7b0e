//! How long each state of a lease may last, and what is awaited in it. A wait without a deadline and a reason
//! cannot be written down.

use super::machine::Phase;
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
    /// For the power to go off.
    pub returning: NonZeroU32,
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
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            deadlines: Deadlines::default(),
            attempts: seconds(3),
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
    /// What is awaited in `phase`; `None` where nobody is waited for.
    pub fn wait(&self, phase: &Phase) -> Option<Wait> {
        let (awaited, at_most) = match phase {
            Phase::Leased => ("the enterprise's settings are awaited", self.leased),
            Phase::Prepared => ("the enterprise's order to boot is awaited", self.prepared),
            Phase::Booting { .. } => ("the agent's first word is awaited", self.booting),
            Phase::Stage1(_) => ("the agent's tunnel to the enterprise is awaited", self.stage1),
            Phase::TunnelUp(_) => (
                "the enterprise's kernel and initrd are awaited on the server",
                self.tunnel,
            ),
            Phase::Chained(_) => ("the wrapper's word from stage 2 is awaited", self.chained),
            Phase::Installing(_) => ("the end of the installation is awaited", self.installing),
            Phase::Installed { .. } => (
                "the installed system is awaited in the enterprise",
                self.installed,
            ),
            Phase::Returning { .. } => ("the server's power is awaited to go off", self.returning),
            Phase::InService { .. } | Phase::Ended { .. } | Phase::Failed { .. } => return None,
        };
        Some(Wait {
            awaited,
            at_most: Duration::from_secs(at_most.get().into()),
        })
    }
}
