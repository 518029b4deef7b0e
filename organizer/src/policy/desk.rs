//! Where events arrive and policies are looked up: what the listener, the control socket and the driver share.

use super::decide::{Situation, Verdict, decide};
use super::file::Surroundings;
use super::{Policies, Want};
use crate::config::ConfigError;
use crate::error_chain;
use crate::events::listener::{Keeper, NotKept};
use crate::events::{Event, Known};
use crate::now;
use crate::store::{HearError, Store, StoreError};
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// Events and policies.
pub struct Desk {
    pub(super) store: Store,
    path: PathBuf,
    folder: PathBuf,
    lenders: Vec<String>,
    loaded: Mutex<Loaded>,
    /// Something was raised.
    pub(super) raised: Notify,
}

/// The policies in force, and why a later file is not.
#[derive(Clone, Default)]
pub(super) struct Loaded {
    pub(super) policies: Policies,
    pub(super) problem: Option<String>,
    /// When the file that was read last was written, and its length.
    stamp: Option<(SystemTime, u64)>,
    read: bool,
}

/// What the store knows at one moment.
pub(super) struct Knowledge {
    pub(super) events: Vec<Known>,
    pub(super) wants: Vec<Want>,
    last: BTreeMap<String, Timestamp>,
    by_hand: u32,
    pub(super) now: Timestamp,
}

impl Knowledge {
    pub(super) fn verdicts(&self, policies: &Policies) -> Vec<Verdict> {
        decide(&Situation {
            policies,
            events: &self.events,
            wants: &self.wants,
            last: &self.last,
            by_hand: self.by_hand,
            now: self.now,
        })
    }
}

impl Desk {
    /// A desk with the policies of `path`, for profiles below `folder` and the lenders that po.toml names.
    pub fn new(store: Store, path: PathBuf, folder: PathBuf, lenders: Vec<String>) -> Self {
        let desk = Self {
            store,
            path,
            folder,
            lenders,
            loaded: Mutex::default(),
            raised: Notify::new(),
        };
        desk.refresh();
        desk
    }

    /// Reads the file again if it changed. A broken one is told of, and leaves in force what was read before.
    pub(super) fn refresh(&self) {
        let metadata = std::fs::metadata(&self.path).ok();
        let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        let mut loaded = self.loaded();
        if loaded.read && loaded.stamp == stamp {
            return;
        }
        (loaded.read, loaded.stamp) = (true, stamp);
        match self.load() {
            Ok(policies) => {
                tracing::info!(policies = policies.list.len(), file = %self.path.display(), "policies are in force");
                (loaded.policies, loaded.problem) = (policies, None);
            }
            Err(error) => {
                let problem = error_chain(&error);
                tracing::error!(
                    problem,
                    "the policies cannot be read; those read before stay in force"
                );
                loaded.problem = Some(problem);
            }
        }
    }

    fn load(&self) -> Result<Policies, ConfigError> {
        let around = Surroundings {
            folder: &self.folder,
            lenders: &self.lenders,
        };
        Policies::load(&self.path, &around)
    }

    pub(super) fn in_force(&self) -> Loaded {
        self.loaded().clone()
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn knowledge(&self) -> Result<Knowledge, StoreError> {
        Ok(Knowledge {
            events: self.store.events().await?,
            wants: self.store.wants().await?,
            last: self.store.last_decisions().await?,
            by_hand: self.store.borrowed_by_hand().await?,
            now: now(),
        })
    }

    /// Keeps events and wakes the driver.
    ///
    /// # Errors
    /// [`HearError`]; none is kept then.
    pub async fn hear(&self, events: Vec<Event>) -> Result<(), HearError> {
        for event in &events {
            tracing::info!(key = %event.key, %event, status = ?event.status, source = event.source, "an event is raised");
        }
        self.store.hear(events, now()).await?;
        self.raised.notify_one();
        Ok(())
    }
}

impl Keeper for Desk {
    async fn keep(&self, events: Vec<Event>) -> Result<(), NotKept> {
        self.hear(events).await.map_err(|error| {
            tracing::error!(error = error_chain(&error), "events are not kept");
            match error {
                HearError::TooMany => NotKept::TooMany,
                HearError::Store(_) => NotKept::Store,
            }
        })
    }
}
