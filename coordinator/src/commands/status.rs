//! `leaseboot-lm status`: servers and leases, read from the store; the Lease Manager may be running or not.

use super::ConfigPath;
use super::leases;
use super::table::{Table, ago, say};
use crate::config::Config;
use crate::lease::driver::now;
use crate::store::{FleetRow, LeaseRecord, ServerRecord, Store, StrangerRecord};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::timestamp::Timestamp;
use serde_json::json;

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
        fleet: store.fleet_changes(0).await?.0,
        now: now(),
        all: status.all,
    };
    match status.json {
        true => say(format_args!("{:#}\n", shown.json()))?,
        false => say(shown.tables())?,
    };
    store.close().await;
    Ok(())
}

struct Shown {
    fleet: Vec<FleetRow>,
    servers: Vec<ServerRecord>,
    leases: Vec<LeaseRecord>,
    strangers: Vec<StrangerRecord>,
    now: Timestamp,
    all: bool,
}

impl Shown {
    fn json(&self) -> serde_json::Value {
        let servers = self.fleet.iter().map(|row| {
            let server = &row.declared;
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
        let leases = self.leases.iter().map(leases::in_json);
        json!({
            "servers": servers.collect::<Vec<_>>(),
            "leases": leases.collect::<Vec<_>>(),
            "strangers": self.strangers,
        })
    }

    fn tables(&self) -> String {
        let open = self
            .leases
            .iter()
            .filter(|record| self.all || !record.lease.phase.state().is_final());
        let open: Vec<_> = open.cloned().collect();
        let mut text = format!("{}\n{}", self.servers_table(), leases::table(&open, self.now));
        if !self.strangers.is_empty() {
            text += &format!("\n{}", self.strangers_table());
        }
        text
    }

    fn servers_table(&self) -> Table {
        let mut table = Table::new(&["SERVER", "CARD", "ADDRESS", "STATE", "LEASE", "HARDWARE", "WHY"]);
        for FleetRow { declared: server, .. } in &self.fleet {
            let record = self.record(server.name.as_str());
            let reported = record.and_then(|record| record.hardware.as_ref());
            let lease = record.and_then(|record| record.lease.as_ref());
            table.row([
                server.name.to_string(),
                server.place.mac.to_string(),
                server.place.address.addr().to_string(),
                record.map_or_else(|| "not seen yet".to_owned(), |record| record.custody.to_string()),
                lease.map_or_else(String::new, ToString::to_string),
                reported.map_or_else(|| "not reported yet".to_owned(), hardware),
                record.map_or_else(String::new, |record| record.reason.clone()),
            ]);
        }
        table
    }

    fn strangers_table(&self) -> Table {
        let mut table = Table::new(&["STRANGER", "ADDRESS", "SEEN", "HARDWARE"]);
        for stranger in &self.strangers {
            table.row([
                stranger.mac.to_string(),
                stranger.address.to_string(),
                ago(self.now, stranger.seen),
                hardware(&stranger.hardware),
            ]);
        }
        table
    }

    fn record(&self, name: &str) -> Option<&ServerRecord> {
        self.servers.iter().find(|record| record.name.as_str() == name)
    }
}

pub(super) fn hardware(report: &HardwareReport) -> String {
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
