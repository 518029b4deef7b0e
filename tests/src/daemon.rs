//! A long-running program of a scenario, with everything that it says.

use crate::transcript::Transcript;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// A running program. Dropping it kills it.
pub struct Daemon {
    name: String,
    child: Child,
    said: Transcript,
    readers: JoinSet<()>,
}

impl Daemon {
    /// Starts `command`, whose words on both streams go to the file at `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std()))?;
        let said = Transcript::new(name, log, &[])?;
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(said.clone().follow(out));
        }
        if let Some(errors) = child.stderr.take() {
            readers.spawn(said.clone().follow(errors));
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            said,
            readers,
        })
    }

    /// What it has said so far.
    pub fn said(&self) -> &Transcript {
        &self.said
    }

    /// Waits for a word that says that it is ready; its end is an error at once.
    pub async fn ready(&mut self, word: &str, within: Duration) -> Result<()> {
        let status = tokio::select! {
            found = self.said.wait_for(word, within) => return found.map(drop),
            status = self.child.wait() => status.context("cannot wait for a program")?,
        };
        while self.readers.join_next().await.is_some() {}
        bail!(
            "{} ended with {status} before it was ready:\n{}",
            self.name,
            self.said.tail(20)
        )
    }

    /// Waits for it to end by itself.
    pub async fn end(&mut self, within: Duration) -> Result<ExitStatus> {
        let Ok(status) = tokio::time::timeout(within, self.child.wait()).await else {
            bail!(
                "{} still runs after {} s; last seen:\n{}",
                self.name,
                within.as_secs(),
                self.said.tail(8)
            );
        };
        while self.readers.join_next().await.is_some() {}
        status.with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        if let Some(pid) = self.pid() {
            kill(pid, Signal::SIGTERM).with_context(|| format!("cannot send SIGTERM to {}", self.name))?;
        }
        self.end(within).await
    }

    /// Ends it without a word (SIGKILL), as a power failure would.
    pub async fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// Its process, while it runs.
    fn pid(&self) -> Option<Pid> {
        self.child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
    }
}
