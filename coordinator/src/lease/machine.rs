//! The life of a lease as a pure function: `(lease, event, now) -> (lease, effects)`.
//!
//! ```text
//! Leased ─settings─► Prepared ─boot order─► Booting ─hello─► Stage1 ─► TunnelUp ─► Chained ─► Installing
//!    │                  │  ▲                 ▲  │               │          │          │           │
//!    └──── deadline ────┤  │                 │  └───────────────┴─ failure, deadline ─┴───────────┤
//!                       │  │                 └────────── while there are attempts left ───────────┘
//!                       ▼  │
//!              Ended, free └─another server─ Moving   no attempts left: the server is quarantined and
//!                                             │ ▲     switched off, and the lease moves, while there are
//!                               Failed ◄──────┘ └──── moves left; then it is Failed
//! ```
//!
//! A boot whose second kernel gave no sign is repeated by the other way: kexec first, then the server's own disk, where the agent stages what
//! GRUB enters in the next start ([`Phase::Staged`], which others see as chained).
//!
//! ```text
//! Chained ─staged─► Staged ─the wrapper speaks from stage 2─► Chained ─► Installing
//! ```
//!
//! ```text
//! Installing ─member's key─► Installed ─member seen─► InService
//!                             │   ▲
//!                             └───┘ deadline: a power cycle from the disk, while there are attempts left
//!
//! any of Booting … InService ─release, end of the term, or a failure that is the enterprise's own─► Returning
//!
//! Returning ─agent's hello─► Wiping ─report of the erasure─► Erased ─power off─► Ended (or Failed): the server is free
//!    ▲  │                      │                               │
//!    └──┴── failure, deadline ─┘                               └─ a disk is not clean, or the power does not go off:
//!           while there are attempts left; then quarantined      the lease ends, and the server is quarantined
//! ```
//!
//! What must happen outside stands in the [`Effect`]s, which the store writes down in the same transaction as the
//! new state. So a Lease Manager that stops between two steps finds them when it starts again.
//!
//! Who is to blame decides whether a lease moves: a boot that the enterprise's own gateway or image made fail would
//! fail on the next server too, so that lease ends, its server is erased and nobody else's servers are used up.

mod going_back;
mod history;
mod second_way;
mod transition;
mod trouble;

use super::deadline::Rules;
use crate::power::PowerOrder;
use leaseboot_protocol::agent::Report;
use leaseboot_protocol::handover::{Handover, StagedFiles};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::lease::{EventKind, LeaseState};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use transition::Transition;

/// Where a lease stands, with what is only known there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// The server failed and was let go; the lease has none.
    Moving {
        /// Boots of the server that failed.
        attempt: u32,
    },
    /// A server is taken.
    Leased,
    /// The settings are merged.
    Prepared,
    /// The server is being sent through the boot.
    Booting {
        /// For the how many-th time.
        attempt: u32,
        /// The way into the second kernel that the boots before ask for; none when they say nothing.
        #[serde(default)]
        handover: Option<Handover>,
    },
    /// The agent has spoken.
    Stage1(Boot),
    /// The agent has reached the PO.
    TunnelUp(Boot),
    /// The second kernel is about to run.
    Chained(Boot),
    /// Everything lies on the server's own disk; the next start enters it from there.
    Staged {
        /// The boot that staged it.
        boot: Boot,
        /// What lies there.
        files: StagedFiles,
    },
    /// The wrapper has spoken.
    Installing(Boot),
    /// The member's key is registered.
    Installed {
        /// Boots into stage 1 so far.
        attempt: u32,
        /// Power cycles since, because the installed system did not come up.
        restarts: u32,
    },
    /// The member has been seen.
    InService {
        /// Boots into stage 1 in all.
        attempt: u32,
    },
    /// The server is being sent through the boot into the agent's wipe mode.
    Returning(Return),
    /// The agent erases the disks.
    Wiping(Return),
    /// The erasure is on record; the server is being switched off.
    Erased {
        /// The way here.
        back: Return,
        /// What is not erased, in words; empty when all is.
        faults: Vec<String>,
        /// Orders to switch it off so far.
        offs: u32,
    },
    /// Over.
    Ended {
        /// Boots into stage 1 in all.
        attempt: u32,
    },
    /// Over, without success.
    Failed {
        /// Boots into stage 1 in all.
        attempt: u32,
    },
}

