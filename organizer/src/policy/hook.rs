//! Runs the enterprise's own program that takes a server out of use, or back into it. It may be run again after a kill, so it must not mind.

use super::Drain;
use crate::program::Program;
use std::process::Stdio;
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

/// The end of what the program complained of, in bytes.
const LAST_WORDS: usize = 512;

/// What the program is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Drain,
    Resume,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Drain => "drain",
            Word::Resume => "resume",
        }
    }
}

/// Runs it once; the error says how it failed, in words.
pub(super) async fn run(drain: Drain, word: Word, server: [String; 2]) -> Result<(), String> {
    let Some((program, arguments)) = drain.command.split_first() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(word.as_str())
        .args(&server)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let run = async {
        let mut running =
            Program::start(&mut command).map_err(|error| format!("{program} cannot be run: {error}"))?;
        let words = match running.stderr() {
            Some(stderr) => last_words(stderr).await,
            None => String::new(),
        };
        let status = running
            .ended()
            .await
            .map_err(|error| format!("{program} is lost: {error}"))?;
        match (status.success(), words.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(format!("{program} ended with {status}")),
            (false, false) => Err(format!("{program} ended with {status}: {words}")),
        }
    };
    match timeout(drain.deadline, run).await {
        Ok(done) => done,
        Err(_) => Err(format!(
            "{program} was stopped after {} s",
            drain.deadline.as_secs()
        )),
    }
}

/// Reads to the end, so that the program is never held up, and keeps the end only.
async fn last_words(mut stderr: ChildStderr) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length]);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
