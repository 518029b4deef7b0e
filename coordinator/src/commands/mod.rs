//! The commands of `leaseboot-lm`, one module each.

pub mod init;
pub mod serve;
pub mod servers;
pub mod status;
pub mod tenant;

use std::path::PathBuf;

/// Where the configuration is.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigPath {
    /// The Lease Manager's configuration
    #[arg(long, value_name = "LM.TOML", default_value = "lm.toml")]
    pub config: PathBuf,
}
