//! Power by programs of the lender: `ipmitool`, a relay board, a script.

use super::config::{CommandConfig, patience};
use super::{PowerConfigError, PowerError, PowerOrder, PowerState, program, wait_for};
use std::time::Duration;

/// How often the state is asked for while a change is awaited.
const INTERVAL: Duration = Duration::from_millis(500);

/// Runs programs, one at a time.
#[derive(Debug)]
pub struct CommandController {
    config: CommandConfig,
    patience: Duration,
}

impl CommandController {
    /// Checks that no command is empty.
    ///
    /// # Errors
    /// [`PowerConfigError::EmptyCommand`].
    pub fn new(config: &CommandConfig) -> Result<Self, PowerConfigError> {
        let commands = [
            ("on", Some(&config.on)),
            ("off", Some(&config.off)),
            ("cycle", config.cycle.as_ref()),
            ("status", config.status.as_ref()),
            ("network_boot_once", config.network_boot_once.as_ref()),
        ];
        let is_empty = |argv: &Vec<String>| argv.first().is_none_or(String::is_empty);
        match commands.into_iter().find(|(_, argv)| argv.is_some_and(is_empty)) {
            Some((key, _)) => Err(PowerConfigError::EmptyCommand { key }),
            None => Ok(Self {
                config: config.clone(),
                patience: patience(config.patience_s),
            }),
        }
    }

    pub(super) async fn order(&self, order: PowerOrder) -> Result<(), PowerError> {
        match order {
            PowerOrder::On => self.switch(&self.config.on, PowerState::On).await,
            PowerOrder::Off => self.switch(&self.config.off, PowerState::Off).await,
            PowerOrder::Cycle => self.cycle().await,
            PowerOrder::NetworkBootOnce => {
                if let Some(argv) = &self.config.network_boot_once {
                    self.run(argv).await?;
                }
                self.cycle().await
            }
        }
    }

    pub(super) async fn state(&self) -> Result<PowerState, PowerError> {
        let Some(argv) = &self.config.status else {
            return Ok(PowerState::Unknown);
        };
        let output = self.run(argv).await?;
        Ok(PowerState::from_last_word(&output))
    }

    async fn cycle(&self) -> Result<(), PowerError> {
        match &self.config.cycle {
            // Many controllers refuse to cycle a server that is off.
            Some(argv) if self.state().await? != PowerState::Off => self.switch(argv, PowerState::On).await,
            Some(_) => self.switch(&self.config.on, PowerState::On).await,
            None => {
                self.switch(&self.config.off, PowerState::Off).await?;
                self.switch(&self.config.on, PowerState::On).await
            }
        }
    }

    async fn switch(&self, argv: &[String], wanted: PowerState) -> Result<(), PowerError> {
        self.run(argv).await?;
        if self.config.status.is_none() {
            return Ok(());
        }
        wait_for(wanted, self.patience, INTERVAL, || self.state()).await
    }

    async fn run(&self, argv: &[String]) -> Result<String, PowerError> {
        program::run(argv, self.patience).await
    }
}
