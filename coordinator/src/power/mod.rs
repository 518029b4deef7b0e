//! Power controllers of the lent servers.
//!
//! An order is carried out when the controller *says* that the server is in the state that was ordered: controllers take orders
//! long before they act on them. So each order ends with a bounded wait for the state, and a cycle is "off, seen off, on, seen on".
//! A controller that cannot tell its state ([`PowerState::Unknown`]) is believed.

mod command;
mod config;
mod redfish;
#[cfg(test)]
mod tests;

pub use command::CommandController;
pub use config::{CommandConfig, PowerConfig, PowerConfigError, RedfishConfig};
pub use redfish::RedfishController;

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What a server's power shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOrder {
    /// Be on. Nothing happens to a server that is on.
    On,
    /// Be off, without asking the operating system.
    Off,
    /// Be off, then on.
    Cycle,
    /// Boot from the network now: the next boot is set to the network where the controller can do that, then as [`PowerOrder::Cycle`].
    NetworkBootOnce,
}

impl fmt::Display for PowerOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PowerOrder::On => "on",
            PowerOrder::Off => "off",
            PowerOrder::Cycle => "cycle",
            PowerOrder::NetworkBootOnce => "network boot",
        })
    }
}

/// What a controller says of a server's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// It is on.
    On,
    /// It is off.
    Off,
    /// The controller cannot tell, or is in between.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PowerState::On => "on",
            PowerState::Off => "off",
            PowerState::Unknown => "unknown",
        })
    }
}

/// An order was not carried out, or the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// No connection, or it broke, again and again.
    #[error("cannot {attempted}: {url} cannot be reached")]
    Unreachable {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// The last failure.
        source: reqwest::Error,
    },
    /// The controller says no.
    #[error("cannot {attempted}: {url} answers {status}: {message}")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the controller says.
        message: String,
    },
    /// The controller's answer is not what Redfish describes.
    #[error("cannot {attempted}: the answer of {url} is not as Redfish describes it: {problem}")]
    Answer {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A program cannot be started or waited for.
    #[error("cannot run {program:?}: check the command in servers.toml")]
    Run {
        /// The program.
        program: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program:?} failed with {status}: {output}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A program did not end.
    #[error("{program:?} did not end within {} s and was killed", waited.as_secs())]
    Stuck {
        /// The program.
        program: String,
        /// How long it was given.
        waited: Duration,
    },
    /// The order was taken, but the state did not follow.
    #[error("the power was ordered {wanted} but is {seen} after {} s", waited.as_secs())]
    NotReached {
        /// What was ordered.
        wanted: PowerState,
        /// What the controller says.
        seen: PowerState,
        /// How long it was given.
        waited: Duration,
    },
}

/// The way to one server's power.
#[derive(Debug)]
pub enum PowerController {
    /// By Redfish.
    Redfish(RedfishController),
    /// By programs of the lender.
    Command(CommandController),
}

impl PowerController {
    /// Checks the configuration and reads the files that it names, relative to `directory`. Nothing is asked of the controller yet.
    ///
    /// # Errors
    /// [`PowerConfigError`].
    pub fn new(config: &PowerConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        match config {
            PowerConfig::Redfish(config) => Ok(Self::Redfish(RedfishController::new(config, directory)?)),
            PowerConfig::Command(config) => Ok(Self::Command(CommandController::new(config)?)),
        }
    }

    /// Carries an order out, until the controller says that it is carried out. Dropping the future stops it between two requests.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn order(&self, order: PowerOrder) -> Result<(), PowerError> {
        match self {
            Self::Redfish(controller) => controller.order(order).await,
            Self::Command(controller) => controller.order(order).await,
        }
    }

    /// The state as the controller tells it now.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn state(&self) -> Result<PowerState, PowerError> {
        match self {
            Self::Redfish(controller) => controller.state().await,
            Self::Command(controller) => controller.state().await,
        }
    }
}

/// Asks for the state until it is as wanted or the time is over. One failed question does not end the wait: controllers
/// are often deaf for a moment while they act.
async fn wait_for<F: Future<Output = Result<PowerState, PowerError>>>(
    wanted: PowerState,
    waited: Duration,
    interval: Duration,
    ask: impl Fn() -> F,
) -> Result<(), PowerError> {
    let deadline = tokio::time::Instant::now() + waited;
    loop {
        let seen = ask().await;
        let over = tokio::time::Instant::now() >= deadline;
        match seen {
            Ok(seen) if seen == wanted => return Ok(()),
            Ok(seen) if over => return Err(PowerError::NotReached { wanted, seen, waited }),
            Err(error) if over => return Err(error),
            Ok(_) => {}
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the power state could not be read"
            ),
        }
        tokio::time::sleep(interval).await;
    }
}
