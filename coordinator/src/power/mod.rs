//! Power controllers of the lent servers.
//!
//! An order is carried out when the controller *says* that the server is in the state that was ordered: controllers take orders
//! long before they act on them. So each order ends with a bounded wait for the state, and a cycle is "off, seen off, on, seen on".
//! A controller that cannot tell its state ([`PowerState::Unknown`]) is believed.
//!
//! | module | the way to the power |
//! |---|---|
//! | `redfish` | HTTP to a management controller (DMTF DSP0266), our own thin client |
//! | `ipmi` | IPMI 2.0 (RMCP+), by Debian's `ipmitool` |
//! | `wake_on_lan` | a magic packet, and another way for switching off |
//! | `command` | programs of the lender |
//! | `rack` | how many servers of one rack may be switched on at once: pure |
//! | `rules` | how often and after which pauses an order is tried: pure |
//!
//! Passwords stand in files by reference (`password`), closed to all but their owner; they are in no argument of a program, no
//! error and no log.

mod command;
mod config;
mod error;
mod ipmi;
mod password;
mod program;
mod rack;
mod redfish;
mod rules;
#[cfg(test)]
mod tests;
mod wake_on_lan;

pub use command::CommandController;
pub use config::{
    Authentication, CommandConfig, IpmiConfig, NetworkBoot, PowerConfig, RedfishConfig, WakeOnLanConfig,
};
pub use error::{PowerConfigError, PowerError};
pub use ipmi::IpmiController;
pub(crate) use program::run_with as run_program;
pub use rack::RackLimit;
pub use redfish::RedfishController;
pub use rules::PowerRules;
pub use wake_on_lan::WakeOnLan;

use leaseboot_protocol::hardware::Firmware;
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

impl PowerOrder {
    /// Whether a server draws its starting current when this is carried out.
    pub fn switches_on(self) -> bool {
        self != PowerOrder::Off
    }
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

impl PowerState {
    /// What programs say last, such as `Chassis Power is on`.
    fn from_last_word(output: &str) -> Self {
        let word = output.split_whitespace().last().unwrap_or_default();
        match word.trim_end_matches('.').to_ascii_lowercase().as_str() {
            "on" => PowerState::On,
            "off" => PowerState::Off,
            _ => PowerState::Unknown,
        }
    }
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

/// The way to one server's power.
#[derive(Debug)]
pub enum PowerController {
    /// By Redfish.
    Redfish(Box<RedfishController>),
    /// By IPMI.
    Ipmi(IpmiController),
    /// By a magic packet.
    WakeOnLan(WakeOnLan),
    /// By programs of the lender.
    Command(CommandController),
}

impl PowerController {
    /// Checks the configuration and reads the files that it names, relative to `directory`. Nothing is asked of the controller yet.
    ///
    /// # Errors
    /// [`PowerConfigError`].
    pub fn new(config: &PowerConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        Ok(match config {
            PowerConfig::Redfish(config) => {
                Self::Redfish(Box::new(RedfishController::new(config, directory)?))
            }
            PowerConfig::Ipmi(config) => Self::Ipmi(IpmiController::new(config, directory)?),
            PowerConfig::WakeOnLan(config) => Self::WakeOnLan(WakeOnLan::new(config, directory)?),
            PowerConfig::Command(config) => Self::Command(CommandController::new(config)?),
        })
    }

    /// Carries an order out, until the controller says that it is carried out. `firmware` is what is on record of the server's:
    /// where it is known, the next boot is asked for in its words. Dropping the future stops it between two requests.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn order(&self, order: PowerOrder, firmware: Firmware) -> Result<(), PowerError> {
        match self {
            Self::Redfish(controller) => controller.order(order, firmware).await,
            Self::Ipmi(controller) => controller.order(order, firmware).await,
            // It may hold another controller, so its future has no size of its own.
            Self::WakeOnLan(controller) => Box::pin(controller.order(order, firmware)).await,
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
            Self::Ipmi(controller) => controller.state().await,
            Self::WakeOnLan(controller) => Box::pin(controller.state()).await,
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
