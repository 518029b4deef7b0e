//! The two programs under test, run as their operators would run them.

mod enterprise;
mod lender;

pub use enterprise::{Borrowing, Organizer, Profile};
pub use lender::LeaseManager;

use crate::daemon::Daemon;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;

const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

async fn stop(daemon: Option<Daemon>) -> Result<()> {
    let Some(mut daemon) = daemon else { return Ok(()) };
    let status = daemon.terminate(STOP).await?;
    anyhow::ensure!(
        status.success(),
        "after SIGTERM it ended with {status}:\n{}",
        daemon.said().tail(20)
    );
    Ok(())
}

/// Copies a folder's files with their permissions; there are no folders in it.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(failed)?;
    for entry in std::fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_type().with_context(failed)?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(failed)?;
        }
    }
    Ok(())
}

fn edit_toml(path: &Path, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut table: toml::Table =
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))?;
    change(&mut table);
    std::fs::write(path, toml::to_string(&table)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Later runs of one daemon get a number in their log's name.
fn suffix(run: u32) -> String {
    if run == 1 {
        String::new()
    } else {
        format!("-{run}")
    }
}

fn log_filter() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned())
}
