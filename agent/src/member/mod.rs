//! The member: a lent server that has become part of the enterprise. `install` runs in the installer's `%post` and leaves the tunnel
//! behind, or [`plant`] does it in a disk image that was written; `run` carries it in the installed system; `announce` tells the enterprise that the system's services can be used.
//!
//! The member's private key is made on the server, goes to its disk, and nowhere else.

pub(crate) mod announce;
pub(crate) mod install;
pub(crate) mod plant;
pub(crate) mod run;

use crate::errors::AnyError;
use leaseboot_protocol::stage2::MemberFacts;
use std::path::Path;

/// Where the installed system keeps key and tunnel settings, readable by root only.
pub(crate) const FACTS_PATH: &str = "/etc/leaseboot/member.json";
/// Where the installed system keeps the agent.
const AGENT_PATH: &str = "/usr/lib/leaseboot/agent";

fn read_facts(path: &Path) -> Result<MemberFacts, AnyError> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("cannot understand {}: {error}", path.display()).into())
}
