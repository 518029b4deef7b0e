//! Servers as the lender declares them: in `servers.toml`, in files of the same form, and in tables of comma-separated values (RFC 4180), whose
//! columns are named as the keys are: `name,mac,address,labels.rack,power.kind,power.url`. A table is turned into the text of a `servers.toml`
//! and read as one, so there is one set of rules, and an error names the line of the table.

use super::{ConfigError, Source, Wire};
use crate::boot::KernelWord;
use crate::dhcp::{FirstLoader, IpxeChain, LoaderChoice, SubnetConfig};
use crate::power::PowerConfig;
use crate::serial::SerialLine;
use ipnet::Ipv4Net;
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels;
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// One server as the lender declared it. The store keeps it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: ServerId,
    /// Its place on the lender's wire, as firmware finds it: in frames without a tag.
    pub place: LenderAddress,
    /// Its address of IPv6 on that wire, where the lender wrote one down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
    /// Its place behind a tag, where all that comes after firmware stands.
    #[serde(default)]
    pub tagged: Option<LenderAddress>,
    /// Its console as the kernel's `console=` wants it.
    pub console: Option<KernelWord>,
    /// Where its serial line can be read, for the log of a boot.
    #[serde(default)]
    pub serial: Option<SerialLine>,
    /// More words for the kernel command line of stage 1.
    pub kernel_words: Vec<KernelWord>,
    /// The loaders that its firmware is sent, where they are not those of `lm.toml`.
    #[serde(default)]
    pub loaders: LoaderChoice,
    /// What tenants may ask for.
    pub labels: BTreeMap<String, String>,
    /// Whether its disks are known to be empty when the LM sees it first.
    pub wiped: bool,
    /// The way to its power.
    pub power: PowerConfig,
    /// The folder that relative paths in `power` begin at.
    pub folder: PathBuf,
    /// What it is made of, where the lender wrote that down. The store keeps that by itself.
    #[serde(skip)]
    pub hardware: Option<HardwareReport>,
    /// The line where its declaration begins.
    #[serde(skip)]
    pub line: usize,
}

impl Server {
    /// Where it stands once firmware is done.
    pub fn lent_place(&self) -> &LenderAddress {
        self.tagged.as_ref().unwrap_or(&self.place)
    }
}

/// `[server.tagged]`: a network whose frames carry a tag on the server's cable.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagged {
    vlan: u16,
    /// Address and prefix length.
    address: Ipv4Net,
    router: Option<Ipv4Addr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServersFile {
    #[serde(default)]
    server: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<ServerId>,
    mac: Spanned<MacAddress>,
    address: Spanned<Ipv4Addr>,
    address6: Option<Spanned<Ipv6Addr>>,
    router: Option<Spanned<Ipv4Addr>>,
    tagged: Option<Spanned<Tagged>>,
    console: Option<KernelWord>,
    serial: Option<SerialLine>,
    #[serde(default)]
    kernel_words: Vec<KernelWord>,
    first_loader: Option<FirstLoader>,
    ipxe_chain: Option<IpxeChain>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default = "yes")]
    wiped: bool,
    power: PowerConfig,
    hardware: Option<Spanned<toml::Table>>,
}

fn yes() -> bool {
    true
}

pub(super) fn load(path: &Path, wire: &Wire) -> Result<BTreeMap<ServerId, Server>, ConfigError> {
    let mut source = Source::read(path)?;
    if path.extension().is_some_and(|extension| extension == "csv") {
        source = super::table::as_toml(source)?;
    }
    parse(&source, wire)
}

