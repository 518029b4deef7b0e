//! All borrowings of this process: it begins them, finds them by address for the service inside the tunnel and by name for people,
//! and keeps their drivers.

mod identities;
pub mod rescue;

use crate::announce::Roster;
use crate::borrowing::driver::{Denied, Driver, Input, Snapshot, Surroundings};
use crate::borrowing::machine::Event;
use crate::borrowing::view::BorrowingView;
use crate::borrowing::{BorrowingId, Order};
use crate::config::{ConfigError, GatewayConfig, PoConfig, Profile};
use crate::gateway::Peers;
use crate::lender::LenderError;
use crate::now;
use crate::policy::WantKey;
use crate::policy::desk::Desk;
use crate::progress::estimate::Course;
use crate::progress::{Progress, history};
use crate::store::{BootLogPiece, CreateError, Place, Record, StoreError};
use leaseboot_console::calls::Calls;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::requirements::Requirements;
use leaseboot_protocol::settings::{InstallSettings, TenantImage};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Inputs that may wait for a driver.
const INBOX: usize = 16;
/// Notes that are read from the store at once.
const PAGE: u32 = 256;
/// Earlier transfers of a profile that estimates are made of.
const COURSES: usize = 5;

/// What somebody wants to borrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// By which profile.
    pub profile: String,
    /// The server's name; absent for one by the profile's pattern.
    pub hostname: Option<Hostname>,
    /// The lenders to ask, in this order; empty for all.
    pub lenders: Vec<String>,
    /// Whose wish it is, when it is a policy's.
    pub want: Option<WantKey>,
}

/// Why no borrowing began.
#[derive(Debug, thiserror::Error)]
pub enum BorrowError {
    /// The profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ConfigError),
    /// There is no place for it.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A lender was named that po.toml does not know.
    #[error("the po.toml that is served has no lender {name:?}; it has {known}")]
    Lender {
        /// What was named.
        name: String,
        /// The names that there are.
        known: String,
    },
}

