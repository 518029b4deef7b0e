//! `leaseboot-lm servers erased`: the operator's word that a server may be lent again.
//!
//! A returned server is erased by the agent and free again by itself. A server that failed, or whose disks could not be erased, is quarantined:
//! somebody looks at it, erases it, and says so here.

use super::ConfigPath;
use crate::config::Config;
use crate::lease::driver::now;
use crate::store::Store;
use anyhow::bail;
use leaseboot_protocol::ids::ServerId;

/// Gives servers free that were held back
#[derive(Debug, clap::Subcommand)]
pub enum Servers {
    /// Says that a quarantined server's disks were erased and nothing is wrong with it
    Erased {
        /// The server
        name: ServerId,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// Runs the command; the Lease Manager may be running.
///
/// # Errors
/// When the server is not held back, or the store fails.
pub async fn run(servers: &Servers) -> anyhow::Result<()> {
    let Servers::Erased { name, config } = servers;
    let config = Config::load(&config.config)?;
    let store = Store::open(&config.store).await?;
    if !store
        .set_free(name, "erased, as its operator said", now())
        .await?
    {
        match store.server(name).await? {
            Some(server) => bail!(
                "the server {name} is {}, so there is nothing to set free",
                server.custody
            ),
            None => bail!("there is no server {name} on record: `leaseboot-lm status` lists them"),
        }
    }
    println!("{name} is free");
    store.close().await;
    Ok(())
}
