//! `[events]` of `po.toml`: where the enterprise's services raise events, and who may.

use super::sealed::demand_private;
use super::source::{ConfigError, Source};
use crate::error_chain;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsTable {
    listen: Spanned<SocketAddr>,
    token: Option<Spanned<PathBuf>>,
}

/// Where events are heard, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// The file of the token that speakers must know; without it only this machine is heard.
    pub token: Option<PathBuf>,
}

/// A network is let in only with a token: whoever raises events borrows servers, and has them given back.
pub(super) fn read(source: &Source, table: EventsTable) -> Result<EventsConfig, ConfigError> {
    let listen = *table.listen.get_ref();
    if table.token.is_none() && !listen.ip().is_loopback() {
        let problem = format!(
            "listen {listen} is open to a network, and no token says who may speak; add token = \"events.token\" (a file with mode 0600), or listen on 127.0.0.1"
        );
        return Err(source.at(table.listen.span(), problem));
    }
    let token = match table.token {
        None => None,
        Some(written) => {
            let path = source.folder().join(written.get_ref());
            demand_private(&path).map_err(|error| source.at(written.span(), error_chain(&error)))?;
            Some(path)
        }
    };
    Ok(EventsConfig { listen, token })
}
