//! `leaseboot-lm backup FILE` and `leaseboot-lm restore FILE`: the store as a text that either back end can take in.
//!
//! A backup is written beside its place and renamed when it is whole and on the disk, so a file of that name is a whole backup. It
//! holds what tenants sent, so only its owner can read it. Restoring is one transaction: it happens or it does not.

use super::ConfigPath;
use crate::config::Config;
use crate::store::Store;
use anyhow::{Context as _, ensure};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Writes the whole store into a file, also while the Lease Manager is serving
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The file to make; it must not be there yet
    file: PathBuf,
    /// Where the configuration is
    #[command(flatten)]
    config: ConfigPath,
}

/// Takes a backup into an empty store, of either kind; no Lease Manager may be running on it
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The file that `backup` made
    file: PathBuf,
    /// Lose what is in the store
    #[arg(long)]
    replace: bool,
    /// Where the configuration is
    #[command(flatten)]
    config: ConfigPath,
}

/// Makes a backup.
///
/// # Errors
/// When the store cannot be read or the file cannot be written; then there is no file.
pub async fn backup(backup: &Backup) -> anyhow::Result<()> {
    let config = Config::load(&backup.config.config)?;
    let file = &backup.file;
    ensure!(
        !file.exists(),
        "{} is there already: name another file, or remove it",
        file.display()
    );
    let store = Store::open(&config.store).await?;
    let mut partial = file.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = write(&store, &partial).await;
    store.close().await;
    let rows = match written {
        Ok(rows) => rows,
        Err(error) => {
            // Also when it could not be made at all.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    std::fs::rename(&partial, file).with_context(|| format!("cannot name the backup {}", file.display()))?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot force {} to the disk", folder.display()))?;
    println!("{rows} rows of {} are in {}", config.store, file.display());
    Ok(())
}

async fn write(store: &Store, path: &Path) -> anyhow::Result<u64> {
    let attempted = || format!("cannot write {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(attempted)?;
    let mut out = BufWriter::new(file);
    let rows = store.dump(&mut out).await?;
    out.flush().with_context(attempted)?;
    out.get_ref().sync_all().with_context(attempted)?;
    Ok(rows)
}

/// Takes a backup in.
///
/// # Errors
/// When the store is in use or not empty, or the backup is not whole or of another version; then nothing is changed.
pub async fn restore(restore: &Restore) -> anyhow::Result<()> {
    let config = Config::load(&restore.config.config)?;
    let path = &restore.file;
    let file = File::open(path).with_context(|| format!("cannot read the backup {}", path.display()))?;
    let rows = Store::restore(&config.store, &mut BufReader::new(file), restore.replace)
        .await
        .with_context(|| format!("{} was not restored into {}", path.display(), config.store))?;
    println!("{rows} rows of {} are in {}", path.display(), config.store);
    Ok(())
}
