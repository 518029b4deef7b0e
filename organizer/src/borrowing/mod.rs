//! One borrowing, from the wish for a server to the server's return.
//!
//! ```text
//! Searching ─► Preparing ─► Ordering ─► Transferring ─► Installed ─► Joining ─► InService ── released ─► Draining
//!     │            │            │        ▲    │  ▲          │           │           │                       │ the load is off,
//!     │            │            │        └────┘  └──────────┴───────────┘           │                       │ then announced
//!     ▼            ▼            ▼     a new boot attempt: a new key, the old peers go ▼                     ▼ no more
//! Withdrawing ─► Returning ◄────┴─── released (from service: at once), refused, failed ┴───────────────────┘
//!     │            │
//!     │            └─► Wiping ◄── the lender took the server back
//!     └───────────────►  Over
//!
//! Transferring … InService ─ the server failed ─► Moving ─ another one ─► Preparing: its merge is looked at like the first
//! ```
//!
//! [`machine`] is pure, and what has to happen is a function of the state: [`machine::State::duty`] names the request that the LM
//! is owed, [`machine::State::peers`] the peers that the gateway lets in. So a PO that was restarted reads the states and goes on;
//! nothing is lost between a decision and its effect. [`driver`] carries duties out and keeps the peers in step.

pub mod choice;
mod drain;
pub mod driver;
pub mod duty;
mod inbox;
pub mod kickstart;
pub mod machine;
pub mod membership;
pub mod merged;
mod telling;
pub mod view;

use crate::config::ImageFiles;
use leaseboot_protocol::settings::{InstallSettings, Requirements};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A borrowing's name at the PO, such as `b-4f2a9c`; it exists before there is a lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BorrowingId(String);

impl BorrowingId {
    /// A new name.
    ///
    /// # Panics
    /// When getrandom(2) fails.
    pub fn generate() -> Self {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("getrandom(2) gives random bytes once the kernel is up");
        Self(format!("b-{}", hex::encode(bytes)))
    }

    /// The name as it was written down.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BorrowingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What was ordered. It is pinned when the borrowing begins: later changes of profile and image are for later borrowings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Chosen by us, so that a repeated request gets the same lease.
    pub request_id: String,
    /// What the server must have.
    pub requirements: Requirements,
    /// What the lender gets to know.
    pub settings: InstallSettings,
    /// The lenders that may be asked, in this order; empty for all.
    #[serde(default)]
    pub lenders: Vec<String>,
    /// The image's files.
    #[serde(flatten)]
    pub files: ImageFiles,
    /// The sealed values' files, by name.
    pub sealed: BTreeMap<String, PathBuf>,
    /// For how many seconds the server is wanted; without it, the lender's default.
    #[serde(default)]
    pub term_s: Option<u64>,
    /// Whether the lease is renewed when its term is about to end.
    #[serde(default)]
    pub renew: bool,
    /// What is to be after the installation.
    #[serde(default)]
    pub membership: membership::Membership,
    /// The install servers that it may fetch from, by their names in `po.toml`; without it, all.
    #[serde(default)]
    pub install_servers: Option<Vec<String>>,
}

/// What the lender was heard to say so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The last event of the lease that was taken in.
    pub cursor: u64,
    /// When the lender takes the server back by itself.
    pub expires: Option<Timestamp>,
    /// Whether it said that this is soon, and was not asked for more since.
    pub ends_soon: bool,
}

impl Order {
    /// The server's address inside the tunnel.
    pub fn address(&self) -> IpAddr {
        self.settings.tunnel.address.addr()
    }

    /// Whether the server may fetch from the install server of this name while it installs.
    pub fn may_install_from(&self, name: &str) -> bool {
        let named = self.install_servers.as_ref();
        named.is_none_or(|names| names.iter().any(|known| known == name))
    }

    /// The name of the image: that of the folder which its files lie in.
    pub fn image(&self) -> Option<String> {
        let folder = self.files.folder()?.file_name()?;
        Some(folder.to_string_lossy().into_owned())
    }
}
