//! A fragment for hosts(5), replaced whole. Whoever wants it in `/etc/hosts` or in dnsmasq's `addn-hosts` names the file there.

use super::{Roster, Standing};
use crate::{error_chain, files};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(super) const NAME: &str = "hosts";
const PAUSE: Duration = Duration::from_secs(5);

/// The file's text.
pub fn text(roster: &Roster) -> String {
    let mut lines: Vec<_> = roster
        .entries
        .values()
        .map(|entry| (entry.address, &entry.hostname))
        .collect();
    lines.sort_unstable();
    let mut text = "# Borrowed servers in service; leaseboot-po replaces this file.\n".to_owned();
    for (address, hostname) in lines {
        let _ = writeln!(text, "{address} {hostname}");
    }
    text
}

/// Keeps the file up until `stop` is cancelled.
pub(super) async fn follow(
    path: PathBuf,
    mut roster: watch::Receiver<Roster>,
    standing: Standing,
    stop: CancellationToken,
) {
    loop {
        let present = roster.borrow_and_update().clone();
        let written = files::replace(&path, 0o644, text(&present).as_bytes());
        let pause = match written {
            Ok(()) => {
                standing.set(NAME, present.version, present.entries.into_keys().collect());
                Duration::MAX
            }
            Err(error) => {
                tracing::error!(
                    error = error_chain(&error),
                    "the hosts fragment is out of date; trying again"
                );
                PAUSE
            }
        };
        // Goal: one more look. Waiting is all that is dropped.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = roster.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::roster::sample;

    #[test]
    fn one_line_for_each_server_in_the_order_of_addresses() {
        let mut roster = Roster::default();
        for n in [11, 9] {
            let entry = sample(n);
            roster.set(&entry.borrowing.clone(), Some(entry));
        }
        let text = text(&roster);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, ["10.99.0.9 web-9", "10.99.0.11 web-11"]);
    }
}
