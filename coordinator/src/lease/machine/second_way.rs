//! The other way into the second kernel, by way of the server's own disk: when a boot takes it, and what its first sign tells. The chart is in the parent
//! module, the reasons are in docs/decisions/0046-the-second-way.md.

use super::transition::{Transition, power};
use super::{Boot, Effect, OutOfPlace, Phase, Step};
use crate::power::PowerOrder;
use leaseboot_protocol::handover::{Handover, StagedFiles};
use std::time::Duration;

impl Transition<'_> {
    /// What other servers have shown, for a boot that has just begun.
    pub(super) fn handover(mut self, handover: Handover) -> Step {
        if let Phase::Stage1(boot) = &mut self.lease.phase {
            boot.handover = handover;
        }
        self.unchanged(Vec::new())
    }

    /// The tokens of the boot stay good: the wrapper speaks with them, after the start that is ordered here.
    pub(super) fn staged(self, files: StagedFiles) -> Result<Step, OutOfPlace> {
        match &self.lease.phase {
            Phase::Chained(boot) => {
                let phase = Phase::Staged { boot: *boot, files };
                let start = power(PowerOrder::NetworkBootOnce, Duration::ZERO);
                let why = "kernel, initrd and kickstart lie on the server's own disk";
                Ok(self.enter(phase, why, vec![start]))
            }
            Phase::Staged { files: known, .. } if *known == files => Ok(self.unchanged(Vec::new())),
            _ => Err(self.out_of_place("nothing is staged before kernel and initrd are there")),
        }
    }

    /// The first sign of stage 2. What was staged is no more from here on, so the server's next start is the agent's again.
    pub(super) fn wrapper_begins(mut self, boot: Boot, recorded: Vec<Effect>) -> Step {
        let phase = Phase::Chained(entered(boot));
        let recorded = recorded.into_iter().chain(works(boot)).collect();
        if self.lease.phase.state() != phase.state() {
            return self.advance(phase, "the wrapper begins", recorded);
        }
        self.lease.phase = phase;
        self.with_new_deadline(recorded)
    }
}

/// The boot, once its second kernel has given a sign.
pub(super) fn entered(boot: Boot) -> Boot {
    Boot {
        entered: true,
        ..boot
    }
}

/// What the first sign of the second kernel tells about the way into it.
pub(super) fn works(boot: Boot) -> Option<Effect> {
    (!boot.entered).then_some(Effect::Works(boot.handover))
}
