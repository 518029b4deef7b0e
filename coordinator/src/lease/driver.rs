//! The one who makes things happen: applies events to leases, and carries out what the store says is left to do.
//!
//! Applying is done by whoever brings the event, in [`Driver::apply`]: read, step, write if nobody was faster, else once more. The loop of
//! [`Driver::run`] has no memory of its own: it looks at power orders and deadlines in the store, so it goes on after a restart where it was.

use super::attention::needs_action;
use super::deadline::Rules;
use super::machine::{Effect, Event, Lease, OutOfPlace, Phase};
use super::power_queue::PowerQueue;
use super::reserved::Reserved;
use crate::audit::Deed;
use crate::config::Config;
use crate::erasure::Signer;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::pki::Authority;
use crate::store::{Change, DeclareError, KickstartRecord, LeaseRecord, Store, StoreError};
use crate::tenants::{Enrolment, RateLimiter};
use leaseboot_console::calls::Calls;
use leaseboot_protocol::erasure::SignedErasure;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// How often a lease may be changed by others between reading and writing before that is an error.
const MOST_COLLISIONS: u32 = 20;
/// How long to wait when the store fails.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long after a search for leases that wait for another server the next one comes.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);
/// How long after a look for old boot logs the next one comes.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// The loop looks at least this often: clocks are set, and files are changed by hand.
pub(super) const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Leases, servers and what is known about them.
pub struct Driver {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) fleet: Fleet,
    /// The CA that servers are given to trust, in PEM.
    pub(super) ca_pem: String,
    pub(super) metrics: Metrics,
    /// Signs erasure records.
    pub(super) signer: Signer,
    /// Site archives that were promised to a card and not yet fetched.
    pub(super) sites: Mutex<super::boots::Sites>,
    /// Requests of each tenant, lately.
    pub(super) rates: Mutex<RateLimiter>,
    /// The desk where tenants enrol.
    enrolment: Enrolment,
    /// When a wrong token was last written down for a server, so that nobody can fill its history.
    pub(super) wrong_tokens: Mutex<HashMap<ServerId, Instant>>,
    /// Servers that requests under way are about to take.
    pub(super) reserved: Reserved,
    /// Consoles that an operator here waits for.
    pub(super) consoles: Calls,
    /// When servers may be looked for again for leases that wait for one.
    next_search: Mutex<Timestamp>,
    /// When old boot logs are looked for again.
    next_sweep: Mutex<Timestamp>,
}

