//! The states of a borrowing and the way from one to the next. No I/O, no clock, no randomness.
//!
//! Three invariants, held by construction and by the property tests below: a state that is over has no peers, and one that leaves has
//! them only while it drains; the address belongs
//! to one key at a time; what only a booting server may have (sealed values, image) is given only between boot and chain.

mod transitions;

use crate::erasure::Erasure;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::{LeaseEvent, LeaseState, LeaseView};
use leaseboot_protocol::leases::Prepared;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a borrowing ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The enterprise gave the server back.
    Released,
    /// It went wrong.
    Failed {
        /// What, and what to do.
        reason: String,
    },
}

/// A lease that the PO agreed to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The lease.
    pub lease: LeaseId,
    /// The server's name at the lender.
    pub server: ServerId,
    /// The merged kickstart that the PO agreed to.
    pub kickstart_sha256: Sha256,
}

/// What the LM was not told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// That the member's key is registered.
    pub installed: bool,
    /// That the member was seen.
    pub in_service: bool,
}

/// A word that the PO owes the LM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The member's key is registered.
    Installed,
    /// The member was seen through its own tunnel.
    InService,
}

/// Where a borrowing stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// The LM is asked for a server.
    Searching,
    /// The enterprise no longer wants a server that the LM may have granted: ask which, to give it back.
    Withdrawing {
        /// How it will end.
        outcome: Outcome,
    },
    /// A server is leased; the merge is awaited.
    Preparing {
        /// The lease.
        lease: LeaseId,
        /// The server.
        server: ServerId,
    },
    /// The merge is agreed to; the boot is being ordered.
    Ordering {
        /// What was agreed to.
        boot: Boot,
    },
    /// The server boots and installs.
    Transferring {
        /// What was agreed to.
        boot: Boot,
        /// How far it came in this boot attempt.
        stage: LeaseState,
        /// The agent's key of this boot attempt.
        agent: Option<WireguardPublicKey>,
        /// Whether it has its sealed values, as it shows by going on to its image: in this boot attempt they are not given again.
        #[serde(default)]
        unsealed: bool,
    },
    /// The member's key is registered; it may shake hands, and the installer still has the address.
    Installed {
        /// What was agreed to.
        boot: Boot,
        /// The installer's key.
        agent: WireguardPublicKey,
        /// The member's key.
        member: WireguardPublicKey,
        /// What the LM was not told yet.
        owed: Owed,
    },
    /// The member shook hands and has the address; its first word is awaited.
    Joining {
        /// What was agreed to.
        boot: Boot,
        /// The member's key.
        member: WireguardPublicKey,
        /// What the LM was not told yet.
        owed: Owed,
    },
    /// The member serves the enterprise.
    InService {
        /// What was agreed to.
        boot: Boot,
        /// The member's key.
        member: WireguardPublicKey,
        /// What the LM was not told yet.
        owed: Owed,
    },
    /// The enterprise gives the server back: its load goes first, then its name, then its place in the tunnel.
    Draining {
        /// What was agreed to.
        boot: Boot,
        /// The member's key.
        member: WireguardPublicKey,
        /// How it will end.
        outcome: Outcome,
        /// Whether the load is gone, so that nobody needs the name any more.
        drained: bool,
    },
    /// The server failed at the lender; another one is awaited, and will be looked at as the first was.
    Moving {
        /// The lease.
        lease: LeaseId,
    },
    /// The lease is being given back.
    Returning {
        /// The lease.
        lease: LeaseId,
        /// How it will end.
        outcome: Outcome,
    },
    /// The lender has the server back; its erasure is awaited.
    Wiping {
        /// The lease.
        lease: LeaseId,
        /// How it will end.
        outcome: Outcome,
        /// Whether the lender has ended the lease, so that there is a record or there will be none.
        ended: bool,
    },
    /// Nothing more will happen.
    Over {
        /// The lease, when there was one.
        lease: Option<LeaseId>,
        /// How it ended.
        outcome: Outcome,
        /// What is known of the server's erasure.
        #[serde(default)]
        erasure: Option<Erasure>,
    },
}

