//! Running the host's tools: one place, so that every failure shows the command and what it said.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Lines of a failed tool's output that are repeated in the error.
const LINES_SHOWN: usize = 15;

/// A tool of the host did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program cannot be started at all.
    #[error("cannot start `{command}`: is the program installed?")]
    Start {
        /// The command with its arguments.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("`{command}` failed ({status}){output}")]
    Failed {
        /// The command with its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of its output, each line indented on a new line.
        output: String,
    },
}

/// Runs a command silently and gives what it wrote to its standard output.
///
/// # Errors
/// [`ProcessError`], with the last lines of both outputs.
pub fn output(command: &mut Command) -> Result<String, ProcessError> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| start_error(command, source))?;
    let stdout = String::from_utf8_lossy(&result.stdout).into_owned();
    if result.status.success() {
        return Ok(stdout);
    }
    let said = format!("{stdout}{}", String::from_utf8_lossy(&result.stderr));
    Err(ProcessError::Failed {
        command: shown(command),
        status: result.status,
        output: last_lines(&said),
    })
}

/// Runs a command whose progress a person wants to see: its error output goes to ours.
///
/// # Errors
/// [`ProcessError`]; what the command said has been shown already.
pub fn run_shown(command: &mut Command) -> Result<(), ProcessError> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|source| start_error(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed {
        command: shown(command),
        status,
        output: String::new(),
    })
}

/// A command that is stopped when it takes longer than `limit` (coreutils' `timeout`).
pub fn bounded(limit: Duration, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(limit.as_secs().to_string()).arg(program);
    command
}

fn start_error(command: &Command, source: io::Error) -> ProcessError {
    ProcessError::Start {
        command: shown(command),
        source,
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_command_and_output() {
        let error =
            output(Command::new("sh").args(["-c", "echo seen; echo complaint >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("seen") && text.contains("complaint"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("leaseboot-no-such-program")).unwrap_err();
        assert!(error.to_string().contains("leaseboot-no-such-program"));
    }

    #[test]
    fn a_bounded_command_is_stopped() {
        assert!(output(bounded(Duration::from_secs(1), "sleep").arg("60")).is_err());
    }
}
