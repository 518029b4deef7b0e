//! Somebody who types into a program and reads what it says.

use anyhow::{Context as _, Result};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What became of it.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether the program ended well.
    pub well: bool,
    /// What it printed, its complaints behind the rest.
    pub text: String,
}

/// Types a text into a program, and waits for its end.
///
/// # Errors
/// When it cannot be started, or does not end within `limit`.
pub async fn type_into(mut command: Command, text: &str, limit: Duration) -> Result<Said> {
    let name = format!("{:?}", command.as_std());
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut program = pipes
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut keys = program.stdin.take().context("a program has no standard input")?;
    // Who refused has gone already.
    let _ = keys.write_all(text.as_bytes()).await;
    drop(keys);
    let output = tokio::time::timeout(limit, program.wait_with_output());
    let output = output
        .await
        .with_context(|| format!("{text:?} was typed into {name}, and it did not end within {limit:?}"))??;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said {
        well: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}
