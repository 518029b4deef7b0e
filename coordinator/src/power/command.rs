//! Power by programs of the lender: `ipmitool`, a relay board, a script.

use super::config::{CommandConfig, PowerConfigError, patience};
use super::{PowerError, PowerOrder, PowerState, wait_for};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// How often the state is asked for while a change is awaited.
const INTERVAL: Duration = Duration::from_millis(500);
/// What is kept of a program's output, in bytes.
const LONGEST_OUTPUT: u64 = 16 * 1024;

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
        let word = output
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_ascii_lowercase();
        Ok(match word.trim_end_matches('.') {
            "on" => PowerState::On,
            "off" => PowerState::Off,
            _ => PowerState::Unknown,
        })
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

    /// Runs a program to its end and gives what it printed.
    async fn run(&self, argv: &[String]) -> Result<String, PowerError> {
        let program = &argv[0];
        let failed = |source| PowerError::Run {
            program: program.clone(),
            source,
        };
        let mut child = Command::new(program)
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let run = async { tokio::try_join!(child.wait(), read(stdout), read(stderr)) };
        // Dropping the child kills it.
        let ended = tokio::time::timeout(self.patience, run).await;
        let (status, output, errors) = match ended {
            Ok(ended) => ended.map_err(failed)?,
            Err(_) => {
                return Err(PowerError::Stuck {
                    program: program.clone(),
                    waited: self.patience,
                });
            }
        };
        if status.success() {
            return Ok(output);
        }
        let said = if errors.trim().is_empty() { output } else { errors };
        Err(PowerError::Failed {
            program: program.clone(),
            status,
            output: said.trim().to_owned(),
        })
    }
}

/// Keeps the beginning and reads on to the end, so that a talkative program is not stopped by a full pipe.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut stream) = stream else {
        return Ok(String::new());
    };
    let mut kept = Vec::new();
    (&mut stream).take(LONGEST_OUTPUT).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}