/// What the driver does for a state, over and over until the state changes. Each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Ask for a server.
    Request,
    /// Send the install settings.
    Prepare(LeaseId),
    /// Order the boot.
    Boot(LeaseId, Sha256),
    /// Tell the LM something.
    Tell(LeaseId, Word),
    /// Wait for the next events.
    Follow(LeaseId),
    /// Keep the server for another term.
    Renew(LeaseId),
    /// Take the load off the server.
    Drain,
    /// Wait until no channel announces it any more.
    Withdraw,
    /// Give the server back.
    Return(LeaseId),
    /// Wait for the end of the erasure.
    AwaitErasure(LeaseId),
    /// Fetch its record.
    Collect(LeaseId),
    /// Nothing.
    Rest,
}

/// A peer that the gateway lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its key.
    pub key: WireguardPublicKey,
    /// Whether the server's address belongs to it.
    pub has_address: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The LM granted a lease.
    Granted(Box<LeaseView>),
    /// The LM merged the settings.
    Merged(Prepared),
    /// The LM took the order to boot.
    Ordered,
    /// The LM was told, or does not want to know.
    Told(Word),
    /// Something happened at the lender.
    Lender(Box<LeaseEvent>),
    /// The LM refused what the present duty asks for.
    Refused(String),
    /// The LM no longer knows the lease.
    LeaseGone(String),
    /// The PO does not go on.
    GaveUp {
        /// Why.
        reason: String,
        /// Whether the LM may have granted a lease whose answer was lost.
        maybe_granted: bool,
    },
    /// The server asks for its sealed values, and is about to get them.
    Unsealing,
    /// The server asks for its image, so it has its sealed values.
    Gathering,
    /// The installer registered the member's key.
    MemberKey(WireguardPublicKey),
    /// The member's key shook hands.
    MemberSeen,
    /// The member said its first word.
    MemberHello,
    /// The enterprise gives the server back.
    Release,
    /// The enterprise gives the server back, whatever it is doing.
    ReleaseNow,
    /// The load is off the server, or will not go.
    Drained {
        /// Why it did not go.
        error: Option<String>,
    },
    /// The server is announced no more.
    Withdrawn,
    /// The LM took the server back.
    Returned,
    /// The LM keeps the server lent until then.
    Renewed(Timestamp),
    /// The LM does not keep it lent for longer.
    NotRenewed,
    /// The LM has nothing more to tell of the lease.
    Ended,
    /// What the LM has to say about the erasure.
    Erasure(Box<Erasure>),
}

impl State {
    /// What to do in this state.
    pub fn duty(&self) -> Duty {
        match self {
            State::Searching | State::Withdrawing { .. } => Duty::Request,
            State::Preparing { lease, .. } => Duty::Prepare(lease.clone()),
            State::Ordering { boot } => Duty::Boot(boot.lease.clone(), boot.kickstart_sha256),
            State::Transferring { boot, .. } => Duty::Follow(boot.lease.clone()),
            State::Moving { lease } => Duty::Follow(lease.clone()),
            State::Installed { boot, owed, .. }
            | State::Joining { boot, owed, .. }
            | State::InService { boot, owed, .. } => match owed {
                Owed { installed: true, .. } => Duty::Tell(boot.lease.clone(), Word::Installed),
                Owed { in_service: true, .. } => Duty::Tell(boot.lease.clone(), Word::InService),
                _ => Duty::Follow(boot.lease.clone()),
            },
            State::Draining { drained: false, .. } => Duty::Drain,
            State::Draining { drained: true, .. } => Duty::Withdraw,
            State::Returning { lease, .. } => Duty::Return(lease.clone()),
            State::Wiping { lease, ended, .. } => match ended {
                false => Duty::AwaitErasure(lease.clone()),
                true => Duty::Collect(lease.clone()),
            },
            State::Over { .. } => Duty::Rest,
        }
    }

    /// The peers that the gateway lets in; at most one of them has the address.
    pub fn peers(&self) -> Vec<Peer> {
        let owner = |key: &WireguardPublicKey| Peer {
            key: *key,
            has_address: true,
        };
        match self {
            State::Transferring { agent, .. } => agent.iter().map(owner).collect(),
            State::Installed { agent, member, .. } => {
                let standby = Peer {
                    key: *member,
                    has_address: false,
                };
                vec![owner(agent), standby]
            }
            State::Joining { member, .. }
            | State::InService { member, .. }
            | State::Draining { member, .. } => vec![owner(member)],
            _ => Vec::new(),
        }
    }

