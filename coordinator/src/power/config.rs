//! How a server's power is reached, as `servers.toml` says it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The `[server.power]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PowerConfig {
    /// A management controller that speaks Redfish (DMTF DSP0266).
    Redfish(RedfishConfig),
    /// Programs of the lender, for everything else.
    Command(CommandConfig),
}

/// A Redfish service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedfishConfig {
    /// The system, such as `https://10.10.1.11/redfish/v1/Systems/1`; without a path, the service's only system is taken.
    pub url: String,
    /// The account.
    pub username: String,
    /// A file with its password on the first line; relative to the directory of `servers.toml`.
    pub password_file: PathBuf,
    /// For https: the certificates, in PEM, that the controller's certificate must come from.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a change of power may take, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

/// Programs with their arguments. No shell reads them; their own file is looked up in `PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Switches the power on.
    pub on: Vec<String>,
    /// Cuts the power.
    pub off: Vec<String>,
    /// Cuts the power for a moment; without it, `off` and `on` are run.
    #[serde(default)]
    pub cycle: Option<Vec<String>>,
    /// Prints the state: the last word of its output is `on` or `off`. Without it, nothing proves that an order was carried out.
    #[serde(default)]
    pub status: Option<Vec<String>>,
    /// Makes the next boot one from the network, where the server's own order is another.
    #[serde(default)]
    pub network_boot_once: Option<Vec<String>>,
    /// How long each program may take, and how long a change of power may take after it, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

fn one_minute() -> u32 {
    60
}

pub(super) fn patience(seconds: u32) -> Duration {
    Duration::from_secs(seconds.clamp(1, 3600).into())
}

/// A power controller cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum PowerConfigError {
    /// The URL is not one of a Redfish system.
    #[error(
        "power.url {url:?} is not an http or https URL with a host, such as https://10.10.1.11/redfish/v1/Systems/1"
    )]
    Url {
        /// What stands there.
        url: String,
    },
    /// https without anything to check the certificate against.
    #[error("power.url {url:?} is https, so power.ca_file must name the certificates to trust")]
    NoTrust {
        /// What stands there.
        url: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}, which power.{key} names")]
    Read {
        /// The file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The password file has nothing on its first line.
    #[error("{path}, which power.password_file names, has no password on its first line")]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// No certificate can be read.
    #[error("cannot find a certificate in PEM in {path}, which power.ca_file names: {problem}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A command has no words.
    #[error("power.{key} is empty: give a program and its arguments")]
    EmptyCommand {
        /// The key.
        key: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client for {url}")]
    Client {
        /// The controller.
        url: String,
        /// Why it failed.
        source: reqwest::Error,
    },
}
