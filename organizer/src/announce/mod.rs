//! The enterprise learns which borrowed servers it may count on.
//!
//! Announcements are not events that can be lost but a state that is kept up: the [`Roster`] is a function of the borrowings, is made anew
//! from the store at each start, and says what every channel should show. What a channel shows is brought into line with it, over and over.
//!
//! | module | channel | how it is kept up |
//! |---|---|---|
//! | [`hosts`] | fragment for hosts(5) | written whole, replaced by rename |
//! | [`inventory`] | Ansible dynamic inventory | computed when asked |
//! | [`http_sd`] | Prometheus' discovery by HTTP | computed when asked |
//! | [`dns`] | dynamic updates (RFC 2136) | journal: see [`plan`] |
//! | [`hook`] | a program of the enterprise's own | journal: see [`plan`] |
//!
//! The last two have a memory that is not ours, so the PO writes down what each was told before it tells it ([`plan`] is pure, `reconcile`
//! carries the plan out). A PO that was killed finds there what has to be undone.
//!
//! Nothing of this holds a transfer up, with one exception that has a deadline: a server that is given back keeps its place in the tunnel
//! until no channel shows it any more, or until [`WITHDRAWAL`] is over.

pub mod dns;
pub mod hook;
pub mod hosts;
pub mod http_sd;
pub mod inventory;
pub mod plan;
mod reconcile;
pub mod roster;

pub use roster::{Entry, Roster};

use crate::borrowing::machine::State;
use crate::borrowing::{BorrowingId, Order};
use crate::config::AnnounceConfig;
use crate::store::{Record, Store};
use reconcile::Reconciler;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a release waits for channels that do not answer. They are told as soon as they do.
pub const WITHDRAWAL: Duration = Duration::from_secs(30);

/// Keeps all channels up.
pub struct Announcer {
    hosts: PathBuf,
    config: AnnounceConfig,
    roster: watch::Sender<Roster>,
    standing: Standing,
}

impl Announcer {
    /// An announcer that writes the fragment `hosts` and keeps up what `config` names. Nothing happens before [`Announcer::follow`].
    pub fn new(hosts: PathBuf, config: AnnounceConfig) -> Self {
        Self {
            hosts,
            config,
            roster: watch::channel(Roster::default()).0,
            standing: Standing::default(),
        }
    }

    /// Begins with the borrowings that the store holds.
    pub fn restore<'a>(&self, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            self.show(&record.id, &record.order, &record.state);
        }
    }

    /// Starts the tasks that bring the channels into line; `stop` ends them.
    pub fn follow(&self, tasks: &TaskTracker, store: &Store, stop: &CancellationToken) {
        let roster = || self.roster.subscribe();
        let standing = || self.standing.clone();
        // All are known before the first has begun: whoever waits for a withdrawal waits for each.
        self.standing.expect(hosts::NAME);
        tasks.spawn(hosts::follow(
            self.hosts.clone(),
            roster(),
            standing(),
            stop.clone(),
        ));
        self.standing.expect(hook::NAME);
        let hook = hook::Hook::new(self.config.hook.clone(), store.clone());
        tasks.spawn(Reconciler::new(hook, store.clone(), roster(), standing()).run(stop.clone()));
        match &self.config.dns {
            Some(dns) => {
                self.standing.expect(dns::NAME);
                let dns = dns::Dns::new(dns.clone());
                tasks.spawn(Reconciler::new(dns, store.clone(), roster(), standing()).run(stop.clone()));
            }
            None => drop(tasks.spawn(dns::complain_of_leftovers(store.clone()))),
        }
    }

    /// A borrowing is in this state now. Called when it is written down.
    pub fn show(&self, id: &BorrowingId, order: &Order, state: &State) {
        let entry = Entry::of(id, order, state);
        self.roster.send_if_modified(|roster| roster.set(id, entry));
    }

    /// The servers that the enterprise may count on.
    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.roster.subscribe()
    }

    /// Ends when no channel shows the borrowing any more, with `true`, or when [`WITHDRAWAL`] is over, with `false`. Cancel-safe.
    pub async fn withdrawn(&self, id: &BorrowingId) -> bool {
        let version = self.roster.borrow().version;
        tokio::time::timeout(WITHDRAWAL, self.standing.without(id, version))
            .await
            .is_ok()
    }
}

/// What the channels have seen of the roster, and whom each of them may still show.
#[derive(Clone, Default)]
struct Standing {
    channels: watch::Sender<BTreeMap<&'static str, Seen>>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    version: Option<u64>,
    shown: BTreeSet<BorrowingId>,
}

impl Standing {
    fn expect(&self, channel: &'static str) {
        self.channels.send_modify(|channels| {
            channels.entry(channel).or_default();
        });
    }

    fn set(&self, channel: &'static str, version: u64, shown: BTreeSet<BorrowingId>) {
        let seen = Seen {
            version: Some(version),
            shown,
        };
        self.channels.send_if_modified(|channels| {
            let before = channels.insert(channel, seen.clone());
            before != Some(seen)
        });
    }

    async fn without(&self, id: &BorrowingId, version: u64) {
        let gone = |seen: &Seen| seen.version >= Some(version) && !seen.shown.contains(id);
        let mut channels = self.channels.subscribe();
        // The sender lives in `self`.
        let _ = channels.wait_for(|channels| channels.values().all(gone)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_server_is_withdrawn_when_every_channel_has_looked_and_none_shows_it() {
        let standing = Standing::default();
        let id = BorrowingId::from_text("b-1");
        standing.expect("a");
        standing.expect("b");
        let shows = |channel, version, shown: &[&BorrowingId]| {
            standing.set(channel, version, shown.iter().copied().cloned().collect());
        };
        let gone = || standing.without(&id, 3).now_or_never().is_some();
        assert!(!gone(), "nobody has looked");
        shows("a", 3, &[]);
        assert!(!gone(), "b has not looked");
        shows("b", 2, &[]);
        assert!(!gone(), "b has looked too early");
        shows("b", 4, &[&id]);
        assert!(!gone(), "b may show it");
        shows("b", 4, &[]);
        assert!(gone());
    }
}
