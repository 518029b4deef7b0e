//! The one way in which a laboratory is cleaned up.
//!
//! A small shell process holds the reading end of a pipe. When the laboratory ends (by itself, by a panic, by Ctrl-C or by
//! `kill -9`) the pipe closes, and the shell kills what still runs in the laboratory's namespaces and deletes them. Because
//! dropping takes the same way, the way is used, and therefore tested, by every run.

use anyhow::{Context as _, Result};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("guardian.sh");

/// Deletes namespaces when dropped, or when this process ends in whatever way.
pub(crate) struct Guardian {
    shell: Child,
}

impl Guardian {
    /// Watches over `namespaces`, which need not exist yet.
    pub(crate) fn over(namespaces: &[String]) -> Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "leaseboot-guardian"])
            .args(namespaces)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C goes to the process group of the terminal; the guardian must live on to clean up after it.
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh as the laboratory's guardian")?;
        Ok(Self { shell })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("cannot wait for the laboratory's guardian: {error}");
        }
    }
}
