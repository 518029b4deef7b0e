//! `leaseboot-lm init`: a folder with all that a Lease Manager needs. Nothing is overwritten, and the
//! configuration, whose presence
//! says that the folder is complete, is written last.

use crate::config::{API_PORT, Config, METRICS_LISTEN};
use crate::erasure::Signer;
use crate::pki::{self, Authority};
use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Makes a Lease Manager's folder: CA, certificate, configuration
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The folder; made if need be
    dir: PathBuf,
    /// The interface on the wire of the servers that are lent
    #[arg(long)]
    interface: String,
    /// The Lease Manager's address on it, with the network's prefix length, such as 10.10.0.1/24
    #[arg(long)]
    address: Ipv4Net,
    /// The router of the servers
    #[arg(long)]
    router: Option<Ipv4Addr>,
    /// A name or address by which tenants reach the API, besides --address; may be repeated
    #[arg(long = "api-name", value_name = "NAME_OR_IP")]
    api_names: Vec<String>,
}

const FILES: [&str; 7] = [
    "lm.toml",
    "servers.toml",
    "ca.pem",
    "ca.key",
    "lm.pem",
    "lm.key",
    "erasure.key",
];

/// Runs the command.
///
/// # Errors
/// When a file is there already, or one cannot be made.
pub fn run(init: &Init) -> anyhow::Result<()> {
    let dir = &init.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    if let Some(there) = FILES.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        bail!(
            "{} is there already: name another folder, or remove the old Lease Manager's first",
            there.display()
        );
    }
    for name in &init.api_names {
        check_name(name)?;
    }
    let configuration = configuration(init);
    check(&configuration, init)?;
    write_certificates(dir, &names(init))?;
    pki::write_private(&dir.join("erasure.key"), Signer::make_key()?.as_bytes())?;
    pki::write_public(&dir.join("servers.toml"), SERVERS.as_bytes())?;
    pki::write_public(&dir.join("lm.toml"), configuration.as_bytes())?;
    Config::load(&dir.join("lm.toml")).context("the new configuration cannot be read back")?;
    println!(
        "{} is ready: write your servers into {}",
        dir.display(),
        dir.join("servers.toml").display()
    );
    println!(
        "erasure records can be verified with the public key {}",
        Signer::load(&dir.join("erasure.key"))?.public_key()
    );
    Ok(())
}

/// The same checks as at the start of the service, before anything is written.
fn check(configuration: &str, init: &Init) -> anyhow::Result<()> {
    let scratch = init.dir.join(format!(".init-{}", std::process::id()));
    std::fs::create_dir(&scratch).with_context(|| format!("cannot write into {}", init.dir.display()))?;
    let checked = std::fs::write(scratch.join("lm.toml"), configuration)
        .and_then(|()| std::fs::write(scratch.join("servers.toml"), SERVERS))
        .map_err(anyhow::Error::from)
        .and_then(|()| Config::load(&scratch.join("lm.toml")).map_err(anyhow::Error::from));
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    checked.map(drop).context("these settings cannot work")
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b));
    if name.is_empty() || !plain {
        bail!("--api-name {name:?} is neither a DNS name nor an IP address");
    }
    Ok(())
}

