//! dnsmasq, the DHCP and TFTP server by other authors, with nothing but what a scenario tells it.

use crate::daemon::Daemon;
use crate::namespace::Namespace;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;

const READY: Duration = Duration::from_secs(10);

/// Starts it in a namespace with these words of its command line, and waits until its log says `ready`. No file of the host's is read, no name
/// is served, and the log tells every DHCP message.
pub async fn start(namespace: &Namespace, words: &[String], log: &Path, ready: &str) -> Result<Daemon> {
    let mut command = namespace.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--log-dhcp",
    ]);
    command.args(words);
    let mut daemon = Daemon::start("dnsmasq", command, log)?;
    let waited = daemon.ready(ready, READY).await;
    waited.with_context(|| format!("dnsmasq in {} does not serve", namespace.name()))?;
    Ok(daemon)
}

/// The words of a server that gives addresses: it is the only one, keeps no file, and does not look whether an address answers.
pub const GIVES_ADDRESSES: [&str; 4] = [
    "--leasefile-ro",
    "--dhcp-authoritative",
    "--no-ping",
    "--bind-interfaces",
];
