//! The member: a lent server that has become part of the enterprise. `install` runs in the installer's `%post` and leaves the tunnel
//! behind; `run` carries it in the installed system.
//!
//! The member's private key is made on the server, goes to its disk, and nowhere else.

pub(crate) mod install;
pub(crate) mod run;

/// Where the installed system keeps key and tunnel settings, readable by root only.
pub(crate) const FACTS_PATH: &str = "/etc/leaseboot/member.json";
/// Where the installed system keeps the agent.
const AGENT_PATH: &str = "/usr/lib/leaseboot/agent";