/// What the API's certificate is good for: the servers use the address, tenants whatever leads to it.
fn names(init: &Init) -> Vec<String> {
    let mut names = vec![IpAddr::from(init.address.addr()).to_string()];
    for name in &init.api_names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn write_certificates(dir: &Path, names: &[String]) -> anyhow::Result<()> {
    let (authority, ca) = Authority::create()?;
    let lm = authority.server(names)?;
    pki::write_private(&dir.join("ca.key"), ca.key.as_bytes())?;
    pki::write_public(&dir.join("ca.pem"), ca.certificate.as_bytes())?;
    pki::write_private(&dir.join("lm.key"), lm.key.as_bytes())?;
    pki::write_public(&dir.join("lm.pem"), lm.certificate.as_bytes())?;
    Ok(())
}

fn configuration(init: &Init) -> String {
    let router = match init.router {
        Some(router) => format!("router = \"{router}\""),
        None => "# router = \"10.10.0.254\"".to_owned(),
    };
    format!(
        r#"# The Lease Manager. Paths are relative to this file's folder.

# The wire of the servers that are lent: the interface on it, the Lease Manager's own address there, the servers' router.
interface = "{interface}"
address = "{address}"
{router}
# mtu = 1500

servers = "servers.toml"
store = "lm.sqlite"
# Or a database that several Lease Managers share; its password stands in a file of its own.
# store = "postgres://leaseboot@10.20.0.5/leaseboot"
# store_password_file = "store.password"
# Where `cargo xtask image` left kernel, stage-1 image and boot loaders; --boot-files goes before it.
# boot_files = "image"

# How many times a server is sent through the boot before it is given up.
attempts = 3
# How many times a lease moves to another server because one has failed.
moves = 2
# What returned servers' erasure records are signed with. Keep it: enterprises know its public half.
erasure_key = "erasure.key"

# For how long servers are lent, in seconds.
# [term]
# default_s = 2592000       # when the enterprise names no term
# maximum_s = 31536000
# warning_s = 86400         # an event this long before the end

[api]
listen = "0.0.0.0:{API_PORT}"

# Metrics for Prometheus, and whether the Lease Manager is alive and ready: in clear, for the lender only.
# [metrics]
# listen = "{METRICS_LISTEN}"

# [dhcp]
# first_loader = "grub"     # or "ipxe": what firmware is sent
# ipxe_chain = "script"     # or "grub": what iPXE is sent
# pool = {{ first = "10.10.0.200", last = "10.10.0.250" }}   # for servers that nobody wrote down

# [power]
# attempts = 3
# rack_limit = {{ starts = 4, within_s = 10 }}   # servers with the same label `rack` that may be switched on within a time

# What happens when a server reports other hardware than is on record: "note" or "quarantine", also by kind (chassis, cpu, memory, disk, nic, pci, firmware, tpm).
# [inventory]
# on_change = "note"
# kinds = {{ disk = "quarantine", memory = "quarantine" }}

# A program that puts a server's port into its tenant's network before the server is switched on, and takes it out after.
# [switch]
# command = ["/usr/local/bin/vlan"]

# Seconds that each state of a lease may last.
# [deadlines]
# leased = 900
# prepared = 900
# booting = 300
# stage1 = 300
# tunnel = 300
# chained = 180
# installing = 3600
# installed = 600
# returning = 300
# wiping = 3600              # bytes that move keep it away
# moving = 900               # for another server, after one has failed
"#,
        interface = init.interface,
        address = init.address,
    )
}

const SERVERS: &str = r#"# The servers that are lent. One [[server]] table for each; take the # away.

# [[server]]
# name = "rack1-01"
# mac = "52:54:00:12:34:56"        # the card on the lender's wire
# address = "10.10.0.11"           # its fixed address there
# console = "ttyS0,115200"
# labels = { rack = "1" }          # what tenants may ask for
# wiped = true                     # false: hold it back until `leaseboot-lm servers erased rack1-01`
#
# [server.power]
# kind = "redfish"
# url = "https://10.10.1.11/redfish/v1/Systems/1"
# username = "leaseboot"
# password_file = "rack1-01.password"
# ca_file = "bmc-ca.pem"           # or fingerprint = "AB:CD:..."
#
# Or one of these; the file of a password is readable by its owner only:
# [server.power]
# kind = "ipmi"
# host = "10.10.1.11"
# username = "leaseboot"
# password_file = "rack1-01.password"
# [server.power]
# kind = "wake-on-lan"
# mac = "52:54:00:12:34:56"
# to = "10.10.0.255:9"
# off = { kind = "command", on = ["true"], off = ["/usr/local/bin/outlet", "off", "7"] }
#
# Or, for anything else, commands:
# [server.power]
# kind = "command"
# on = ["/usr/local/bin/power", "on", "rack1-01"]
# off = ["/usr/local/bin/power", "off", "rack1-01"]
# status = ["/usr/local/bin/power", "status", "rack1-01"]
#
# What it is made of need not be written down: the server is booted once to report it.
"#;