    /// The key whose first handshake is awaited.
    pub fn awaited_member(&self) -> Option<WireguardPublicKey> {
        match self {
            State::Installed { member, .. } => Some(*member),
            _ => None,
        }
    }

    /// What the server agreed to run, while the install-time peer is let in.
    pub fn session(&self) -> Option<&Boot> {
        match self {
            State::Transferring {
                boot, agent: Some(_), ..
            }
            | State::Installed { boot, .. } => Some(boot),
            _ => None,
        }
    }

    /// Whether the server may have its sealed values: once in a boot attempt. An answer can be lost, so "once" lasts until the server goes on to its
    /// image, which the agent asks for when it has the values and filled them in.
    pub fn may_unseal(&self) -> bool {
        self.may_gather() && matches!(self, State::Transferring { unsealed: false, .. })
    }

    /// Whether the server may have its image: after the boot and before it enters stage 2.
    pub fn may_gather(&self) -> bool {
        matches!(
            self,
            State::Transferring { stage, agent: Some(_), .. }
                if (LeaseState::Booting..LeaseState::Chained).contains(stage)
        )
    }

    /// Whether the enterprise's own software runs on it: its installer, or what that installed.
    pub fn runs_our_software(&self) -> bool {
        match self {
            State::Transferring {
                stage,
                agent: Some(_),
                ..
            } => (LeaseState::Chained..=LeaseState::Installing).contains(stage),
            State::Installed { .. }
            | State::Joining { .. }
            | State::InService { .. }
            | State::Draining { .. } => true,
            _ => false,
        }
    }

    /// Whether the server may register `key` as the member's.
    pub fn may_register(&self, key: WireguardPublicKey) -> bool {
        self.register(key).is_some() || matches!(self, State::Installed { member, .. } if *member == key)
    }

    /// Whether the member may say that it is there.
    pub fn may_greet(&self) -> bool {
        matches!(
            self,
            State::Joining { .. } | State::InService { .. } | State::Draining { .. }
        )
    }

    /// Whether the enterprise may count on the server.
    pub fn is_announced(&self) -> bool {
        matches!(
            self,
            State::InService { .. } | State::Draining { drained: false, .. }
        )
    }

    /// The lease, when there is one.
    pub fn lease(&self) -> Option<&LeaseId> {
        match self {
            State::Searching | State::Withdrawing { .. } => None,
            State::Preparing { lease, .. }
            | State::Moving { lease }
            | State::Returning { lease, .. }
            | State::Wiping { lease, .. } => Some(lease),
            State::Ordering { boot }
            | State::Transferring { boot, .. }
            | State::Installed { boot, .. }
            | State::Joining { boot, .. }
            | State::InService { boot, .. }
            | State::Draining { boot, .. } => Some(&boot.lease),
            State::Over { lease, .. } => lease.as_ref(),
        }
    }

    /// The server, while there is one.
    pub fn server(&self) -> Option<&ServerId> {
        match self {
            State::Preparing { server, .. } => Some(server),
            State::Ordering { boot }
            | State::Transferring { boot, .. }
            | State::Installed { boot, .. }
            | State::Joining { boot, .. }
            | State::InService { boot, .. }
            | State::Draining { boot, .. } => Some(&boot.server),
            _ => None,
        }
    }

    /// How it ends, once that is decided.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            State::Withdrawing { outcome }
            | State::Draining { outcome, .. }
            | State::Returning { outcome, .. }
            | State::Wiping { outcome, .. }
            | State::Over { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// What is known of the server's erasure.
    pub fn erasure(&self) -> Option<&Erasure> {
        match self {
            State::Over { erasure, .. } => erasure.as_ref(),
            _ => None,
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, State::Over { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Searching => "searching",
            State::Withdrawing { .. } => "withdrawing",
            State::Preparing { .. } => "preparing",
            State::Ordering { .. } => "ordering",
            State::Transferring { stage, .. } => return stage.fmt(f),
            State::Installed { .. } => "installed",
            State::Joining { .. } => "joining",
            State::InService { .. } => "in service",
            State::Draining { .. } => "draining",
            State::Moving { .. } => "moving",
            State::Returning { .. } => "returning",
            State::Wiping { .. } => "wiping",
            State::Over {
                outcome: Outcome::Released,
                ..
            } => "released",
            State::Over { .. } => "failed",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