/// Something inside failed, or an event does not fit.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// There is no such lease.
    #[error("there is no lease {id}")]
    NoLease {
        /// The name.
        id: LeaseId,
    },
    /// The event does not fit the state.
    #[error(transparent)]
    OutOfPlace(#[from] OutOfPlace),
    /// Too many changes at once.
    #[error("the lease {id} was changed {MOST_COLLISIONS} times while one event was applied to it")]
    Collisions {
        /// The lease.
        id: LeaseId,
    },
    /// No random numbers.
    #[error("cannot get random numbers from the kernel")]
    Random(#[from] getrandom::Error),
    /// The lender's servers cannot be put on record.
    #[error("the servers of servers.toml cannot be put on record")]
    Declare(#[from] DeclareError),
    /// A lease is on a server that is not in the fleet any more.
    #[error("the server {server} of the lease {lease} is not in the fleet any more: declare it again")]
    NoServer {
        /// The server.
        server: ServerId,
        /// The lease.
        lease: LeaseId,
    },
    /// An erasure record cannot be written down.
    #[error("cannot write the erasure record of the lease {lease} down")]
    Record {
        /// The lease.
        lease: LeaseId,
        /// Why.
        source: serde_json::Error,
    },
}

/// What a change brings besides its events.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    /// The merge that the settings brought.
    pub(super) kickstart: Option<KickstartRecord>,
    /// The erasure record.
    pub(super) erasure: Option<SignedErasure>,
    /// The power order that this answers; without it on record, nothing is changed.
    pub(super) answered: Option<i64>,
}

/// The time by the LM's clock.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

impl Driver {
    /// Puts the servers of `servers.toml` on record and learns of all others.
    ///
    /// # Errors
    /// [`DriverError::Declare`], [`DriverError::Store`].
    pub async fn new(
        config: Config,
        store: Store,
        ca_pem: String,
        signer: Signer,
    ) -> Result<Arc<Self>, DriverError> {
        store
            .declare_servers(config.servers.values(), false, now())
            .await?;
        let fleet = Fleet::open(store.clone()).await?;
        let enrolment = Enrolment::new(
            authority(&config),
            ca_pem.clone(),
            format!("{}\n", signer.public_key()),
        );
        Ok(Arc::new(Self {
            rates: Mutex::default(),
            enrolment,
            config,
            store,
            fleet,
            ca_pem,
            metrics: Metrics::default(),
            signer,
            sites: Mutex::default(),
            wrong_tokens: Mutex::default(),
            reserved: Reserved::default(),
            consoles: Calls::default(),
            next_search: Mutex::new(Timestamp(0)),
            next_sweep: Mutex::new(Timestamp(0)),
        }))
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The desk where tenants enrol.
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The lender's servers.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What the lender wrote down.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.config.rules
    }

    /// Applies events in order, as one change.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn apply(&self, id: &LeaseId, events: &[Event]) -> Result<LeaseRecord, DriverError> {
        Ok(self
            .apply_with(id, events, Extras::default())
            .await?
            .unwrap_or_else(|known| known))
    }

    /// As [`Driver::apply`], with what comes besides. `Err` inside is the lease as it stands when the power order that is answered
    /// is not on record any more.
    ///
    /// A lease that comes to need another server, or needs one already, is given one here if one fits, so that a server that fails
    /// and the one that takes its place change hands in one transaction.
    pub(super) async fn apply_with(
        &self,
        id: &LeaseId,
        events: &[Event],
        extras: Extras,
    ) -> Result<Result<LeaseRecord, LeaseRecord>, DriverError> {
        let answered = extras.answered;
        for _ in 0..MOST_COLLISIONS {
            let before = self.lease(id).await?;
            let mut change = Change {
                lease: before.lease.clone(),
                effects: Vec::new(),
                kickstart: extras.kickstart.clone(),
                erasure: extras.erasure.clone(),
                answered,
                deeds: deeds(&before, events),
                at: now(),
            };
            for event in events {
                self.step(&mut change, event.clone())?;
            }
            if let Phase::Moving { .. } = change.lease.phase
                && let Some((server, kickstart)) = self.replacement(&before, &change.lease).await?
            {
                change.kickstart = Some(kickstart);
                self.step(&mut change, Event::ServerFound(server))?;
            }
            if changes_nothing(&before.lease, &change) {
                return Ok(Ok(before));
            }
            let effects = change.effects.clone();
            let calls = needs_action(&before.lease, &change.lease, &effects, change.at);
            let begun = Instant::now();
            let committed = self.store.commit(&before, change).await?;
            self.metrics.commit(begun.elapsed());
            if committed {
                log(&before, &effects);
                self.metrics.effects(&effects);
                self.store.announce(id, calls);
                return Ok(Ok(self.lease(id).await?));
            }
            if let Some(order) = answered
                && !self.store.power_orders().await?.iter().any(|row| row.id == order)
            {
                return Ok(Err(before));
            }
        }
        Err(DriverError::Collisions { id: id.clone() })
    }

    fn step(&self, change: &mut Change, event: Event) -> Result<(), OutOfPlace> {
        let step = change.lease.clone().step(event, change.at, self.rules())?;
        let state = step.lease.phase.state();
        change.lease = step.lease;
        let effects = step.effects.into_iter().map(|effect| (state, effect));
        change.effects.extend(effects);
        Ok(())
    }

    pub(super) async fn lease(&self, id: &LeaseId) -> Result<LeaseRecord, DriverError> {
        let found = self.store.lease(id).await?;
        let lease = found.ok_or_else(|| DriverError::NoLease { id: id.clone() })?;
        concern(&lease);
        Ok(lease)
    }

    /// Carries out power orders and watches deadlines until `stop` is cancelled. Orders that are under way are dropped then, and found
    /// again at the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut queue = PowerQueue::default();
        let mut work = self.store.work();
        // A task of its own: a future that rests between two rounds could hold what a round waits for. It ends with this function.
        let mut follower = JoinSet::new();
        let driver = self.clone();
        follower.spawn(async move { driver.fleet.follow().await });
        loop {
            work.borrow_and_update();
            let nap = match self.look(&mut queue).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the driver could not do its round"
                    );
                    STORE_PAUSE
                }
            };
            // Goal: the next thing to do. Waiting for a change, a time or a finished order loses nothing when it is dropped: a finished
            // order stays in its set until it is taken out.
            tokio::select! {
                () = stop.cancelled() => break,
                _ = work.changed() => {}
                () = tokio::time::sleep(nap) => {}
                done = queue.next() => {
                    if let Err(error) = queue.answer(&self, done).await {
                        tracing::error!(error = &error as &dyn std::error::Error, "the outcome of a power order could not be kept");
                    }
                }
            }
        }
        drop(queue);
        if let Err(error) = self.store.release_power_orders().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "claimed power orders could not be given up; others wait until the claims end"
            );
        }
    }

    /// One round: everything that is due. Gives the time until the next.
    async fn look(self: &Arc<Self>, queue: &mut PowerQueue) -> Result<Duration, DriverError> {
        self.fleet.sync().await?;
        for lease in self.store.due_leases(now()).await? {
            let span = tracing::info_span!("deadline", lease = %lease.id, server = %lease.lease.server);
            let applied = self.apply(&lease.id, &[Event::DeadlinePassed]).instrument(span);
            if let Err(error) = applied.await {
                tracing::error!(lease = %lease.id, server = %lease.lease.server, error = &error as &dyn std::error::Error, "a deadline could not be kept");
            }
        }
        self.sweep_logs(now()).await?;
        let moves = self.move_leases(now()).await?;
        let inventory = self.order_inventories().await?;
        let order = queue.start_due(self, now()).await?;
        let deadline = self.store.next_deadline().await?;
        let next = [moves, inventory, order, deadline].into_iter().flatten().min();
        let nap = next.map_or(LONGEST_NAP, |at| at.since(now()));
        // What is overdue could not be done now: it is tried again, but not at once.
        Ok(if nap.is_zero() {
            STORE_PAUSE
        } else {
            nap.min(LONGEST_NAP)
        })
    }

    /// Forgets what boots said long ago, now and then.
    async fn sweep_logs(&self, at: Timestamp) -> Result<(), DriverError> {
        {
            let mut next = locked(&self.next_sweep);
            if *next > at {
                return Ok(());
            }
            *next = at + SWEEP_PAUSE;
        }
        let kept = (Timestamp(0) + self.config.logs.keep()).0;
        let before = Timestamp(at.0.saturating_sub(kept));
        let gone = self.store.forget_boot_logs(before).await?;
        if gone > 0 {
            tracing::info!(pieces = gone, "old boot logs were removed");
        }
        Ok(())
    }

    /// Looks for servers for the leases that wait for one. A busy fleet changes all the time, so this is not done at each change; gives the
    /// time of the next search when one was put off.
    async fn move_leases(&self, at: Timestamp) -> Result<Option<Timestamp>, DriverError> {
        let moving = self.store.leases_that_move().await?;
        if moving.is_empty() {
            return Ok(None);
        }
        {
            let mut next = locked(&self.next_search);
            if *next > at {
                return Ok(Some(*next));
            }
            *next = at + SEARCH_PAUSE;
        }
        for lease in moving {
            // Without an event: whatever fits by now is taken.
            if let Err(error) = self.apply(&lease, &[]).await {
                tracing::error!(%lease, error = &error as &dyn std::error::Error, "no other server could be looked for");
            }
        }
        Ok(None)
    }
}

