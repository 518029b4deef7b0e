//! `leaseboot-po seal`: a value that the lender must not see, from a person's keyboard or a pipe into a file for its owner alone. It is never an
//! argument, which every list of processes shows, and never printed.

use super::ConfigArg;
use anyhow::{Context, ensure};
use clap::Args;
use leaseboot_po::config::Profile;
use leaseboot_po::{error_chain, sealing};
use leaseboot_protocol::secret::Secret;
use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

/// More than any value; the rest is not read.
const LONGEST: u64 = 128 << 10;

/// Keep a value that the lender must not see
#[derive(Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    config: ConfigArg,
    /// The profile that it is for.
    profile: String,
    /// Its name, as in the mark @sealed:NAME@ of the profile's text.
    name: String,
    /// It is a password: keep its SHA-512 crypt hash, which installers take, and not the password.
    #[arg(long)]
    password: bool,
    /// Put it in the place of the value that is there.
    #[arg(long)]
    replace: bool,
}

impl Seal {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        let place = sealing::place(&config.folder, &self.profile, &self.name)?;
        if !self.replace && place.exists() {
            return Err(sealing::SealError::Taken(place).into());
        }
        let value = sealing::value(&self.ask()?)?;
        let kept = if self.password {
            sealing::hash(&value)
        } else {
            value
        };
        sealing::write(&place, &kept, self.replace)?;
        println!("{} is sealed in {}", self.name, place.display());
        self.advise(&config.folder);
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self) -> anyhow::Result<Secret> {
        if !io::stdin().is_terminal() {
            let mut text = String::new();
            let read = io::stdin().take(LONGEST).read_to_string(&mut text);
            // Into custody before anything else can fail: it is wiped from here on.
            let text = Secret::new(text);
            read.context("cannot read the value from the standard input; it must be UTF-8 text")?;
            return Ok(text);
        }
        let prompt = |words: String| {
            let typed =
                rpassword::prompt_password(words).context("cannot read the value from the terminal")?;
            anyhow::Ok(Secret::new(typed))
        };
        let first = prompt(format!(
            "{} for profile {} (nothing is shown): ",
            self.name, self.profile
        ))?;
        let again = prompt("once more: ".to_owned())?;
        ensure!(
            first.matches(again.expose()),
            "the two are not the same; nothing was changed"
        );
        Ok(first)
    }

    /// What is still to do before the value is used.
    fn advise(&self, folder: &std::path::Path) {
        match Profile::load(folder, &self.profile) {
            Ok(profile) if profile.sealed.contains_key(&self.name) => {}
            Ok(_) => println!(
                "to use it: write @sealed:{0}@ into the profile's text, and `{0} = \"{0}.sealed\"` below [sealed] of its profile.toml",
                self.name
            ),
            Err(error) => println!("the profile is not ready yet: {}", error_chain(&error)),
        }
    }
}
