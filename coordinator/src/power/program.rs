//! Programs that are run for power: bounded in time and in what is kept of their output.

use super::PowerError;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// What is kept of a program's output, in bytes.
const LONGEST_OUTPUT: u64 = 16 * 1024;

/// Runs a program to its end and gives what it printed. One that does not end within `patience`, or whose future is dropped, is
/// killed.
///
/// # Errors
/// [`PowerError::Run`], [`PowerError::Failed`], [`PowerError::Stuck`].
pub(super) async fn run(argv: &[String], patience: Duration) -> Result<String, PowerError> {
    run_with(argv, &[], patience).await
}

/// As [`run`], with these variables added to our own environment.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_with(
    argv: &[String],
    environment: &[(&str, String)],
    patience: Duration,
) -> Result<String, PowerError> {
    let program = &argv[0];
    let failed = |source| PowerError::Run {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(program)
        .args(&argv[1..])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async { tokio::try_join!(child.wait(), read(stdout), read(stderr)) };
    // Dropping the child kills it.
    let ended = tokio::time::timeout(patience, run).await;
    let (status, output, errors) = match ended {
        Ok(ended) => ended.map_err(failed)?,
        Err(_) => {
            return Err(PowerError::Stuck {
                program: program.clone(),
                waited: patience,
            });
        }
    };
    if status.success() {
        return Ok(output);
    }
    let said = if errors.trim().is_empty() { output } else { errors };
    Err(PowerError::Failed {
        program: program.clone(),
        status,
        output: said.trim().to_owned(),
    })
}

/// Keeps the beginning and reads on to the end, so that a talkative program is not stopped by a full pipe.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut stream) = stream else {
        return Ok(String::new());
    };
    let mut kept = Vec::new();
    (&mut stream).take(LONGEST_OUTPUT).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}
