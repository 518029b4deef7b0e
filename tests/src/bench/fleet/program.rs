//! The process of the Lease Manager, with its log and what it used.

use crate::bench::process;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(120);
/// What it says then.
const READY: &str = "leaseboot-lm ready";

/// It runs. Dropping this kills it.
pub(super) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it and waits until it serves; what it says goes into `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = out.try_clone().context("cannot share a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut program = Self {
            child,
            log: log.to_owned(),
        };
        program.wait()?;
        Ok(program)
    }

    fn wait(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            if said.contains(READY) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("cannot ask for its status")? {
                bail!("leaseboot-lm ended with {status}:\n{said}");
            }
            if Instant::now() > until {
                bail!("leaseboot-lm does not serve after {PATIENCE:?}:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU seconds so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Resident memory now, in bytes.
    pub(super) fn memory(&self) -> Result<f64> {
        Ok(process::memory(self.child.id())? * 1e6)
    }

    /// The largest resident memory so far, in bytes.
    pub(super) fn peak_memory(&self) -> Result<f64> {
        Ok(process::peak_memory(self.child.id())? * 1e6)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
