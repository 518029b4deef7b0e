//! See [`crate::fuzzing`].

use super::{Source, Wire, servers, table};
use std::path::Path;

fn source<'a>(path: &'a Path, bytes: &[u8]) -> Option<Source<'a>> {
    let text = std::str::from_utf8(bytes).ok()?.to_owned();
    Some(Source::new(path, text, None))
}

fn read(source: &Source<'_>) {
    let wire = Wire {
        interface: "br0".to_owned(),
        address: "10.10.0.1/24".parse().expect("a network"),
        router: None,
        mtu: 1500,
        subnets: Vec::new(),
        pool: None,
        ipv6: None,
    };
    if let Err(error) = servers::parse(source, &wire) {
        assert!(!error.to_string().is_empty());
    }
}

/// A `servers.toml`.
pub(crate) fn servers_toml(bytes: &[u8]) {
    if let Some(source) = source(Path::new("/lm/servers.toml"), bytes) {
        read(&source);
    }
}

/// A table of servers.
pub(crate) fn servers_csv(bytes: &[u8]) {
    if let Some(Ok(text)) = source(Path::new("/lm/servers.csv"), bytes).map(table::as_toml) {
        read(&text);
    }
}
