//! Policies: which event borrows how many servers of which profile, and when they go back.
//!
//! ```text
//!                 stands for `for`                      a borrowing of the want's key
//!  an event ─────────────────────► decision, wants ────────────────────────────────► Borrowed ◄───────────┐
//!                                   (one transaction)       nothing to borrow ─► Closed  │                │ the hook has
//!                                                                                        │ over for       │ succeeded
//!                                                              it stands again           ▼ `quiet`        │
//!                                                            ┌──────────────────────── Draining           │
//!                                                            ▼                           │ the hook has   │
//!                                                         Resuming ──────────────────────┼────────────────┘
//!                                                                                        ▼ succeeded
//!                                                            the server is given back: Leaving ─► Closed
//! ```
//!
//! [`decide::decide`] is pure: policies, what is known of events, the wants, the clock; out comes what to do and why. It sees everything from
//! the store, and what it decides is in the store before anything is done, so a PO that was killed decides the same again or finds
//! it decided. A server that is wanted has a key ([`WantKey`]); the borrowing for it is created in the transaction that writes its
//! identifier to the key's row, so a want is never borrowed for twice. [`driver`] carries decisions out.
//!
//! Failure paths: a borrowing that fails closes its want, and the policy decides anew after its cool-down; a want that cannot be borrowed for
//! (a broken profile, no address) is closed with the reason; a hook that fails is run again, at growing distances and without end, for
//! whoever asked for a drain does not want the server torn away. A policy that is taken out of the file leaves its servers to people.

pub mod control;
pub mod decide;
pub mod desk;
pub mod driver;
pub mod explain;
mod file;
mod hook;
mod matcher;

pub use file::Policies;
pub use matcher::Matcher;

use crate::borrowing::BorrowingId;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which events it is about.
    pub on: Matcher,
    /// The profile to borrow by.
    pub profile: String,
    /// The lenders to ask, in this order; empty for all that po.toml names.
    pub lenders: Vec<String>,
    /// How many servers at a time.
    pub servers: u32,
    /// How many at most.
    pub limit: u32,
    /// How long an event must stand.
    pub stands: Duration,
    /// How long it must be over before servers go back.
    pub quiet: Duration,
    /// The least time between two decisions.
    pub cooldown: Duration,
    /// After how long an event that nobody speaks of is taken to be over.
    pub expire: Option<Duration>,
    /// What must succeed before a server goes back.
    pub drain: Option<Drain>,
}

/// The enterprise's own program that takes a server out of use, or back into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Program and arguments; `drain` or `resume`, name and address follow.
    pub command: Vec<String>,
    /// How long it may take.
    pub deadline: Duration,
}

/// The key of a server that a policy wants, such as `d12-1`: its decision and its number in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WantKey(String);

impl WantKey {
    /// The key of the `number`th server of a decision.
    pub fn of(decision: u64, number: u32) -> Self {
        Self(format!("d{decision}-{number}"))
    }

    /// A key as it was written down.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How often the enterprise's program was run, and how that went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Since when it is due.
    pub since: Timestamp,
    /// How often it was begun.
    pub count: u32,
    /// Not before then again.
    pub again: Timestamp,
    /// How it failed last.
    pub failure: Option<String>,
}

impl Tries {
    /// Due now, for the first time.
    pub fn due(now: Timestamp) -> Self {
        Self {
            since: now,
            again: now,
            ..Self::default()
        }
    }
}

/// Where a wanted server stands between its policy and the borrowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// Decided; there is no borrowing yet.
    Wanted,
    /// There is one, and the policy keeps it.
    Borrowed,
    /// It is to go back once the enterprise's program has succeeded.
    Draining(Tries),
    /// It stays after all; the enterprise's program is to take it into use again.
    Resuming(Tries),
    /// It is being given back.
    Leaving,
    /// Nothing more is done for it.
    Closed {
        /// Why.
        why: String,
    },
}

/// What the borrowing of a want says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// There is none yet.
    None,
    /// It is on its way.
    Coming,
    /// It serves, since then.
    Serving(Timestamp),
    /// It is given back, or failed.
    Gone,
    /// Nothing more will happen to it.
    Over,
}

/// A server that a policy wants or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Its key.
    pub key: WantKey,
    /// The policy.
    pub policy: String,
    /// The profile that was decided on.
    pub profile: String,
    /// The lenders to ask, in this order; empty for all.
    pub lenders: Vec<String>,
    /// Where it stands.
    pub stage: Stage,
    /// The borrowing, once there is one.
    pub borrowing: Option<BorrowingId>,
    /// How the borrowing fares.
    pub server: Server,
}

impl Want {
    /// Whether it counts as a server of its policy: it serves, is coming or is still to be borrowed.
    pub fn counts(&self) -> bool {
        let kept = !matches!(self.stage, Stage::Leaving | Stage::Closed { .. });
        kept && !matches!(self.server, Server::Gone | Server::Over)
    }

    /// Whether it counts and is not to go back.
    pub fn stays(&self) -> bool {
        self.counts() && !matches!(self.stage, Stage::Draining(_))
    }
}

/// A decision that was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What was decided.
    pub what: decide::Action,
    /// Why.
    pub reason: String,
}
