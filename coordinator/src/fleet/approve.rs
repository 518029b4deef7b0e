//! A stranger becomes a server: what the lender says on the command line, as the declaration that `servers.toml` would have.
//!
//! The declaration is written as text and read by the same rules as the file, so there is one place that says what a server may be.

use crate::config::{Config, ConfigError, Server};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::network::MacAddress;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// What the lender says of a stranger.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The card that it booted from.
    pub mac: MacAddress,
    /// Its name from now on.
    pub name: ServerId,
    /// Its address; without one, the first that is free.
    pub address: Option<Ipv4Addr>,
    /// The `[server.power]` table: a file, or an inline table such as `{ kind = "wake-on-lan", ... }`.
    pub power: String,
    /// Its console, such as `ttyS0,115200`.
    pub console: Option<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Whether its disks are known to be empty.
    pub wiped: bool,
}

/// A stranger cannot become a server like this.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// The file with the way to its power cannot be read.
    #[error("cannot read {path}, which should hold the keys of [server.power]")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// That text is not a table.
    #[error("the way to its power is not a table of TOML")]
    Power(#[source] toml::de::Error),
    /// No address is left.
    #[error(
        "every address of {network} that is nobody's is in use: retire a server, or name an address with --address"
    )]
    NoAddress {
        /// The lender's network.
        network: ipnet::Ipv4Net,
    },
    /// The declaration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The server that the stranger becomes; `taken` are the addresses of all others.
///
/// # Errors
/// [`ApproveError`].
pub fn approve(
    config: &Config,
    approval: &Approval,
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<Server, ApproveError> {
    let (power, folder) = power(approval)?;
    let address = match approval.address {
        Some(address) => address,
        None => free_address(config, taken)?,
    };
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut text = format!(
        "[[server]]\nname = {}\nmac = {}\naddress = {}\nwiped = {}\npower = {power}\n",
        quoted(approval.name.as_str()),
        quoted(&approval.mac.to_string()),
        quoted(&address.to_string()),
        approval.wiped,
    );
    if let Some(console) = &approval.console {
        let _ = writeln!(text, "console = {}", quoted(console));
    }
    for (name, value) in &approval.labels {
        let _ = writeln!(text, "labels.{} = {}", quoted(name), quoted(value));
    }
    Ok(config.parse_server(&folder.join("(approval)"), text)?)
}

/// The table on one line, and the folder that its paths begin at.
fn power(approval: &Approval) -> Result<(toml::Value, PathBuf), ApproveError> {
    let text = approval.power.trim();
    if text.starts_with('{') {
        #[derive(serde::Deserialize)]
        struct Inline {
            power: toml::Value,
        }
        let inline: Inline = toml::from_str(&format!("power = {text}")).map_err(ApproveError::Power)?;
        return Ok((inline.power, PathBuf::new()));
    }
    let path = Path::new(text);
    let written = std::fs::read_to_string(path).map_err(|source| ApproveError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = toml::from_str(&written).map_err(ApproveError::Power)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((toml::Value::Table(table), folder))
}

fn free_address(config: &Config, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, ApproveError> {
    let wire = &config.wire;
    let network = wire.address.trunc();
    let pool = config.dhcp.pool.as_ref();
    let mut free = network.hosts().filter(|address| {
        *address != wire.address.addr()
            && wire.router != Some(*address)
            && !pool.is_some_and(|pool| pool.contains(*address))
            && !taken.contains(address)
    });
    free.next().ok_or(ApproveError::NoAddress { network })
}
