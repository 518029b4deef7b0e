//! A stranger becomes a server: what the lender says on the command line, as the declaration that `servers.toml` would have.
//!
//! The declaration is written as text and read by the same rules as the file, so there is one place that says what a server may be.

use crate::config::{Config, ConfigError, Server};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::network::MacAddress;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// What the lender says of a stranger.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The card that it booted from.
    pub mac: MacAddress,
    /// Its name from now on.
    pub name: ServerId,
    /// Where it reported itself from, which tells the network that it stands in: the LM's own, or one behind a relay.
    pub seen: IpAddr,
    /// Its address; without one, the first of that network that is free.
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
        /// The network that it stands in.
        network: ipnet::Ipv4Net,
    },
    /// It reported itself from a network that the lender has not.
    #[error(
        "it reported itself from {seen}, which is neither in the lender's network nor in a [[subnet]] of lm.toml: add the subnet, or name an address with --address"
    )]
    NoNetwork {
        /// Where it reported itself from.
        seen: IpAddr,
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
        None => free_address(config, approval.seen, taken)?,
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

/// The first address that is nobody's, of the network where the stranger was seen.
fn free_address(config: &Config, seen: IpAddr, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, ApproveError> {
    let wire = &config.wire;
    let subnet = match seen {
        IpAddr::V4(seen) => wire.network_of(seen),
        IpAddr::V6(_) => None,
    };
    let subnet = subnet.ok_or(ApproveError::NoNetwork { seen })?;
    let network = subnet.network.trunc();
    let mut free = network.hosts().filter(|address| {
        *address != wire.address.addr()
            && subnet.router != Some(*address)
            && !subnet.pool.is_some_and(|pool| pool.contains(*address))
            && !taken.contains(address)
    });
    free.next().ok_or(ApproveError::NoAddress { network })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LM: &str = "interface = \"br0\"\naddress = \"10.10.0.1/24\"\nrouter = \"10.10.0.2\"\n\
        [dhcp]\npool = { first = \"10.10.0.3\", last = \"10.10.0.9\" }\n\
        [[subnet]]\nnetwork = \"10.20.0.0/29\"\nrouter = \"10.20.0.1\"\npool = { first = \"10.20.0.2\", last = \"10.20.0.4\" }\n";

    fn approved(seen: &str, taken: &[&str]) -> Result<Server, ApproveError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lm.toml"), LM).unwrap();
        std::fs::write(folder.path().join("servers.toml"), "").unwrap();
        let config = Config::load(&folder.path().join("lm.toml")).unwrap();
        let approval = Approval {
            mac: "52:54:00:00:00:01".parse().unwrap(),
            name: "a".parse().unwrap(),
            seen: seen.parse().unwrap(),
            address: None,
            power: "{ kind = \"command\", on = [\"true\"], off = [\"true\"] }".to_owned(),
            console: None,
            labels: Vec::new(),
            wiped: false,
        };
        let taken = taken.iter().map(|address| address.parse().unwrap()).collect();
        approve(&config, &approval, &taken)
    }

    #[test]
    fn a_stranger_gets_the_first_free_address_of_the_network_that_it_was_seen_in() {
        let place = |seen, taken: &[&str]| {
            let server = approved(seen, taken).unwrap();
            (
                server.place.address.to_string(),
                server.place.router.unwrap().to_string(),
            )
        };
        let of = |address: &str, router: &str| (address.to_owned(), router.to_owned());
        assert_eq!(place("10.10.0.7", &[]), of("10.10.0.10/24", "10.10.0.2"));
        assert_eq!(place("10.20.0.3", &[]), of("10.20.0.5/29", "10.20.0.1"));
        assert_eq!(
            place("10.20.0.3", &["10.20.0.5"]),
            of("10.20.0.6/29", "10.20.0.1")
        );
        let full = approved("10.20.0.3", &["10.20.0.5", "10.20.0.6"]).unwrap_err();
        assert!(full.to_string().contains("10.20.0.0/29"), "{full}");
    }

    #[test]
    fn a_stranger_from_nowhere_needs_an_address() {
        for seen in ["10.30.0.3", "fe80::1"] {
            let error = approved(seen, &[]).unwrap_err();
            assert!(matches!(error, ApproveError::NoNetwork { .. }), "{error}");
        }
    }
}
