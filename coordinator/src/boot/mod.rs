//! Boot files over HTTP: what a server fetches between its firmware and the agent.

pub mod plan;

pub use plan::{AgentBoot, BootDirectory, BootError, BootPlan, KernelWord, SiteArchiveId};
