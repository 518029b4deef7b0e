//! `leaseboot-lm tenant`: who may borrow, and how much. Every change is written into the audit log.

use super::ConfigPath;
use super::table::{Table, say};
use crate::audit::Deed;
use crate::config::Config;
use crate::erasure::Signer;
use crate::lease::driver::now;
use crate::pki::{self, Authority};
use crate::store::{Store, TenantRecord};
use crate::tenants::{self, Rate, Terms};
use anyhow::{Context as _, bail};
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::labels::LabelExpression;
use leaseboot_protocol::timestamp::Timestamp;
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Requests at once, where only the rate is given.
const BURST: NonZeroU32 = NonZeroU32::new(20).expect("written as a positive number");

/// Manages the enterprises that may borrow
#[derive(Debug, clap::Subcommand)]
pub enum Tenant {
    /// Invites an enterprise: prints a code with which it enrols once, by `leaseboot-po enrol`
    Invite {
        /// The enterprise's name: a-z, 0-9 and inner -
        name: TenantId,
        /// How long the code is good, in minutes
        #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_080))]
        valid: u32,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Makes key and client certificate for an enterprise. Better is `invite`, where the key never leaves the enterprise
    Add {
        /// The enterprise's name: a-z, 0-9 and inner -
        name: TenantId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
        /// The folder to write client.pem, client.key, lm-ca.pem and erasure.pub into; give it to the enterprise over a safe
        /// channel
        #[arg(long, value_name = "BUNDLE_DIR")]
        out: PathBuf,
    },
    /// Grants a tenant more or less; what is not named stays. `none` takes a limit away
    Set(Set),
    /// Refuses a tenant's certificates from now on. Its leases stay until they end or are given back
    Revoke {
        /// The tenant
        name: TenantId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Lists the tenants
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Shows one tenant
    Show {
        /// The tenant
        name: TenantId,
        /// One JSON document
        #[arg(long)]
        json: bool,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// What to grant.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The tenant
    name: TenantId,
    /// Servers at once
    #[arg(long)]
    servers: Option<Limit<u32>>,
    /// Cores of all its servers together
    #[arg(long)]
    cores: Option<Limit<u32>>,
    /// Only servers whose labels match, such as `rack in (a1, a2) and !gpu`
    #[arg(long)]
    labels: Option<Limit<LabelExpression>>,
    /// Requests to the API in a minute
    #[arg(long)]
    rate: Option<Limit<NonZeroU32>>,
    /// Requests at once, after a rest
    #[arg(long)]
    burst: Option<NonZeroU32>,
    /// Whether secrets in its settings must be sealed
    #[arg(long)]
    sealed_secrets: Option<bool>,
    /// Where the configuration is
    #[command(flatten)]
    config: ConfigPath,
}

/// A limit, or `none`.
#[derive(Clone, Debug)]
struct Limit<T>(Option<T>);

impl<T: FromStr> FromStr for Limit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        Ok(Self(if text == "none" { None } else { Some(text.parse()?) }))
    }
}

/// Runs the command; the Lease Manager may be running.
///
/// # Errors
/// When there is no such tenant, a file is there already or cannot be written, or the store fails.
pub async fn run(tenant: &Tenant) -> anyhow::Result<()> {
    match tenant {
        Tenant::Invite { name, valid, config } => invite(name, *valid, config).await,
        Tenant::Add { name, config, out } => add(name, config, out).await,
        Tenant::Set(set) => grant(set).await,
        Tenant::Revoke { name, config } => revoke(name, config).await,
        Tenant::List { json, config } => list(*json, config).await,
        Tenant::Show { name, json, config } => show(name, *json, config).await,
    }
}

async fn open(config: &ConfigPath) -> anyhow::Result<(Config, Store)> {
    let config = Config::load(&config.config)?;
    let store = Store::open(&config.store).await?;
    Ok((config, store))
}

async fn invite(name: &TenantId, minutes: u32, config: &ConfigPath) -> anyhow::Result<()> {
    let (config, store) = open(config).await?;
    let ca = pki::ca_digest(&config.identity.ca)?;
    let life = Duration::from_secs(u64::from(minutes) * 60);
    let code = tenants::invite(&store, name, &ca, life, now()).await?;
    store.close().await;
    println!("{}", code.expose());
    eprintln!(
        "good once, for {minutes} minutes; the enterprise runs: leaseboot-po enrol --lm {} --code - --out lender",
        config.api_url()
    );
    Ok(())
}

async fn add(name: &TenantId, config: &ConfigPath, out: &Path) -> anyhow::Result<()> {
    let (config, store) = open(config).await?;
    let files = ["client.pem", "client.key", "lm-ca.pem", "erasure.pub"].map(|file| out.join(file));
    if let Some(there) = files.iter().find(|file| file.exists()) {
        bail!(
            "{} is there already: name another folder with --out",
            there.display()
        );
    }
    let identity = &config.identity;
    let authority = Authority::load(&identity.ca, &identity.ca_key)?;
    let issued = authority.tenant(name)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .with_context(|| format!("cannot make the folder {}", out.display()))?;
    let [certificate, key, ca, erasure] = files;
    pki::write_private(&key, issued.key.as_bytes())?;
    pki::write_public(&certificate, issued.certificate.as_bytes())?;
    pki::write_public(&ca, pki::read_ca(&identity.ca)?.as_bytes())?;
    let signs = Signer::load(&identity.erasure_key)?.public_key();
    pki::write_public(&erasure, format!("{signs}\n").as_bytes())?;
    let digest = pki::digest_of_pem(&certificate, &issued.certificate)?;
    let deed = Deed::of_operator("add a tenant").saying(format!("{name}, certificate {digest}"));
    store.add_tenant(name, &digest, &deed, now()).await?;
    store.close().await;
    println!(
        "the bundle of {name} is in {}; its client.key is a secret",
        out.display()
    );
    Ok(())
}

async fn grant(set: &Set) -> anyhow::Result<()> {
    let (_, store) = open(&set.config).await?;
    let record = find(&store, &set.name).await?;
    let terms = changed(record.terms, set)?;
    let deed =
        Deed::of_operator("set a tenant's terms").saying(format!("{}: {}", set.name, in_words(&terms)));
    store.set_terms(&set.name, &terms, &deed, now()).await?;
    store.close().await;
    println!("{}: {}", set.name, in_words(&terms));
    Ok(())
}

fn changed(mut terms: Terms, set: &Set) -> anyhow::Result<Terms> {
    if let Some(Limit(servers)) = set.servers {
        terms.servers = servers;
    }
    if let Some(Limit(cores)) = set.cores {
        terms.cores = cores;
    }
    if let Some(Limit(labels)) = &set.labels {
        terms.labels.clone_from(labels);
    }
    if let Some(Limit(rate)) = set.rate {
        let burst = set.burst.or(terms.rate.map(|rate| rate.burst)).unwrap_or(BURST);
        terms.rate = rate.map(|per_minute| Rate { per_minute, burst });
    } else if let Some(burst) = set.burst {
        let Some(rate) = &mut terms.rate else {
            bail!("--burst needs a rate: give --rate too");
        };
        rate.burst = burst;
    }
    if let Some(sealed) = set.sealed_secrets {
        terms.sealed_secrets = sealed;
    }
    Ok(terms)
}

async fn revoke(name: &TenantId, config: &ConfigPath) -> anyhow::Result<()> {
    let (_, store) = open(config).await?;
    let deed = Deed::of_operator("revoke a tenant").saying(name.to_string());
    if !store.revoke_tenant(name, &deed, now()).await? {
        bail!("there is no tenant {name}: `leaseboot-lm tenant list` names them");
    }
    store.close().await;
    println!("{name} is refused from now on; `leaseboot-lm tenant invite {name}` lets it in again");
    Ok(())
}

async fn find(store: &Store, name: &TenantId) -> anyhow::Result<TenantRecord> {
    let found = store.tenant(name).await?;
    found.with_context(|| format!("there is no tenant {name}: `leaseboot-lm tenant list` names them"))
}

async fn list(json: bool, config: &ConfigPath) -> anyhow::Result<()> {
    let (_, store) = open(config).await?;
    let tenants = store.tenants().await?;
    store.close().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&tenants)?);
        return Ok(());
    }
    let mut table = Table::new(&["TENANT", "STATE", "TERMS"]);
    for TenantRecord {
        name, terms, revoked, ..
    } in &tenants
    {
        table.row([name.to_string(), state(*revoked).to_owned(), in_words(terms)]);
    }
    say(table)?;
    Ok(())
}

fn state(revoked: Option<Timestamp>) -> &'static str {
    if revoked.is_some() { "revoked" } else { "known" }
}

async fn show(name: &TenantId, json: bool, config: &ConfigPath) -> anyhow::Result<()> {
    let (_, store) = open(config).await?;
    let record = find(&store, name).await?;
    store.close().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&record)?);
    } else {
        let state = if record.revoked.is_some() {
            "revoked"
        } else {
            "known"
        };
        println!("{name}: {state}; {}", in_words(&record.terms));
    }
    Ok(())
}

fn in_words(terms: &Terms) -> String {
    let limit = |value: Option<u32>, what: &str| match value {
        Some(value) => format!("at most {value} {what}"),
        None => format!("any number of {what}"),
    };
    let mut words = vec![limit(terms.servers, "servers"), limit(terms.cores, "cores")];
    if let Some(labels) = &terms.labels {
        words.push(format!("only where {labels}"));
    }
    if let Some(Rate { per_minute, burst }) = terms.rate {
        words.push(format!("{per_minute} requests a minute, {burst} at once"));
    }
    if terms.sealed_secrets {
        words.push("secrets must be sealed".to_owned());
    }
    words.join(", ")
}
