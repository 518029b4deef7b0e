//! Runs nft(8). One call is one transaction: the kernel takes all of it or nothing.

use serde_json::Value;
use std::io;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What nft says of an error is short.
const LONGEST_WORDS: usize = 500;

/// The gateway's doors cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It cannot be run.
    #[error(
        "cannot run nft, without which lent servers would reach whatever this host forwards to: install the package nftables"
    )]
    Run(#[source] io::Error),
    /// It refused.
    #[error("nft refused the gateway's rules (run as root; Linux 5.10 or later): {0}")]
    Refused(String),
}

/// Whether there is an nft.
pub(super) async fn version() -> Result<(), NftError> {
    run(&["--version"], &[]).await.map(drop)
}

/// Applies a list of commands.
pub(super) async fn apply(commands: &Value) -> Result<(), NftError> {
    run(&["-j", "-f", "-"], commands.to_string().as_bytes())
        .await
        .map(drop)
}

/// Whether the table is there.
pub(super) async fn exists(table: &str) -> bool {
    run(&["-t", "list", "table", "inet", table], &[]).await.is_ok()
}

async fn run(arguments: &[&str], input: &[u8]) -> Result<(), NftError> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft that ends early says why on standard error.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await.map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(
        words.trim().chars().take(LONGEST_WORDS).collect(),
    ))
}