/// The servers of a text of the form of `servers.toml`.
pub(super) fn parse(source: &Source, wire: &Wire) -> Result<BTreeMap<ServerId, Server>, ConfigError> {
    let file: ServersFile = source.parse()?;
    // The store may be read from another folder than this one.
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (mut servers, mut taken) = (BTreeMap::new(), Taken::default());
    for entry in file.server {
        let line = source.line(entry.span().start);
        let entry = entry.into_inner();
        taken.give(source, &entry, line)?;
        let subnet = check_address(source, &entry, wire)?;
        check_labels(source, &entry)?;
        check_address6(source, &entry, wire)?;
        let hardware = entry
            .hardware
            .as_ref()
            .map(|table| hardware(source, table))
            .transpose()?;
        let place = LenderAddress {
            mac: *entry.mac.get_ref(),
            address: Ipv4Net::new_assert(*entry.address.get_ref(), subnet.network.prefix_len()),
            router: entry.router.map(Spanned::into_inner).or(subnet.router),
            mtu: wire.mtu,
            vlan: None,
        };
        let tagged = entry
            .tagged
            .map(|tagged| tagged_place(source, tagged, &place))
            .transpose()?;
        let name = entry.name.into_inner();
        let server = Server {
            name: name.clone(),
            place,
            address6: entry.address6.map(Spanned::into_inner),
            tagged,
            console: entry.console,
            serial: entry.serial,
            kernel_words: entry.kernel_words,
            loaders: LoaderChoice {
                first_loader: entry.first_loader,
                ipxe_chain: entry.ipxe_chain,
            },
            labels: entry.labels,
            wiped: entry.wiped,
            power: entry.power,
            folder: folder.clone(),
            hardware,
            line,
        };
        servers.insert(name, server);
    }
    Ok(servers)
}

/// The place behind a tag, on the same card.
fn tagged_place(
    source: &Source,
    tagged: Spanned<Tagged>,
    untagged: &LenderAddress,
) -> Result<LenderAddress, ConfigError> {
    let span = tagged.span();
    let Tagged {
        vlan,
        address,
        router,
    } = tagged.into_inner();
    let problem = if !(1..=4094).contains(&vlan) {
        Some(format!("the vlan {vlan} is not between 1 and 4094"))
    } else if [address.network(), address.broadcast()].contains(&address.addr()) {
        Some(format!(
            "{address} is not a host's address in a network: write it as 10.30.0.11/24"
        ))
    } else if address.contains(&untagged.address.addr()) {
        Some(format!(
            "{address} is of the network that the server is in without a tag: a tagged network is another one"
        ))
    } else {
        let outside = router.filter(|router| !address.contains(router));
        outside.map(|router| {
            format!(
                "the router {router} is not in the server's tagged network {}",
                address.trunc()
            )
        })
    };
    match problem {
        Some(problem) => Err(source.problem(span, format!("in server.tagged: {problem}"))),
        None => Ok(LenderAddress {
            mac: untagged.mac,
            address,
            router,
            mtu: untagged.mtu,
            vlan: Some(vlan),
        }),
    }
}

/// An address of IPv6 is of a network of `[dhcp6]`, and nobody else's.
fn check_address6(source: &Source, entry: &Entry, wire: &Wire) -> Result<(), ConfigError> {
    let Some(written) = &entry.address6 else {
        return Ok(());
    };
    let address = *written.get_ref();
    let subnet = wire.ipv6.as_ref().and_then(|ipv6| ipv6.network_of(address));
    let problem = match (&wire.ipv6, subnet) {
        (None, _) => "lm.toml has no [dhcp6] table, so no server has an address6".to_owned(),
        (Some(_), None) => {
            format!(
                "{address} is in no network of [dhcp6]: choose an address of one, or add a [[dhcp6.subnet]]"
            )
        }
        (Some(ipv6), Some(subnet))
            if [ipv6.address.addr(), subnet.network.network()].contains(&address)
                || subnet.router == Some(address) =>
        {
            format!("{address} is the network's, the lease manager's or the router's own: choose another")
        }
        (_, Some(subnet)) if subnet.pool.is_some_and(|pool| pool.contains(address)) => format!(
            "{address} lies in its network's DHCPv6 pool, which is for servers without an address6: choose another"
        ),
        _ => return Ok(()),
    };
    Err(source.problem(written.span(), problem))
}

fn check_labels(source: &Source, entry: &Entry) -> Result<(), ConfigError> {
    let wrong = entry
        .labels
        .iter()
        .find(|(name, value)| !labels::is_name(name) || !labels::is_value(value));
    match wrong {
        Some((name, value)) => Err(source.problem(
            entry.name.span(),
            format!(
                "the label {name:?} = {value:?} cannot be: its name needs letters, digits and . _ / - , its value no quotes, both at most {} bytes",
                labels::LONGEST_WORD
            ),
        )),
        None => Ok(()),
    }
}

