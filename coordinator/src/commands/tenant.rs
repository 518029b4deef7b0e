//! `leaseboot-lm tenant add`: the bundle by which an enterprise is known.

use super::ConfigPath;
use crate::config::Config;
use crate::erasure::Signer;
use crate::pki::{self, Authority};
use anyhow::{Context as _, bail};
use leaseboot_protocol::ids::TenantId;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

/// Manages the enterprises that may borrow
#[derive(Debug, clap::Subcommand)]
pub enum Tenant {
    /// Makes a client certificate for an enterprise
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
}

/// Runs the command.
///
/// # Errors
/// When the bundle is there already, or cannot be made.
pub fn run(tenant: &Tenant) -> anyhow::Result<()> {
    let Tenant::Add { name, config, out } = tenant;
    let config = Config::load(&config.config)?;
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
    println!(
        "the bundle of {name} is in {}; its client.key is a secret",
        out.display()
    );
    Ok(())
}
