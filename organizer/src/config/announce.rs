//! `[announce]` of `po.toml`: who is told of servers in service.

use super::source::{ConfigError, Source};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Spanned;

/// Who is told.
#[derive(Clone, Debug, Default)]
pub struct AnnounceConfig {
    /// Program and arguments to run when a server comes or goes; empty for none.
    pub hook: Vec<String>,
    /// Where Prometheus asks for targets.
    pub listen: Option<SocketAddr>,
    /// The DNS server.
    pub dns: Option<DnsConfig>,
}

/// A DNS server that takes dynamic updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The zone of hosts and services, with a dot at its end.
    pub zone: String,
    /// The zone of their addresses, with a dot at its end.
    pub reverse: Option<String>,
    /// The name of the key that signs updates.
    pub key_name: String,
    /// The file of its secret, in base64.
    pub key: PathBuf,
    /// Seconds that resolvers may keep a record.
    pub ttl_s: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    #[serde(default)]
    hook: Vec<String>,
    listen: Option<SocketAddr>,
    dns: Option<DnsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsTable {
    server: SocketAddr,
    zone: Spanned<String>,
    reverse: Option<Spanned<String>>,
    #[serde(default = "key_name")]
    key_name: Spanned<String>,
    #[serde(default = "key")]
    key: PathBuf,
    #[serde(default = "ttl_s")]
    ttl_s: u32,
}

fn key_name() -> Spanned<String> {
    Spanned::new(0..0, "leaseboot".to_owned())
}

fn key() -> PathBuf {
    PathBuf::from("dns.key")
}

/// A borrowed server is gone sooner than most.
fn ttl_s() -> u32 {
    60
}

impl Table {
    pub(super) fn check(self, source: &Source) -> Result<AnnounceConfig, ConfigError> {
        let dns = |table: DnsTable| {
            Ok(DnsConfig {
                server: table.server,
                zone: zone(source, &table.zone)?,
                reverse: table.reverse.map(|reverse| zone(source, &reverse)).transpose()?,
                key_name: zone(source, &table.key_name)?,
                key: source.folder().join(table.key),
                ttl_s: table.ttl_s,
            })
        };
        Ok(AnnounceConfig {
            hook: self.hook,
            listen: self.listen,
            dns: self.dns.map(dns).transpose()?,
        })
    }
}

/// A domain name, made absolute.
fn zone(source: &Source, name: &Spanned<String>) -> Result<String, ConfigError> {
    let text = name.get_ref().trim_end_matches('.');
    let fits = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    // With dot and length bytes a name has at most 255 bytes (RFC 1035, 2.3.4); a host's name has to go before it.
    if text.split('.').all(fits) && text.len() <= 180 {
        return Ok(format!("{}.", text.to_ascii_lowercase()));
    }
    let problem = format!(
        "{:?} is not a domain name of letters, digits, - and _; write one like \"borrowed.example.com\"",
        name.get_ref()
    );
    Err(source.at(name.span(), problem))
}
