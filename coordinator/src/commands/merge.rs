//! `leaseboot-lm merge`: the merge of a lease, without a lease. Nothing is lent, booted or written; who writes a profile or declares a
//! server sees at once what would come out, whose each line is, or everything that is in the way.
//!
//! The server comes from a file of facts, or from configuration and store of a Lease Manager, which may be running.

use super::ConfigPath;
use crate::boot::KernelWord;
use crate::config::Config;
use crate::merge::{self, Lender, LineOwner, Merged, MergedLine, TenantFacts};
use crate::store::Store;
use anyhow::{Context as _, bail};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::MergeProblem;
use leaseboot_protocol::network::LenderAddress;
use leaseboot_protocol::requirements::Requirements;
use leaseboot_protocol::settings::InstallSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Merges install settings with a server's facts, without lending it
#[derive(Debug, clap::Args)]
pub struct Merge {
    /// The install settings, as a Procurement Organizer sends them: JSON, or TOML when the name ends with .toml
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// The server's facts: JSON or TOML with server, place, console and hardware
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "server",
        required_unless_present = "server"
    )]
    facts: Option<PathBuf>,
    /// A server of this Lease Manager, with the hardware that is on record
    #[arg(long, value_name = "NAME")]
    server: Option<ServerId>,
    /// Where the configuration is
    #[command(flatten)]
    config: ConfigPath,
    /// Refuses secrets that are not sealed
    #[arg(long)]
    sealed_secrets: bool,
    /// Shows of each line whose it is, where it comes from and why it stands there
    #[arg(long)]
    explain: bool,
    /// Prints JSON for programs: the lines with their origins, or the problems
    #[arg(long)]
    json: bool,
}

/// What a lender knows of a server, in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    server: ServerId,
    place: LenderAddress,
    console: Option<KernelWord>,
    hardware: HardwareReport,
    #[serde(default)]
    requirements: Requirements,
}

/// The outcome for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome<'a> {
    Merged { disk: &'a str, lines: &'a [MergedLine] },
    Problems(&'a [MergeProblem]),
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or understood, the server is unknown, or settings and server do not go together.
pub async fn run(order: &Merge) -> anyhow::Result<()> {
    let settings: InstallSettings = read(&order.settings)?;
    let facts = match (&order.facts, &order.server) {
        (Some(file), _) => read(file)?,
        (None, Some(server)) => on_record(&order.config, server).await?,
        (None, None) => bail!("name the server with --facts or --server"),
    };
    let lender = Lender {
        server: &facts.server,
        place: &facts.place,
        console: facts.console.as_ref(),
        hardware: &facts.hardware,
        requirements: &facts.requirements,
        tenant: TenantFacts {
            taken: &[],
            sealed_secrets: order.sealed_secrets,
        },
    };
    match merge::merge(&lender, &settings) {
        Ok(merged) => print(order, &merged),
        Err(problems) => refuse(order, &problems),
    }
}

fn print(order: &Merge, merged: &Merged) -> anyhow::Result<()> {
    if order.json {
        let outcome = Outcome::Merged {
            disk: &merged.disk,
            lines: &merged.lines,
        };
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else if order.explain {
        print!("{}", explained(&merged.lines));
    } else {
        print!("{}", merged.kickstart);
    }
    Ok(())
}

fn refuse(order: &Merge, problems: &[MergeProblem]) -> anyhow::Result<()> {
    if order.json {
        println!("{}", serde_json::to_string_pretty(&Outcome::Problems(problems))?);
    }
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    bail!(
        "the install settings cannot work on this server:\n{}",
        said.join("\n")
    )
}

/// A table: line, owner, origin, why, text.
fn explained(lines: &[MergedLine]) -> String {
    let place = |line: &MergedLine| format!("{}:{}", line.origin, line.origin_line);
    let width = |of: &dyn Fn(&MergedLine) -> usize| lines.iter().map(of).max().unwrap_or_default();
    let places = width(&|line| place(line).chars().count());
    let whys = width(&|line| line.why.chars().count());
    let mut table = String::new();
    for line in lines {
        let row = format!(
            "{:>4}  {:<10}  {:<places$}  {:<whys$}  | {}",
            line.number,
            owner(line.owner),
            place(line),
            line.why,
            line.text
        );
        table.push_str(row.trim_end());
        table.push('\n');
    }
    table
}

fn owner(owner: LineOwner) -> &'static str {
    match owner {
        LineOwner::Enterprise => "enterprise",
        LineOwner::Lender => "lender",
        LineOwner::Both => "both",
        LineOwner::Agreed => "agreed",
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let read = if is_toml {
        toml::from_str(&text).map_err(anyhow::Error::from)
    } else {
        serde_json::from_str(&text).map_err(anyhow::Error::from)
    };
    read.with_context(|| format!("cannot understand {}", path.display()))
}

async fn on_record(config: &ConfigPath, name: &ServerId) -> anyhow::Result<Facts> {
    let config = Config::load(&config.config)?;
    let store = Store::open(&config.store).await?;
    let row = store.fleet_server(name).await?;
    store.close().await;
    let reported = row.as_ref().and_then(|row| row.hardware.clone());
    // What stands in the file goes before what the store took from it at the last start; a server that was imported or approved is only in
    // the store.
    let declared = config.servers.get(name).cloned().or(row.map(|row| row.declared));
    let Some(declared) = declared else {
        bail!("there is no server {name}: `leaseboot-lm servers list` names them");
    };
    let place = declared.lent_place().clone();
    let Some(hardware) = reported.or(declared.hardware) else {
        bail!("the hardware of {name} is not on record yet: boot it once, or name a file with --facts");
    };
    Ok(Facts {
        server: declared.name,
        place,
        console: declared.console,
        hardware,
        requirements: Requirements::default(),
    })
}
