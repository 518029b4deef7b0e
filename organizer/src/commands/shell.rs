//! What a package lays beside the program: completions of shells and manual pages, both made from the definition of the command line.

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints a shell's completions
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: clap::Command) -> anyhow::Result<ExitCode> {
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut std::io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes manual pages, one for each command
#[derive(Args)]
pub(crate) struct Man {
    /// The folder to write them into
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self, command: clap::Command) -> anyhow::Result<ExitCode> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write manual pages into {}", dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
