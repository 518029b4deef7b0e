//! What a package lays beside the program: completions of shells and manual pages, both made from the definition of the command line.

use anyhow::Context as _;
use clap_complete::Shell;
use std::path::PathBuf;

/// The text below each command's help.
pub const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 failed, with the reason on standard error; 2 the command line is not understood.";

/// Prints a shell's completions
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Writes manual pages, one for each command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The folder to write them into
    dir: PathBuf,
}

/// Runs `completions`.
pub fn completions(completions: &Completions, mut command: clap::Command) {
    let name = command.get_name().to_owned();
    clap_complete::generate(completions.shell, &mut command, name, &mut std::io::stdout());
}

/// Runs `man`.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn man(man: &Man, command: clap::Command) -> anyhow::Result<()> {
    let dir = &man.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(command, dir)
        .with_context(|| format!("cannot write manual pages into {}", dir.display()))
}
