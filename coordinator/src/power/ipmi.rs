//! IPMI 2.0 over RMCP+, spoken by `ipmitool`.
//!
//! The program is preferred to the crate `ruipmi` 0.6, which was read: it takes a response of the wrong length to pieces without
//! looking (a short RAKP message or a payload that is no whole block ends in a panic), sends no message of the handshake twice,
//! and knows neither a port nor UEFI's boot flag. `ipmitool` has met two decades of controllers.
//!
//! | step | words |
//! |---|---|
//! | state | `chassis power status`, whose last word counts |
//! | change | `chassis power on` or `off`, only where the state is another, then the state is awaited |
//! | network boot | off; `chassis bootdev pxe`; the boot parameter is read back; on |
//!
//! The next boot is chosen when the server is off already: controllers forget it a minute after (IPMI 2.0, table 28-14, parameter 3).
//! The password goes by the file's name, never as an argument.

use super::config::{IpmiConfig, patience};
use super::{PowerConfigError, PowerError, PowerOrder, PowerState, password, program, wait_for};
use leaseboot_protocol::hardware::Firmware;
use std::path::Path;
use std::time::Duration;

/// How often the state is asked for while a change is awaited.
const INTERVAL: Duration = Duration::from_secs(1);
/// Seconds before a message is sent once more, and how often; controllers lose every tenth.
const RESEND: [&str; 4] = ["-N", "2", "-R", "4"];
/// IPMI 2.0, section 13.28: the longest password and the longest account's name, in bytes.
const LONGEST_PASSWORD: usize = 20;
const LONGEST_NAME: usize = 16;

/// The power of one server behind its management controller.
#[derive(Debug)]
pub struct IpmiController {
    /// The words that come before each command.
    words: Vec<String>,
    patience: Duration,
}

impl IpmiController {
    /// Checks the configuration and the password's file; asks nothing of the controller.
    ///
    /// # Errors
    /// [`PowerConfigError`].
    pub fn new(config: &IpmiConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        let IpmiConfig {
            host,
            port,
            username,
            cipher_suite,
            ..
        } = config;
        let bad = |key, problem: &str| PowerConfigError::Value {
            key,
            problem: problem.to_owned(),
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad("host", "must be the controller's name or address"));
        }
        if username.is_empty() || username.len() > LONGEST_NAME {
            return Err(bad("username", "must have 1 to 16 bytes, as IPMI 2.0 wants it"));
        }
        if ![3, 17].contains(cipher_suite) {
            return Err(bad(
                "cipher_suite",
                "must be 17 or, for older controllers, 3: the others prove or hide too little",
            ));
        }
        let file = directory.join(&config.password_file);
        // Read only to be checked: the program reads the file itself.
        if password::read(&file)?.expose().len() > LONGEST_PASSWORD {
            return Err(bad(
                "password_file",
                "names a password of more than 20 bytes, which IPMI 2.0 cannot carry",
            ));
        }
        let file = file.to_str().ok_or_else(|| {
            bad(
                "password_file",
                "is not valid UTF-8, so no program can be given it: rename the file",
            )
        })?;
        let (port, suite) = (port.to_string(), cipher_suite.to_string());
        let words = [
            "ipmitool", "-I", "lanplus", "-H", host, "-p", &port, "-U", username, "-f", file, "-C", &suite,
        ];
        Ok(Self {
            words: words.into_iter().chain(RESEND).map(str::to_owned).collect(),
            patience: patience(config.patience_s),
        })
    }

    pub(super) async fn state(&self) -> Result<PowerState, PowerError> {
        Ok(PowerState::from_last_word(
            &self.run(&["chassis", "power", "status"]).await?,
        ))
    }

    pub(super) async fn order(&self, order: PowerOrder, firmware: Firmware) -> Result<(), PowerError> {
        match order {
            PowerOrder::On => self.reach(PowerState::On).await,
            PowerOrder::Off => self.reach(PowerState::Off).await,
            PowerOrder::Cycle => {
                self.reach(PowerState::Off).await?;
                self.reach(PowerState::On).await
            }
            PowerOrder::NetworkBootOnce => {
                self.reach(PowerState::Off).await?;
                self.choose_network(firmware).await?;
                self.reach(PowerState::On).await
            }
        }
    }

    async fn reach(&self, wanted: PowerState) -> Result<(), PowerError> {
        if self.state().await? == wanted {
            return Ok(());
        }
        let word = if wanted == PowerState::On { "on" } else { "off" };
        if let Err(refused) = self.run(&["chassis", "power", word]).await {
            // An order that arrived although its answer was lost is refused when it comes again.
            return match self.state().await {
                Ok(state) if state == wanted => Ok(()),
                _ => Err(refused),
            };
        }
        wait_for(wanted, self.patience, INTERVAL, || self.state()).await
    }

    /// Sets the next boot and reads it back.
    async fn choose_network(&self, firmware: Firmware) -> Result<(), PowerError> {
        self.run(choice(firmware)).await?;
        let seen = self.run(&["chassis", "bootparam", "get", "5"]).await?;
        let selector = seen
            .lines()
            .find_map(|line| line.split_once("Boot Device Selector :"));
        match selector.map(|(_, selector)| selector.trim()) {
            Some("Force PXE") => Ok(()),
            other => Err(PowerError::NotChosen {
                seen: other.unwrap_or("nothing").to_owned(),
            }),
        }
    }

    async fn run(&self, command: &[&str]) -> Result<String, PowerError> {
        let argv: Vec<_> = self
            .words
            .iter()
            .cloned()
            .chain(command.iter().map(|word| (*word).to_owned()))
            .collect();
        program::run(&argv, self.patience).await
    }
}

/// UEFI firmware takes the choice only when it is marked as made for it.
fn choice(firmware: Firmware) -> &'static [&'static str] {
    match firmware {
        Firmware::Uefi | Firmware::UefiSecureBoot => &["chassis", "bootdev", "pxe", "options=efiboot"],
        Firmware::Bios | Firmware::Unknown => &["chassis", "bootdev", "pxe"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uefi_is_told_that_it_is_meant() {
        assert_eq!(choice(Firmware::Uefi).last(), Some(&"options=efiboot"));
        assert_eq!(choice(Firmware::Bios).last(), Some(&"pxe"));
    }
}
