//! The lender's serial lines: what a server's UART says while a lease boots it, firmware and loaders included, which no agent can tell.
//!
//! ```text
//! servers.toml: serial = { file = "/var/log/console/r1s1.log" }            what conserver and its like write
//!               serial = { command = ["ipmitool", …, "sol", "activate"] }  a program that prints it
//!        │
//!        └─ every LOOK, for each such server whose lease boots ──► [`Lines`] ──► the boot's log, source "serial line"
//! ```
//!
//! Bounded like all logs of boots, and apart from what the agent says, so that neither takes the other's room. A server that no lease boots is not listened to: what its firmware
//! says then is nobody's lease.

mod lines;
mod source;

use crate::lease::Driver;
use crate::lease::driver::now;
use crate::store::BootName;
use leaseboot_protocol::boot_log::{LogLines, LogSource};
use leaseboot_protocol::ids::ServerId;
use lines::Lines;
use serde::{Deserialize, Serialize};
use source::Source;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the lines are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where a server's serial line can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SerialLine {
    /// A file that something else appends to; relative to the folder of the declaration.
    File(PathBuf),
    /// A program that prints it, run while a lease boots the server.
    Command(Vec<String>),
}

/// A line that is listened to.
struct Listening {
    boot: BootName,
    source: Source,
    lines: Lines,
}

/// Listens until `stop` is cancelled. Programs are ended then.
pub async fn run(lm: Arc<Driver>, stop: CancellationToken) {
    let mut listening: HashMap<ServerId, Listening> = HashMap::new();
    loop {
        // Goal: the next look, or the end.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let members = lm.fleet().with_serial_lines();
        listening.retain(|name, _| members.iter().any(|member| member.server.name == *name));
        for member in members {
            let name = &member.server.name;
            let boot = match lm.boot_under_way(name).await {
                Ok(boot) => boot,
                Err(error) => {
                    tracing::error!(server = %name, error = &error as &dyn std::error::Error, "whether a serial line is to be read cannot be found out");
                    continue;
                }
            };
            match (boot, &member.server.serial) {
                (Some(boot), Some(line)) => {
                    let same = listening.get(name).is_some_and(|known| known.boot == boot);
                    if !same {
                        // A later boot of the same lease goes on where the one before ended.
                        let before = listening.remove(name).map(|known| known.source);
                        let source = before.unwrap_or_else(|| Source::open(line, &member.server.folder));
                        let lines = Lines::default();
                        listening.insert(name.clone(), Listening { boot, source, lines });
                    }
                    if let Some(known) = listening.get_mut(name) {
                        listen(&lm, name, known).await;
                    }
                }
                _ => {
                    if let Some(mut known) = listening.remove(name) {
                        listen(&lm, name, &mut known).await;
                    }
                }
            }
        }
    }
}

async fn listen(lm: &Driver, server: &ServerId, listening: &mut Listening) {
    let bytes = match listening.source.read().await {
        Ok(bytes) => bytes,
        Err(error) => {
            if listening.lines.complain() {
                tracing::warn!(%server, %error, "a serial line cannot be read");
            }
            return;
        }
    };
    let lines = listening.lines.take(&bytes);
    if lines.is_empty() {
        return;
    }
    let said = LogLines {
        source: LogSource::Serial,
        lines,
    };
    if let Err(error) = lm.store().keep_boot_log(&listening.boot, &said, now()).await {
        tracing::error!(%server, error = &error as &dyn std::error::Error, "what a serial line said is not kept");
    }
}
