//! The commands of `leaseboot-lm`, one module each.

pub mod audit;
pub mod backup;
pub mod console;
pub mod init;
pub mod leases;
pub mod merge;
pub mod serve;
pub mod servers;
pub mod shell;
pub mod status;
pub mod table;
pub mod tenant;
pub mod verify_erasure;
pub mod watch;

use std::path::PathBuf;

/// Where the configuration is.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigPath {
    /// The Lease Manager's configuration
    #[arg(long, value_name = "LM.TOML", default_value = "lm.toml")]
    pub config: PathBuf,
}
