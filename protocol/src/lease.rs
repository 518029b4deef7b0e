//! The states of a lease and the steps of a transfer, as both managers and people see them.

use crate::hardware::HardwareReport;
use crate::ids::{LeaseId, ServerId, TenantId};
use crate::network::WireguardPublicKey;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a lease stands. The order of the variants is the order of a smooth transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// The server failed for good and is quarantined; another that fits is awaited.
    Moving,
    /// A server is taken; settings are awaited from the PO.
    Leased,
    /// The settings are merged; the PO's order to boot is awaited.
    Prepared,
    /// Power was ordered; the agent's first word is awaited.
    Booting,
    /// The agent runs in stage 1 and has told its hardware.
    Stage1,
    /// The agent has reached the PO through the tunnel.
    TunnelUp,
    /// Kernel, initrd and kickstart are verified and the agent is about to enter stage 2; or a disk image is verified and written.
    Chained,
    /// The wrapper has reported from stage 2; the enterprise's installer runs.
    Installing,
    /// The member's key is registered with the PO; the reboot from disk is awaited.
    Installed,
    /// The member has reached the PO through its own tunnel.
    InService,
    /// The server goes back: it is being sent through the boot into the agent's wipe mode.
    Returning,
    /// The agent erases every disk.
    Wiping,
    /// The lease is over, and the server is off.
    Ended,
    /// The transfer failed for good. The reason stands in the last event.
    Failed,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl LeaseState {
    /// Whether nothing more will happen to the lease.
    pub fn is_final(self) -> bool {
        matches!(self, LeaseState::Ended | LeaseState::Failed)
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LeaseState::Moving => "moving",
            LeaseState::Leased => "leased",
            LeaseState::Prepared => "prepared",
            LeaseState::Booting => "booting",
            LeaseState::Stage1 => "stage 1",
            LeaseState::TunnelUp => "tunnel up",
            LeaseState::Chained => "chained",
            LeaseState::Installing => "installing",
            LeaseState::Installed => "installed",
            LeaseState::InService => "in service",
            LeaseState::Returning => "returning",
            LeaseState::Wiping => "wiping",
            LeaseState::Ended => "ended",
            LeaseState::Failed => "failed",
            LeaseState::Unknown => "unknown",
        })
    }
}

/// A step of the agent, in the order in which the steps happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// An earlier boot of the same lease ended in a kernel panic; the agent found its last words in the firmware's store (pstore).
    EarlierBoot,
    /// Kernel modules for the hardware that is there.
    Drivers,
    /// Link, address and route on the lender's wire.
    Network,
    /// The clock, from the LM's hint.
    Clock,
    /// First word to the LM with the hardware report; the task comes back.
    Hello,
    /// A fresh WireGuard key, its public half handed over.
    Key,
    /// The tunnel, proven by a request through it.
    Tunnel,
    /// The merged kickstart, checked against the PO's digest.
    Kickstart,
    /// The sealed values, through the tunnel.
    Sealed,
    /// The enterprise's kernel.
    Kernel,
    /// The enterprise's initrd.
    Initrd,
    /// Kernel, initrd and archive are written to the server's own disk, for boards that hang in kexec.
    Stage,
    /// The enterprise's disk image: fetched, checked and written, all but its beginning.
    Image,
    /// The written system becomes a member: its partition grown, the tunnel left in it, and the disk made bootable.
    Member,
    /// Rescue mode: the agent stays, on the tenant's or the lender's word.
    Rescue,
    /// Loading the second kernel and entering it.
    Kexec,
    /// Stage 2: network and tunnel are up again, the installer's own init follows.
    Wrapper,
    /// Wipe mode: every disk is erased and checked. Its bytes are those of all disks together.
    Erase,
    /// A step that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::EarlierBoot => "earlier boot",
            Step::Drivers => "drivers",
            Step::Network => "network",
            Step::Clock => "clock",
            Step::Hello => "hello",
            Step::Key => "key",
            Step::Tunnel => "tunnel",
            Step::Kickstart => "kickstart",
            Step::Sealed => "sealed values",
            Step::Kernel => "kernel",
            Step::Initrd => "initrd",
            Step::Stage => "staging",
            Step::Image => "disk image",
            Step::Member => "member",
            Step::Rescue => "rescue mode",
            Step::Kexec => "kexec",
            Step::Wrapper => "stage 2",
            Step::Erase => "erase",
            Step::Unknown => "unknown step",
        })
    }
}

/// A lease as the LM shows it to its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseView {
    /// The lease.
    pub id: LeaseId,
    /// Who holds it.
    pub tenant: TenantId,
    /// The server that is lent; in [`LeaseState::Moving`] the one that failed.
    pub server: ServerId,
    /// Where it stands.
    pub state: LeaseState,
    /// Since when.
    pub since: Timestamp,
    /// What is awaited, or why it failed, in words.
    pub reason: String,
    /// How many times the server was sent through the boot.
    pub attempt: u32,
    /// The agent's key of the present boot, once it is known: the PO lets this peer in.
    pub agent_key: Option<WireguardPublicKey>,
    /// What the server is made of, as on record.
    pub hardware: HardwareReport,
    /// When the server goes back by itself unless the lease is renewed; none when the lender sets no term.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// How many times the lease moved to another server because one failed.
    #[serde(default)]
    pub moves: u32,
}

/// Something that happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseEvent {
    /// Position in the lease's history, counted from 1 without gaps.
    pub sequence: u64,
    /// When the LM learnt of it.
    pub at: Timestamp,
    /// The lease's state after it.
    pub state: LeaseState,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// The lease went into the state that the event names.
    Transition {
        /// Why, in words.
        reason: String,
    },
    /// The agent told its WireGuard key.
    AgentKey {
        /// The public half.
        key: WireguardPublicKey,
    },
    /// A step of the agent began.
    StepStarted {
        /// The step.
        step: Step,
    },
    /// A step of the agent goes on.
    StepProgress {
        /// The step.
        step: Step,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// A step of the agent ended well.
    StepFinished {
        /// The step.
        step: Step,
        /// How long it took on the server, in milliseconds.
        took_ms: u64,
        /// Bytes that it moved.
        bytes: u64,
    },
    /// A step of the agent failed.
    StepFailed {
        /// The step.
        step: Step,
        /// The error and its causes, outermost first.
        error: Vec<String>,
        /// The last lines of the kernel's log.
        kernel_log: Vec<String>,
        /// Whether the agent tries again by itself.
        retrying: bool,
    },
    /// The agent told something about a step.
    StepNote {
        /// The step.
        step: Step,
        /// In words: one line, or the last lines of a log.
        note: String,
    },
    /// The lease moved to another server because one failed. Its settings are merged anew, and the PO's consent to them is awaited.
    Moved {
        /// The server that failed.
        from: ServerId,
        /// The server that the lease has now.
        to: ServerId,
    },
    /// The lease's term was set anew.
    Renewed {
        /// When the server goes back by itself.
        expires: Timestamp,
    },
    /// The lease's term ends soon; a renewal keeps the server.
    ExpiresSoon {
        /// When the server goes back by itself.
        expires: Timestamp,
    },
    /// The lender took the agent's report of the erasure, and signed its record.
    Erased {
        /// Disks that were erased.
        disks: u32,
        /// What is not erased, one sentence for each disk; empty when all is clean.
        faults: Vec<String>,
    },
    /// An order to the server's power, and how it went.
    Power {
        /// The order, such as `cycle`.
        order: String,
        /// What the power controller said when it failed.
        error: Option<String>,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}
