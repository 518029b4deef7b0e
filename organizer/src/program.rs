//! A program of the enterprise's own, in a process group of its own: when its time is over, what it started ends with it.
//!
//! A hook is a shell script more often than not. Killing the shell alone would leave what it runs (`ssh`, `curl`, `sleep`) to go on with nobody waiting for it, and with the next try beside it.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::process::ExitStatus;
use tokio::process::{Child, ChildStderr, Command};

/// A program that runs. Dropping it before it has ended kills its whole group.
pub(crate) struct Program {
    child: Child,
    /// Nobody's number any more once the program has ended.
    group: Option<Pid>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// As of spawning.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        // The runtime reaps a child that is killed when dropped.
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let number = child.id().and_then(|number| i32::try_from(number).ok());
        Ok(Self {
            group: number.map(Pid::from_raw),
            child,
        })
    }

    /// Its standard error, if that is a pipe.
    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits until it has ended. What it left running in the background then goes on.
    ///
    /// # Errors
    /// As of wait(2).
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = self.group
            && let Err(error) = killpg(group, Signal::SIGKILL)
        {
            tracing::warn!(%group, %error, "a program that was late cannot be killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whether a process is there and has not ended; proc(5), the third word of `stat`.
    fn runs(number: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.trim_start().to_owned());
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    async fn started(script: &str) -> (Program, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, "hook"])
            .arg(&file)
            .stdin(Stdio::null());
        let program = Program::start(&mut command).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let number = std::fs::read_to_string(&file).unwrap_or_default();
            if number.ends_with('\n') {
                return (program, number.trim().to_owned());
            }
            assert!(Instant::now() < until, "the script wrote no number");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_a_late_program_started_ends_with_it() {
        let (program, number) = started("sleep 600 & echo $! > $1; wait").await;
        assert!(runs(&number));
        drop(program);
        let until = Instant::now() + PATIENCE;
        while runs(&number) {
            assert!(
                Instant::now() < until,
                "the script is dead and its sleep {number} is not"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_a_program_in_time_left_behind_goes_on() {
        let (mut program, number) = started("sleep 600 & echo $! > $1").await;
        assert!(program.ended().await.unwrap().success());
        drop(program);
        assert!(runs(&number));
        let _ = nix::sys::signal::kill(Pid::from_raw(number.parse().unwrap()), Signal::SIGKILL);
    }
}
