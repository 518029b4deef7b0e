//! `leaseboot-lm servers`: the lender's word about its servers. Every command writes into the store and may be given while Lease Managers run:
//! they follow it within a second.

mod change;
mod show;

use super::ConfigPath;
use crate::audit::Deed;
use crate::config::Config;
use crate::lease::driver::now;
use crate::store::{FleetRow, Store};
use anyhow::Context as _;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::network::MacAddress;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Declares, shows and changes servers
#[derive(Debug, clap::Subcommand)]
pub enum Servers {
    /// Lists the servers, and the strangers that wait for approval
    List {
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows one server: what it is made of, what is different about it, and its history
    Show {
        /// The server
        name: ServerId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Takes servers in from a file
    Import {
        /// A file of the form of servers.toml, or a table whose columns are named as its keys (.csv)
        file: PathBuf,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Makes a stranger that reported itself one of the servers
    Approve(Approve),
    /// Takes what a server reported last for what it is from now on
    Accept {
        /// The server
        name: ServerId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Changes labels: NAME=VALUE gives one, -NAME takes one away
    Label {
        /// The server
        name: ServerId,
        /// The changes
        #[arg(required = true, allow_hyphen_values = true, value_name = "NAME=VALUE|-NAME")]
        changes: Vec<String>,
        /// Where the configuration is
        #[arg(long, value_name = "LM.TOML", default_value = "lm.toml")]
        config: PathBuf,
    },
    /// Keeps a server from being lent again, or ends that
    Maintenance {
        /// The server
        name: ServerId,
        /// Whether it is in maintenance
        #[arg(value_enum)]
        switch: Switch,
        /// Why, for those who look at it
        #[arg(long, default_value = "in maintenance")]
        reason: String,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Takes a server that nobody has out of the fleet
    Retire {
        /// The server
        name: ServerId,
        /// Bring it back instead
        #[arg(long)]
        undo: bool,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Has a server's agent stay in rescue mode, so that a console can be opened; a server without a lease is booted for it
    Rescue {
        /// The server
        name: ServerId,
        /// Withdraw the order: the agent goes on
        #[arg(long, visible_alias = "resume")]
        off: bool,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Says that a quarantined server's disks were erased and nothing is wrong with it
    Erased {
        /// The server
        name: ServerId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// A stranger becomes a server.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The card that it booted from
    mac: MacAddress,
    /// Its name from now on
    #[arg(long)]
    name: ServerId,
    /// Its address; without one, the first that is free in the network that it reported itself from
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// The keys of [server.power]: a file, or an inline table such as '{ kind = "command", on = [...], off = [...] }'
    #[arg(long)]
    power: String,
    /// Its console, such as ttyS0,115200
    #[arg(long)]
    console: Option<String>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Its disks are known to be empty: it may be lent at once
    #[arg(long)]
    wiped: bool,
    /// Where the configuration is
    #[command(flatten)]
    config: ConfigPath,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No more.
    Off,
}

/// Runs the command.
///
/// # Errors
/// When the server is not there or not in the state that the command needs, or the store fails.
pub async fn run(servers: &Servers) -> anyhow::Result<()> {
    let config = Config::load(servers.config())?;
    let store = Store::open(&config.store).await?;
    let outcome = match carry_out(servers, &config, &store).await {
        Ok(()) => tell(servers, &store).await,
        failed => failed,
    };
    store.close().await;
    outcome
}

/// Writes what was done into the audit log.
async fn tell(servers: &Servers, store: &Store) -> anyhow::Result<()> {
    match servers.deed() {
        Some(deed) => store
            .write_audit(&deed, now())
            .await
            .context("it was done, but the audit log does not tell of it"),
        None => Ok(()),
    }
}

async fn carry_out(servers: &Servers, config: &Config, store: &Store) -> anyhow::Result<()> {
    match servers {
        Servers::List { json, .. } => show::list(store, *json).await,
        Servers::Show { name, json, .. } => show::one(store, name, *json).await,
        Servers::Import { file, .. } => change::import(config, store, file).await,
        Servers::Approve(approve) => change::approve(config, store, approve).await,
        Servers::Accept { name, .. } => change::accept(store, name).await,
        Servers::Label { name, changes, .. } => change::label(store, name, changes).await,
        Servers::Maintenance {
            name, switch, reason, ..
        } => change::maintenance(store, name, *switch, reason).await,
        Servers::Retire { name, undo, .. } => change::retire(store, name, *undo).await,
        Servers::Rescue { name, off, .. } => change::rescue(config, store, name, *off).await,
        Servers::Erased { name, .. } => change::erased(store, name).await,
    }
}

impl Servers {
    /// What it changes, for the audit log.
    fn deed(&self) -> Option<Deed> {
        let on = |action: String, name: &ServerId| Some(Deed::of_operator(action).on(None, Some(name)));
        match self {
            Servers::List { .. } | Servers::Show { .. } => None,
            Servers::Import { file, .. } => {
                Some(Deed::of_operator("import servers").saying(file.display().to_string()))
            }
            Servers::Approve(approve) => on(format!("approve {}", approve.mac), &approve.name),
            Servers::Accept { name, .. } => on("accept its hardware".to_owned(), name),
            Servers::Label { name, changes, .. } => on(format!("label {}", changes.join(" ")), name),
            Servers::Maintenance { name, switch, .. } => {
                on(format!("maintenance {switch:?}").to_lowercase(), name)
            }
            Servers::Retire {
                name, undo: false, ..
            } => on("retire".to_owned(), name),
            Servers::Retire { name, undo: true, .. } => on("bring back".to_owned(), name),
            Servers::Rescue { name, off: false, .. } => on("order rescue mode".to_owned(), name),
            Servers::Rescue { name, off: true, .. } => on("withdraw rescue mode".to_owned(), name),
            Servers::Erased { name, .. } => on("call it erased".to_owned(), name),
        }
    }

    fn config(&self) -> &std::path::Path {
        match self {
            Servers::List { config, .. }
            | Servers::Show { config, .. }
            | Servers::Import { config, .. }
            | Servers::Approve(Approve { config, .. })
            | Servers::Accept { config, .. }
            | Servers::Maintenance { config, .. }
            | Servers::Retire { config, .. }
            | Servers::Rescue { config, .. }
            | Servers::Erased { config, .. } => &config.config,
            Servers::Label { config, .. } => config,
        }
    }
}

/// The server of this name, or who is there instead.
async fn find(store: &Store, name: &ServerId) -> anyhow::Result<FleetRow> {
    let found = store.fleet_server(name).await?;
    found.with_context(|| format!("there is no server {name}: `leaseboot-lm servers list` names them"))
}