/// One boot of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The how many-th boot it is.
    pub attempt: u32,
    /// The agent's key, once it is known.
    pub key: Option<WireguardPublicKey>,
    /// The way into the second kernel.
    #[serde(default)]
    pub handover: Handover,
    /// Whether the second kernel has given a sign.
    #[serde(default)]
    pub entered: bool,
}

/// A server on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Boots into stage 1 before.
    pub attempt: u32,
    /// Boots into wipe mode so far.
    pub tries: u32,
    /// Why the lease failed, if it did.
    pub failure: Option<String>,
}

/// For how long a tenant has its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When the server goes back by itself.
    pub expires: Timestamp,
    /// When that is to be announced; none once it was.
    pub warning: Option<Timestamp>,
}

/// A lease as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The server; the last one where the lease has none any more.
    pub server: ServerId,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// What is awaited, or why it ended, in words.
    pub reason: String,
    /// Until when what is awaited must have come.
    pub deadline: Option<Timestamp>,
    /// The tenant's term.
    pub term: Term,
    /// Servers that failed this lease, oldest first.
    pub failed: Vec<ServerId>,
}

/// What happens to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The PO's settings are merged.
    SettingsMerged,
    /// The PO agreed to the merge.
    BootOrdered,
    /// The agent's first word of a boot.
    Hello,
    /// The way into the second kernel that is known to work on servers like this one.
    Handover(Handover),
    /// The agent's key of this boot.
    AgentKey(WireguardPublicKey),
    /// The agent has staged everything on the server's own disk.
    Staged(StagedFiles),
    /// A report of agent or wrapper.
    Reported(Report),
    /// The agent stays in rescue mode, on an order that ends then.
    Rescued(Timestamp),
    /// Somebody spoke for the server without the right token.
    WrongToken(String),
    /// The server is not what the settings were merged for.
    Unfit(String),
    /// The PO has the member's key.
    MemberRegistered,
    /// The PO has seen the member.
    MemberSeen,
    /// The PO keeps the server for so many seconds more, or for the lender's default.
    Renewed(Option<u64>),
    /// The PO gives the server back.
    Released,
    /// Another server that fits a lease that moves; the settings are merged with it.
    ServerFound(ServerId),
    /// The agent told what it erased.
    Erased {
        /// Disks that are erased.
        disks: u32,
        /// What is not, in words.
        faults: Vec<String>,
    },
    /// A power order was carried out.
    PowerDone(PowerOrder),
    /// A power order was not carried out.
    PowerFailed {
        /// The order.
        order: PowerOrder,
        /// Why, in words that the tenant may read.
        error: String,
    },
    /// The clock says that [`Lease::due`] may have passed.
    DeadlinePassed,
}

/// What becomes of the server when a lease lets go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was never booted: the next lease may have it.
    Untouched,
    /// Every disk was erased: the next lease may have it.
    Erased,
    /// Something is wrong with it: held back until somebody has looked.
    Quarantined(String),
}

/// What must happen outside the machine, in the same transaction as the new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Add to the lease's history.
    Record(EventKind),
    /// Order the server's power; it replaces an order that is not yet carried out. After the server was let go, the
    /// lease does not hear how it went.
    Power {
        /// The order.
        order: PowerOrder,
        /// Not before this has passed.
        after: Duration,
    },
    /// Tokens and sessions of the boot are good no more.
    RevokeTokens,
    /// This way into the second kernel works on servers like this one.
    Works(Handover),
    /// The server is let go.
    LetGo(Release),
    /// This server is taken instead; when it is not free any more, the whole change is void.
    Take(ServerId),
}

/// The next state and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The lease after the event.
    pub lease: Lease,
    /// In order.
    pub effects: Vec<Effect>,
}

/// The event does not fit the lease's state; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is {state}: {advice}")]
pub struct OutOfPlace {
    /// Where the lease stands.
    pub state: LeaseState,
    /// What to do instead.
    pub advice: &'static str,
}

impl Phase {
    /// The state as others see it.
    pub fn state(&self) -> LeaseState {
        match self {
            Phase::Moving { .. } => LeaseState::Moving,
            Phase::Leased => LeaseState::Leased,
            Phase::Prepared => LeaseState::Prepared,
            Phase::Booting { .. } => LeaseState::Booting,
            Phase::Stage1(_) => LeaseState::Stage1,
            Phase::TunnelUp(_) => LeaseState::TunnelUp,
            Phase::Chained(_) | Phase::Staged { .. } => LeaseState::Chained,
            Phase::Installing(_) => LeaseState::Installing,
            Phase::Installed { .. } => LeaseState::Installed,
            Phase::InService { .. } => LeaseState::InService,
            Phase::Returning(_) => LeaseState::Returning,
            Phase::Wiping(_) | Phase::Erased { .. } => LeaseState::Wiping,
            Phase::Ended { .. } => LeaseState::Ended,
            Phase::Failed { .. } => LeaseState::Failed,
        }
    }

