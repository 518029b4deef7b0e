//! `leaseboot-lm console`: a terminal on a server that stays in rescue mode, by way of the Lease Manager that runs here.

use super::ConfigPath;
use crate::audit;
use crate::config::Config;
use crate::console::{OPERATOR, SOCKET};
use anyhow::{Context as _, bail};
use leaseboot_console::terminal;
use leaseboot_protocol::console::UPGRADE;
use leaseboot_protocol::ids::ServerId;
use reqwest::{Client, StatusCode, header};
use std::path::{Path, PathBuf};

/// Opens a console on a server in rescue mode; ~. at the beginning of a line leaves it
#[derive(Debug, clap::Args)]
pub struct Console {
    /// The server
    server: ServerId,
    #[command(flatten)]
    config: ConfigPath,
}

/// Runs the command.
///
/// # Errors
/// When no Lease Manager runs here, or it refuses.
pub async fn run(console: &Console) -> anyhow::Result<()> {
    let config = Config::load(&console.config.config)?;
    let socket = socket(&config);
    let who = audit::operator_name();
    let response = client(&socket)?
        // The host is never looked up: the connection is the socket's.
        .get(format!("http://lm/v1/console/{}", console.server))
        .header(OPERATOR, who)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, UPGRADE)
        .send()
        .await
        .with_context(|| {
            format!(
                "no leaseboot-lm answers on {}: start it with `leaseboot-lm serve`",
                socket.display()
            )
        })?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        bail!("{}", response.text().await?);
    }
    let session = response.upgrade().await?;
    eprintln!(
        "console of {}; ~. at the beginning of a line leaves it",
        console.server
    );
    let ended = terminal::attach(session).await.context("the terminal failed")?;
    eprintln!("\r\nconsole of {}: {ended}", console.server);
    Ok(())
}

/// Where the Lease Manager of this configuration answers.
pub(super) fn socket(config: &Config) -> PathBuf {
    config.path.parent().unwrap_or(Path::new("")).join(SOCKET)
}

pub(super) fn client(socket: &Path) -> anyhow::Result<Client> {
    // Only one provider is compiled in; reqwest asks for it to be chosen, also where no TLS is spoken.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        // No TLS is spoken here: without this line the system's certificates would be loaded.
        .tls_certs_only([])
        .unix_socket(socket)
        .build()
        .context("cannot make a client of the lease manager's socket")
}