/// Names lease and server in the span of the request or order that led to them, so that every later line of it has both.
pub(super) fn concern(lease: &LeaseRecord) {
    let span = tracing::Span::current();
    span.record("lease", lease.id.as_str());
    span.record("server", lease.lease.server.as_str());
}

/// The CA's key may be kept elsewhere: then nobody enrols here.
fn authority(config: &Config) -> Option<Authority> {
    let loaded = Authority::load(&config.identity.ca, &config.identity.ca_key);
    loaded
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "tenants cannot enrol here: the CA cannot sign"
            );
        })
        .ok()
}

/// What of these events is a tenant's own doing, for the audit log.
fn deeds(lease: &LeaseRecord, events: &[Event]) -> Vec<Deed> {
    let action = |event: &Event| match event {
        Event::SettingsMerged => Some("send settings"),
        Event::BootOrdered => Some("order the boot"),
        Event::MemberRegistered => Some("register the member"),
        Event::MemberSeen => Some("see the member in service"),
        Event::Released => Some("give back"),
        _ => None,
    };
    let actions = events.iter().filter_map(action);
    actions
        .map(|action| Deed::of_tenant(&lease.tenant, action).on(Some(&lease.id), Some(&lease.lease.server)))
        .collect()
}

/// A lock whose holder panicked still guards whole values here: each critical section is one statement.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changes_nothing(before: &Lease, change: &Change) -> bool {
    let Change {
        kickstart,
        erasure,
        answered,
        ..
    } = change;
    let brings = kickstart.is_some() || erasure.is_some() || answered.is_some();
    change.lease == *before && change.effects.is_empty() && !brings
}

fn log(before: &LeaseRecord, effects: &[(LeaseState, Effect)]) {
    use leaseboot_protocol::lease::EventKind;
    for (state, effect) in effects {
        match effect {
            Effect::Record(EventKind::StepProgress { .. }) => {}
            Effect::Record(what) => {
                tracing::info!(lease = %before.id, server = %before.lease.server, %state, ?what, "lease");
            }
            Effect::Power { order, .. } => {
                tracing::info!(lease = %before.id, server = %before.lease.server, %order, "power is ordered");
            }
            Effect::RevokeTokens | Effect::Works(_) => {}
            Effect::LetGo(release) => {
                tracing::info!(lease = %before.id, server = %before.lease.server, ?release, "the server is let go");
            }
            Effect::Take(server) => {
                tracing::info!(lease = %before.id, %server, "the lease moves to another server");
            }
        }
    }
}
