//! Boot files: what a server fetches between its firmware and the agent.
//!
//! [`BootFiles`] holds what is the same for every boot, [`script`] renders what is told to one server, [`BootService`] joins both with the lease driver
//! behind [`BootDirectory`], and [`BootHttp`] serves it. TFTP serves the small part of it that firmware needs
//! ([`TftpNames`](crate::tftp::TftpNames)).

mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
mod listener;
mod nameless_file;
pub mod plan;
mod range;
mod request;
mod response;
pub mod script;
mod script_path;
mod service;
#[cfg(test)]
mod tests;

pub use files::{BootFile, BootFiles, BootFilesError, GRUB_EFI, KERNEL, STAGE1};
pub use listener::{BootHttp, BootHttpError};
pub use plan::{AgentBoot, BootDirectory, BootError, BootPlan, Drivers, KernelWord, SiteArchiveId};
pub use script::Language;
pub use script_path::ScriptPath;
pub use service::{BootService, SiteError};
