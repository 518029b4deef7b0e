//! `leaseboot-lm verify-erasure` and `erasure-key`: for anybody who holds an erasure record, and for the lender whose key signs them.

use super::ConfigPath;
use crate::config::Config;
use crate::erasure::Signer;
use crate::pki;
use anyhow::{Context as _, bail};
use leaseboot_protocol::erasure::{DiskErasure, DiskOutcome, ErasureKey, ErasureRecord, SignedErasure};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The longest record that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// Checks the signature of an erasure record and prints what it says; needs nothing but the two
#[derive(Debug, clap::Args)]
pub struct VerifyErasure {
    /// The signed record as JSON, such as `leaseboot-po erasure` prints; - for standard input
    file: PathBuf,
    /// The lender's public key in base64, or the file that holds it, such as erasure.pub
    #[arg(long)]
    key: String,
}

/// Shows the public key that erasure records of this lender are verified with
#[derive(Debug, clap::Args)]
pub struct PrintErasureKey {
    #[command(flatten)]
    config: ConfigPath,
    /// Make the key first; for a folder of before erasure records were signed
    #[arg(long)]
    make: bool,
}

/// Runs `verify-erasure`.
///
/// # Errors
/// When the record is not the lender's, was changed, or tells of a disk that is not erased.
pub fn run(verify: &VerifyErasure) -> anyhow::Result<()> {
    let shown = verify.file.display();
    let text = read(&verify.file).with_context(|| format!("cannot read {shown}"))?;
    let signed: SignedErasure = serde_json::from_str(&text)
        .with_context(|| format!("{shown} is not a signed erasure record in JSON"))?;
    let key = match std::fs::read_to_string(&verify.key) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => verify.key.clone(),
    };
    let record = signed
        .verify(&ErasureKey { public_key: key })
        .with_context(|| format!("{shown} proves nothing"))?;
    print!("{}", words(&record));
    if !record.report.is_clean() {
        bail!("the signature is good, and not every disk is erased");
    }
    println!("the signature is good, and every disk is erased");
    Ok(())
}

/// Runs `erasure-key`.
///
/// # Errors
/// When the key is not there, or is there already and is to be made.
pub fn print_key(print: &PrintErasureKey) -> anyhow::Result<()> {
    let path = Config::load(&print.config.config)?.identity.erasure_key;
    if print.make {
        if path.exists() {
            bail!(
                "{} is there already; enterprises may know its public half",
                path.display()
            );
        }
        pki::write_private(&path, Signer::make_key()?.as_bytes())?;
    }
    println!("{}", Signer::load(&path)?.public_key());
    Ok(())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?
            .take(LONGEST)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}

fn words(record: &ErasureRecord) -> String {
    let ErasureRecord {
        lease,
        tenant,
        server,
        at,
        report,
    } = record;
    let mut text = format!("lease {lease} of {tenant}, server {server}, {}\n", date(at.0));
    for disk in &report.disks {
        text += &format!("  {}\n", disk_in_words(disk));
    }
    for entry in &report.boot_entries_removed {
        text += &format!("  boot entry removed: {entry}\n");
    }
    if let Some(error) = &report.boot_entries_error {
        text += &format!("  boot entries were not cleared: {error}\n");
    }
    text
}

fn disk_in_words(disk: &DiskErasure) -> String {
    let DiskErasure {
        name,
        serial,
        model,
        size_bytes,
        outcome,
    } = disk;
    let outcome = match outcome {
        DiskOutcome::Erased {
            method,
            checked_bytes,
            took_ms,
        } => format!("{method}, {checked_bytes} bytes read back, {} s", took_ms / 1000),
        DiskOutcome::Failed { errors } => format!("NOT erased: {}", errors.join("; ")),
        DiskOutcome::Unknown => "NOT erased, as far as this version knows".to_owned(),
    };
    format!("{name} {serial} {model}, {size_bytes} bytes: {outcome}")
}

/// Milliseconds since 1970 as RFC 3339 writes them, in UTC.
fn date(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1000).unwrap_or_default();
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.map_or_else(
        || format!("{millis} ms after 1970"),
        |at| {
            let (date, time) = (at.date(), at.time());
            format!(
                "{date} {:02}:{:02}:{:02} UTC",
                time.hour(),
                time.minute(),
                time.second()
            )
        },
    )
}
