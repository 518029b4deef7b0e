//! `leaseboot-lm init`: a folder with all that a Lease Manager needs. Nothing is overwritten, and the configuration, whose presence
//! says that the folder is complete, is written last.
//!
//! What the two TOML files say at first stands beside this file, in `init/`; `lm.toml.in` is a text of [`format!`].

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

/// The servers' file as it is made: nothing but an example.
const SERVERS: &str = include_str!("init/servers.toml");
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

/// The text of `lm.toml`.
fn configuration(init: &Init) -> String {
    let router = match init.router {
        Some(router) => format!("router = \"{router}\""),
        None => "# router = \"10.10.0.254\"".to_owned(),
    };
    format!(
        include_str!("init/lm.toml.in"),
        interface = init.interface,
        address = init.address,
        router = router,
        api_port = API_PORT,
        metrics = METRICS_LISTEN,
    )
}