/// What cannot be released or followed.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Nothing has this name.
    #[error("there is no borrowing {0:?}; `leaseboot-po list` shows them by lease, name and identifier")]
    Unknown(String),
    /// It is over already.
    #[error("{0:?} is over already")]
    Over(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lender did not do it.
    #[error(transparent)]
    Lender(#[from] LenderError),
    /// The change cannot be written down.
    #[error("the change cannot be written down; the daemon's log tells why")]
    Denied,
}

struct Handle {
    id: BorrowingId,
    order: Arc<Order>,
    inbox: mpsc::Sender<Input>,
    snapshot: watch::Receiver<Snapshot>,
}

/// All borrowings.
pub struct Organizer<P> {
    folder: PathBuf,
    gateway: GatewayConfig,
    gateway_key: WireguardPublicKey,
    surroundings: Arc<Surroundings<P>>,
    live: Mutex<HashMap<IpAddr, Handle>>,
    /// Consoles that somebody waits for, by borrowing.
    calls: Calls,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<P: Peers> Organizer<P> {
    /// Takes up what the store holds. `stop` ends all drivers; [`Organizer::wait`] waits for them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start(
        folder: PathBuf,
        gateway: GatewayConfig,
        gateway_key: WireguardPublicKey,
        surroundings: Surroundings<P>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let organizer = Arc::new(Self {
            folder,
            gateway,
            gateway_key,
            surroundings: Arc::new(surroundings),
            live: Mutex::default(),
            calls: Calls::default(),
            tasks: TaskTracker::new(),
            stop,
        });
        let records = organizer.surroundings.store.all().await?;
        let announcer = &organizer.surroundings.announcer;
        announcer.restore(records.iter());
        announcer.follow(&organizer.tasks, &organizer.surroundings.store, &organizer.stop);
        let living: Vec<_> = records
            .into_iter()
            .filter(|record| !record.state.is_over())
            .collect();
        // All keys are claimed before the first driver hears of another.
        for record in &living {
            for peer in record.state.peers() {
                organizer.surroundings.claims.claim(peer.key, &record.id);
            }
        }
        for record in living {
            organizer.drive(record);
        }
        Ok(organizer)
    }

    /// Where events arrive for the policies of `config`; it shares the store.
    pub fn desk(&self, config: &PoConfig) -> Arc<Desk> {
        let store = self.surroundings.store.clone();
        let lenders = config.lender_names();
        Arc::new(Desk::new(
            store,
            config.policies(),
            config.folder.clone(),
            lenders,
        ))
    }

    /// Runs something that [`Organizer::wait`] waits for; it has to end when the daemon stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits until every driver has ended.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.surroundings.store.close().await;
    }

    /// Begins to borrow a server of `profile`.
    ///
    /// # Errors
    /// [`BorrowError`]; nothing was asked of the lender then.
    pub async fn borrow_server(
        self: &Arc<Self>,
        profile: &str,
        hostname: Option<Hostname>,
    ) -> Result<BorrowingView, BorrowError> {
        self.borrow(Wish {
            profile: profile.to_owned(),
            hostname,
            ..Wish::default()
        })
        .await
    }

    /// Begins to borrow a server.
    ///
    /// # Errors
    /// [`BorrowError`]; nothing was asked of a lender then.
    pub async fn borrow(self: &Arc<Self>, wish: Wish) -> Result<BorrowingView, BorrowError> {
        let Wish {
            hostname,
            lenders,
            want,
            ..
        } = wish;
        // A policy's were looked at with po.toml, and one of them may be gone since.
        if want.is_none()
            && let Some(name) = self.surroundings.lenders.unknown(&lenders)
        {
            let (name, known) = (name.clone(), self.surroundings.lenders.names());
            return Err(BorrowError::Lender { name, known });
        }
        let (profile, image) = self.measured(&wish.profile).await?;
        profile.check_install_servers(&self.folder, &self.surroundings.passage)?;
        let pattern = profile.hostname.clone();
        let name = move |taken: &dyn Fn(&Hostname) -> bool| match hostname {
            Some(name) if taken(&name) => Err(CreateError::NameTaken(name)),
            Some(name) => Ok(name),
            None => pattern.first_free(taken).ok_or(CreateError::NoName),
        };
        let order = |place| Order {
            lenders,
            ..self.order(profile, image, place)
        };
        let store = &self.surroundings.store;
        let pool = self.gateway.pool();
        let record = store.create_for(want.as_ref(), pool, name, order, now()).await?;
        tracing::info!(borrowing = %record.id, profile = record.order.settings.profile,
            hostname = %record.order.settings.hostname, address = %record.order.address(), "a borrowing begins");
        let view = BorrowingView::from(&record);
        self.drive(record);
        Ok(view)
    }

    /// The servers that the enterprise may count on.
    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.surroundings.announcer.roster()
    }

    /// All borrowings, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<BorrowingView>, StoreError> {
        let records = self.surroundings.store.all().await?;
        Ok(records.iter().map(BorrowingView::from).collect())
    }

    /// Gives the server of a borrowing back, once the profile's drain command has taken the load off it. The borrowing may be named by
    /// identifier, lease or host name.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn release(&self, name: &str) -> Result<BorrowingView, LookupError> {
        self.leave(name, Event::Release).await
    }

    /// Gives it back at once: whatever the server is doing is cut off.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn release_now(&self, name: &str) -> Result<BorrowingView, LookupError> {
        self.leave(name, Event::ReleaseNow).await
    }

    async fn leave(&self, name: &str, release: Event) -> Result<BorrowingView, LookupError> {
        let found = self.find(name).await?;
        if found.over {
            return Err(LookupError::Over(name.to_owned()));
        }
        match self.input(found.address, release).await {
            Ok(()) => self.find(found.id.as_str()).await,
            Err(Denied::NotNow) => Err(LookupError::Over(name.to_owned())),
            Err(Denied::Store) => Err(LookupError::Denied),
        }
    }

    /// Keeps the server of a borrowing for `term_s` seconds from now, or for the profile's or the lender's default.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn renew(&self, name: &str, term_s: Option<u64>) -> Result<BorrowingView, LookupError> {
        let found = self.find(name).await?;
        let handle = self
            .live()
            .get(&found.address)
            .map(|handle| Arc::clone(&handle.order));
        let (Some(lease), Some(order), false) = (&found.lease, handle, found.over) else {
            return Err(LookupError::Over(name.to_owned()));
        };
        let lender = self.surroundings.lenders.of(found.lender.as_deref())?;
        let view = lender.renew(lease, term_s.or(order.term_s)).await?;
        if let Some(expires) = view.expires {
            self.input(found.address, Event::Renewed(expires))
                .await
                .map_err(|denied| match denied {
                    Denied::NotNow => LookupError::Over(name.to_owned()),
                    Denied::Store => LookupError::Denied,
                })?;
        }
        self.find(found.id.as_str()).await
    }

    /// The borrowing with this identifier, lease or host name; of several, the latest.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find(&self, name: &str) -> Result<BorrowingView, LookupError> {
        let matches = |view: &BorrowingView| {
            view.id.as_str() == name
                || view.lease.as_ref().is_some_and(|lease| lease.as_str() == name)
                || view.hostname.as_str() == name
        };
        let found = self.list().await?.into_iter().rfind(matches);
        found.ok_or_else(|| LookupError::Unknown(name.to_owned()))
    }

    /// What a borrowed server said on its console, through the tunnel.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn boot_log(&self, name: &str) -> Result<Vec<BootLogPiece>, LookupError> {
        let view = self.find(name).await?;
        Ok(self.surroundings.store.boot_log(&view.id).await?)
    }

    /// The notes of a borrowing after position `after`; waits for one when there is none yet. Empty when nothing more will come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_progress(&self, id: &BorrowingId, after: u64) -> Result<Vec<Progress>, StoreError> {
        let snapshot = self
            .live()
            .values()
            .find(|handle| handle.id == *id)
            .map(|handle| handle.snapshot.clone());
        loop {
            let notes = self.surroundings.store.progress(id, after, PAGE).await?;
            if !notes.is_empty() {
                return Ok(notes);
            }
            let Some(mut snapshot) = snapshot.clone() else {
                return Ok(notes);
            };
            if snapshot
                .wait_for(|snapshot| snapshot.sequence > after)
                .await
                .is_err()
            {
                // The driver ended between the two looks.
                return self.surroundings.store.progress(id, after, PAGE).await;
            }
        }
    }

    /// The courses of the latest transfers of `profile`, for estimates.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn courses(&self, profile: &str) -> Result<Vec<Course>, StoreError> {
        history::courses(&self.surroundings.store, profile, COURSES).await
    }

    /// Loads the profile and reads its image to the end, away from the other tasks.
    async fn measured(&self, profile: &str) -> Result<(Profile, TenantImage), ConfigError> {
        let (folder, name) = (self.folder.clone(), profile.to_owned());
        let measure = move || {
            let profile = Profile::load(&folder, &name)?;
            let image = profile.image.measure()?;
            Ok((profile, image))
        };
        match tokio::task::spawn_blocking(measure).await {
            Ok(measured) => measured,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn order(&self, profile: Profile, image: TenantImage, place: Place) -> Order {
        Order {
            request_id: BorrowingId::generate().to_string(),
            // A lender's search leaves servers out that the image cannot run on.
            requirements: Requirements {
                architecture: profile
                    .requirements
                    .architecture
                    .clone()
                    .or_else(|| profile.image.architecture.clone()),
                ..profile.requirements
            },
            settings: InstallSettings {
                profile: profile.name,
                hostname: place.hostname,
                installer: profile.installer,
                kickstart: profile.kickstart,
                kickstart_origin: profile.kickstart_origin,
                sealed: profile.sealed.keys().cloned().collect(),
                tunnel: self.gateway.settings(place.address, self.gateway_key),
                image,
                min_memory_mib: profile.image.min_memory_mib,
                architecture: profile.image.architecture,
            },
            lenders: Vec::new(),
            files: profile.image.files,
            sealed: profile.sealed,
            term_s: profile.term_s,
            renew: profile.renew,
            membership: profile.membership,
            install_servers: profile.install_servers,
        }
    }

    fn drive(self: &Arc<Self>, record: Record) {
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (publish, snapshot) = watch::channel(Snapshot {
            state: record.state.clone(),
            sequence: 0,
        });
        let order = Arc::new(record.order.clone());
        let (id, address) = (record.id.clone(), order.address());
        let handle = Handle {
            id: id.clone(),
            order: Arc::clone(&order),
            inbox,
            snapshot,
        };
        self.live().insert(address, handle);
        let driver = Driver::new(record, order, Arc::clone(&self.surroundings), inputs, publish);
        let organizer = Arc::clone(self);
        self.tasks.spawn(async move {
            driver.run(organizer.stop.clone()).await;
            let mut live = organizer.live();
            // The address may have been given out again the moment the borrowing was over.
            if live.get(&address).is_some_and(|handle| handle.id == id) {
                live.remove(&address);
            }
        });
    }

    fn live(&self) -> MutexGuard<'_, HashMap<IpAddr, Handle>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an input to the driver of the borrowing that has `address`, and waits until it is written down.
    async fn input(&self, address: IpAddr, event: Event) -> Result<(), Denied> {
        let inbox = self.live().get(&address).map(|handle| handle.inbox.clone());
        let (reply, answer) = oneshot::channel();
        let input = Input { event, reply };
        inbox
            .ok_or(Denied::NotNow)?
            .send(input)
            .await
            .map_err(|_| Denied::NotNow)?;
        answer.await.unwrap_or(Err(Denied::NotNow))
    }
}