/// The line of whoever has a name, a card or an address already.
#[derive(Default)]
struct Taken {
    names: HashMap<ServerId, usize>,
    cards: HashMap<MacAddress, (ServerId, usize)>,
    addresses: HashMap<IpAddr, (ServerId, usize)>,
}

impl Taken {
    /// Gives the server what its entry says, unless another has it.
    fn give(&mut self, source: &Source, entry: &Entry, line: usize) -> Result<(), ConfigError> {
        let name = entry.name.get_ref();
        let (card, address) = (*entry.mac.get_ref(), *entry.address.get_ref());
        let taken = |what: &dyn fmt::Display, name: &ServerId, line: usize| {
            format!("{what} belongs to the server {name} of line {line} already: give each server its own")
        };
        if let Some(line) = self.names.insert(name.clone(), line) {
            return Err(source.problem(entry.name.span(), taken(name, name, line)));
        }
        if let Some((other, line)) = self.cards.insert(card, (name.clone(), line)) {
            return Err(source.problem(entry.mac.span(), taken(&card, &other, line)));
        }
        if let Some((other, line)) = self.addresses.insert(address.into(), (name.clone(), line)) {
            return Err(source.problem(entry.address.span(), taken(&address, &other, line)));
        }
        if let Some(written) = &entry.address6
            && let Some((other, line)) = self
                .addresses
                .insert((*written.get_ref()).into(), (name.clone(), line))
        {
            return Err(source.problem(written.span(), taken(written.get_ref(), &other, line)));
        }
        Ok(())
    }
}

/// The network that the server stands in.
fn check_address(source: &Source, entry: &Entry, wire: &Wire) -> Result<SubnetConfig, ConfigError> {
    let address = *entry.address.get_ref();
    let Some(subnet) = wire.network_of(address) else {
        let problem = format!(
            "{address} is not in the lender's network {} nor in a [[subnet]]",
            wire.address.trunc()
        );
        return Err(source.problem(entry.address.span(), problem));
    };
    let network = subnet.network.trunc();
    if [network.network(), network.broadcast(), wire.address.addr()].contains(&address)
        || subnet.router == Some(address)
    {
        let problem =
            format!("{address} is the network's, the lease manager's or the router's own: choose another");
        return Err(source.problem(entry.address.span(), problem));
    }
    if subnet.pool.is_some_and(|pool| pool.contains(address)) {
        let problem = format!(
            "{address} lies in its network's pool, which is for servers that nobody wrote down: choose another"
        );
        return Err(source.problem(entry.address.span(), problem));
    }
    match &entry.router {
        Some(router) if !network.contains(router.get_ref()) => {
            let problem = format!(
                "the router {} is not in the server's network {network}",
                router.get_ref()
            );
            Err(source.problem(router.span(), problem))
        }
        _ => Ok(subnet),
    }
}

/// The type is a report, which ignores what it does not know; what a person wrote must not be ignored, so every
/// key must come back.
fn hardware(source: &Source, written: &Spanned<toml::Table>) -> Result<HardwareReport, ConfigError> {
    let table = toml::Value::Table(written.get_ref().clone());
    let problem = |problem: String| source.problem(written.span(), format!("in server.hardware: {problem}"));
    let mut report: HardwareReport = table
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| problem(error.message().to_owned()))?;
    if report.architecture.is_empty() {
        // Every enterprise asks for its image's architecture, so a server without one would never be lent.
        report.architecture = Architecture::default().to_string();
    }
    let understood = toml::Value::try_from(&report).map_err(|error| problem(error.to_string()))?;
    match unknown_key(&table, &understood, "hardware") {
        Some(key) => Err(problem(format!("unknown key {key}"))),
        None => Ok(report),
    }
}

fn unknown_key(written: &toml::Value, understood: &toml::Value, place: &str) -> Option<String> {
    match (written, understood) {
        (toml::Value::Table(written), toml::Value::Table(understood)) => {
            written.iter().find_map(|(key, value)| {
                let place = format!("{place}.{key}");
                match understood.get(key) {
                    Some(known) => unknown_key(value, known, &place),
                    None => Some(place),
                }
            })
        }
        (toml::Value::Array(written), toml::Value::Array(understood)) => written
            .iter()
            .zip(understood)
            .find_map(|(value, known)| unknown_key(value, known, place)),
        _ => None,
    }
}
