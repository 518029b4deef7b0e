//! `leaseboot-lm status`: servers and leases, read from the store; the Lease Manager may be running or not.

use super::ConfigPath;
use crate::config::Config;
use crate::lease::driver::now;
use crate::store::{LeaseRecord, ServerRecord, Store, StrangerRecord};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::timestamp::Timestamp;
use serde_json::json;
use std::fmt::Write as _;

/// Shows servers and leases
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    config: ConfigPath,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show leases that are over, too
    #[arg(long)]
    all: bool,
}

/// Runs the command.
///
/// # Errors
/// When configuration or store cannot be read.
pub async fn run(status: &Status) -> anyhow::Result<()> {
    let config = Config::load(&status.config.config)?;
    let store = Store::open(&config.store).await?;
    let shown = Shown {
        servers: store.servers().await?,
        leases: store.leases().await?,
        strangers: store.strangers().await?,
        config: &config,
        now: now(),
        all: status.all,
    };
    match status.json {
        true => println!("{:#}", shown.json()),
        false => print!("{}", shown.tables()),
    }
    store.close().await;
    Ok(())
}

struct Shown<'a> {
    config: &'a Config,
    servers: Vec<ServerRecord>,
    leases: Vec<LeaseRecord>,
    strangers: Vec<StrangerRecord>,
    now: Timestamp,
    all: bool,
}

impl Shown<'_> {
    fn json(&self) -> serde_json::Value {
        let servers = self.config.servers.values().map(|server| {
            let record = self.record(server.name.as_str());
            json!({
                "name": server.name,
                "mac": server.place.mac,
                "address": server.place.address.addr(),
                "custody": record.map(|record| record.custody),
                "reason": record.map(|record| &record.reason),
                "since": record.map(|record| record.since),
                "lease": record.and_then(|record| record.lease.as_ref()),
                "hardware": record.and_then(|record| record.hardware.as_ref()),
            })
        });
        let leases = self.leases.iter().map(|record| {
            let lease = &record.lease;
            json!({
                "id": record.id,
                "tenant": record.tenant,
                "server": record.server,
                "state": lease.phase.state(),
                "since": lease.since,
                "deadline": lease.deadline,
                "attempt": lease.phase.attempt(),
                "reason": lease.reason,
            })
        });
        json!({
            "servers": servers.collect::<Vec<_>>(),
            "leases": leases.collect::<Vec<_>>(),
            "strangers": self.strangers,
        })
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        let servers = self.config.servers.values().map(|server| {
            let record = self.record(server.name.as_str());
            vec![
                server.name.to_string(),
                server.place.mac.to_string(),
                server.place.address.addr().to_string(),
                record.map_or_else(|| "not seen yet".to_owned(), |record| record.custody.to_string()),
                record
                    .and_then(|record| record.lease.as_ref())
                    .map_or_else(String::new, ToString::to_string),
                record
                    .and_then(|record| record.hardware.as_ref())
                    .map_or_else(|| "not reported yet".to_owned(), hardware),
                record.map_or_else(String::new, |record| record.reason.clone()),
            ]
        });
        table(
            &mut text,
            &["SERVER", "CARD", "ADDRESS", "STATE", "LEASE", "HARDWARE", "WHY"],
            servers.collect(),
        );
        let leases = self
            .leases
            .iter()
            .filter(|record| self.all || !record.lease.phase.state().is_final())
            .map(|record| {
                let lease = &record.lease;
                vec![
                    record.id.to_string(),
                    record.tenant.to_string(),
                    record.server.to_string(),
                    lease.phase.state().to_string(),
                    ago(self.now, lease.since),
                    lease.phase.attempt().to_string(),
                    lease.reason.clone(),
                ]
            });
        text.push('\n');
        table(
            &mut text,
            &["LEASE", "TENANT", "SERVER", "STATE", "SINCE", "BOOTS", "WHY"],
            leases.collect(),
        );
        if !self.strangers.is_empty() {
            let strangers = self.strangers.iter().map(|stranger| {
                let StrangerRecord {
                    mac,
                    address,
                    hardware: report,
                    seen,
                } = stranger;
                vec![
                    mac.to_string(),
                    address.to_string(),
                    ago(self.now, *seen),
                    hardware(report),
                ]
            });
            text.push('\n');
            table(
                &mut text,
                &["STRANGER", "ADDRESS", "SEEN", "HARDWARE"],
                strangers.collect(),
            );
        }
        text
    }

    fn record(&self, name: &str) -> Option<&ServerRecord> {
        self.servers.iter().find(|record| record.name.as_str() == name)
    }
}

fn hardware(report: &HardwareReport) -> String {
    let gib = |bytes: u64| (bytes + (1 << 29)) >> 30;
    let disks: Vec<_> = report
        .disks
        .iter()
        .map(|disk| format!("{} GiB", gib(disk.size_bytes)))
        .collect();
    format!(
        "{} cores, {} GiB, disks: {}, {} cards",
        report.cpu.cores,
        gib(report.memory_bytes),
        if disks.is_empty() {
            "none".to_owned()
        } else {
            disks.join(" ")
        },
        report.nics.len()
    )
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Columns as wide as their widest cell; the last one is free.
fn table(text: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let mut text = String::new();
        table(
            &mut text,
            &["A", "LONG"],
            vec![
                vec!["abc".to_owned(), "x".to_owned()],
                vec!["d".to_owned(), String::new()],
            ],
        );
        assert_eq!(text, "A    LONG\nabc  x\nd\n");
    }

    #[test]
    fn times_are_told_as_people_do() {
        let now = Timestamp(1_000_000_000);
        assert_eq!(ago(now, Timestamp(999_999_000)), "1 s ago");
        assert_eq!(ago(now, Timestamp(999_700_000)), "5 min ago");
    }
}