    /// How many times the server was sent through the boot for the enterprise.
    pub fn attempt(&self) -> u32 {
        match self {
            Phase::Leased | Phase::Prepared => 0,
            Phase::Stage1(boot)
            | Phase::TunnelUp(boot)
            | Phase::Chained(boot)
            | Phase::Staged { boot, .. }
            | Phase::Installing(boot) => boot.attempt,
            Phase::Returning(back) | Phase::Wiping(back) | Phase::Erased { back, .. } => back.attempt,
            Phase::Moving { attempt }
            | Phase::Booting { attempt, .. }
            | Phase::Installed { attempt, .. }
            | Phase::InService { attempt }
            | Phase::Ended { attempt }
            | Phase::Failed { attempt } => *attempt,
        }
    }

    /// The agent's key of the present boot.
    pub fn agent_key(&self) -> Option<WireguardPublicKey> {
        self.boot().and_then(|boot| boot.key)
    }

    /// Whether a server that asks to boot is to run the agent for this lease.
    pub fn boots_agent(&self) -> bool {
        matches!(self, Phase::Booting { .. }) || self.boot().is_some() || self.wipes()
    }

    /// Whether an agent that says hello is to erase the disks.
    pub fn wipes(&self) -> bool {
        matches!(self, Phase::Returning(_) | Phase::Wiping(_))
    }

    /// Whether a server that asks to boot is to go on with its disk.
    pub fn boots_disk(&self) -> bool {
        matches!(self, Phase::Installed { .. } | Phase::InService { .. })
    }

    /// Whether an agent that reports for this lease has something left to do.
    pub fn keeps_agent(&self) -> bool {
        self.boots_agent() || self.boots_disk()
    }

    /// The boot of the agent that is under way.
    pub fn boot(&self) -> Option<Boot> {
        match self {
            Phase::Stage1(boot)
            | Phase::TunnelUp(boot)
            | Phase::Chained(boot)
            | Phase::Staged { boot, .. }
            | Phase::Installing(boot) => Some(*boot),
            _ => None,
        }
    }

    /// What a server that asks to boot is to enter from its own disk.
    pub fn staged(&self) -> Option<&StagedFiles> {
        match self {
            Phase::Staged { files, .. } => Some(files),
            _ => None,
        }
    }

    /// The way into the second kernel that the next boot of the lease is to take, by what happened so far. A kernel that was to be
    /// entered and gave no sign speaks against the way.
    pub fn next_handover(&self) -> Option<Handover> {
        match self {
            Phase::Booting { handover, .. } => *handover,
            Phase::Chained(boot) | Phase::Staged { boot, .. } if !boot.entered => Some(boot.handover.other()),
            _ => self.boot().map(|boot| boot.handover),
        }
    }

    /// Whether the tenant still has, or will have, a server of it, so that its term counts.
    pub fn has_term(&self) -> bool {
        self.state() < LeaseState::Returning
    }
}

impl Lease {
    /// A lease on a server that was just taken.
    pub fn begin(server: ServerId, term_s: Option<u64>, now: Timestamp, rules: &Rules) -> Step {
        let nothing = Lease {
            server,
            phase: Phase::Leased,
            since: now,
            reason: String::new(),
            deadline: None,
            term: rules.term.begin(term_s, now),
            failed: Vec::new(),
        };
        Transition {
            lease: nothing,
            now,
            rules,
        }
        .enter(Phase::Leased, "a server was found", Vec::new())
    }

    /// What `event` makes of the lease at `now`.
    ///
    /// # Errors
    /// [`OutOfPlace`] for an order that the state does not allow. Orders that are already carried out change
    /// nothing.
    pub fn step(self, event: Event, now: Timestamp, rules: &Rules) -> Result<Step, OutOfPlace> {
        Transition {
            lease: self,
            now,
            rules,
        }
        .on(event)
    }

    /// When somebody must look at the clock again: the deadline of the state, the end of the term, or the warning
    /// before it. Nothing is due in a final state.
    pub fn due(&self) -> Option<Timestamp> {
        let of_term = self.term.warning.unwrap_or(self.term.expires);
        let of_term = self.phase.has_term().then_some(of_term);
        [self.deadline, of_term].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
