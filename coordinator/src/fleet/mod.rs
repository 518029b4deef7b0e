//! The lender's servers, as this Lease Manager knows them now.
//!
//! ```text
//! servers.toml ──at each start──┐
//! servers import FILE ──────────┼─► store ──changes──► Fleet: who has which card and address, the way to each power controller,
//! servers approve MAC ──────────┤                             and the index that searches look at
//! servers label, maintenance, … ┘
//! ```
//!
//! All that declares or changes a server writes into the store, and nothing else: the command line while the Lease Manager runs, other Lease
//! Managers on the same store, and this one when it takes a server. [`Fleet::sync`] reads the rows that were changed since it last did, which
//! is one cheap question when nothing was; it is asked before each search and once a second. What is looked up here may therefore be a moment old; who
//! *takes* a server asks the store, which alone decides.

mod approve;
mod compare;
mod policy;

pub use approve::{Approval, ApproveError, approve};
pub use compare::{Basis, Difference, DifferenceKind, compare};
pub use policy::{InventoryPolicy, Reaction};

use crate::config::Server;
use crate::power::PowerController;
use crate::search::{Candidate, Index, Query};
use crate::store::{Custody, FleetRow, Store, StoreError};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::{Refusal, SearchAnswer};
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::requirements::Group;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::Mutex;

/// How old what is known may become without a search.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

/// The fleet as it is known. Shared by all that looks servers up.
pub struct Fleet {
    store: Store,
    /// Where to go on reading. Held while reading, so that two readers do not overtake each other.
    watermark: Mutex<i64>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    servers: BTreeMap<ServerId, Arc<Member>>,
    addresses: HashMap<IpAddr, ServerId>,
    /// Cards of servers, also those that nobody declared. A declared card stays its server's.
    cards: HashMap<MacAddress, ServerId>,
    index: Index,
}

/// A server of the fleet.
pub struct Member {
    /// As it was declared, with the labels that it has now.
    pub server: Server,
    /// Who has it.
    pub custody: Custody,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Whether it ever reported its hardware, or the lender wrote it down.
    pub hardware_known: bool,
    /// Boots that were ordered to learn its hardware.
    pub inventory_boots: u32,
    /// Until when the last of them must have brought a report.
    pub inventory_deadline: Option<Timestamp>,
    /// The way to its power, or why there is none.
    pub power: Result<Arc<PowerController>, String>,
    /// Cards that it reported.
    cards: Vec<MacAddress>,
}

impl Fleet {
    /// Reads all servers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        let fleet = Self {
            store,
            watermark: Mutex::new(0),
            known: RwLock::default(),
        };
        fleet.sync().await?;
        Ok(fleet)
    }

    /// Reads what was changed since last time; tells whether there was something.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sync(&self) -> Result<bool, StoreError> {
        let mut watermark = self.watermark.lock().await;
        let first = *watermark == 0;
        let (rows, next) = self.store.fleet_changes(*watermark).await?;
        *watermark = next;
        if rows.is_empty() {
            return Ok(false);
        }
        let mut offers = false;
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            match first {
                true => known.fill(&rows),
                false => rows.iter().for_each(|row| offers |= known.put(row)),
            }
        }
        if offers {
            // It may have to be booted for its hardware report, or suit a lease that waits for a server.
            self.store.call_to_work();
        }
        Ok(true)
    }

    /// Follows the store for ever.
    pub async fn follow(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(FOLLOW_PAUSE).await;
            if let Err(error) = self.sync().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the fleet cannot be followed"
                );
            }
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of this name.
    pub fn get(&self, name: &ServerId) -> Option<Arc<Member>> {
        self.known().servers.get(name).cloned()
    }

    /// The server that this address belongs to.
    pub fn by_address(&self, address: IpAddr) -> Option<Arc<Member>> {
        let known = self.known();
        known
            .addresses
            .get(&address)
            .and_then(|name| known.servers.get(name))
            .cloned()
    }

    /// The server that has this card, whether it was declared or reported.
    pub fn by_card(&self, mac: MacAddress) -> Option<Arc<Member>> {
        let known = self.known();
        known
            .cards
            .get(&mac)
            .and_then(|name| known.servers.get(name))
            .cloned()
    }

    /// Servers that could be lent if their hardware were known.
    pub fn without_hardware(&self) -> Vec<Arc<Member>> {
        let known = self.known();
        let unknown = known.servers.values().filter(|member| {
            !member.hardware_known && member.custody == Custody::Free && !member.maintenance
        });
        unknown.cloned().collect()
    }

    /// Servers whose serial lines can be read.
    pub fn with_serial_lines(&self) -> Vec<Arc<Member>> {
        let known = self.known();
        let read = known
            .servers
            .values()
            .filter(|member| member.server.serial.is_some());
        read.cloned().collect()
    }

    /// The best server for one request.
    ///
    /// # Errors
    /// [`Refusal::NothingFits`].
    pub fn find(&self, query: &Query) -> Result<ServerId, Refusal> {
        self.known().index.find(query).cloned()
    }

    /// The best servers for a group.
    ///
    /// # Errors
    /// [`Refusal::NothingFits`].
    pub fn choose(&self, query: &Query, group: &Group) -> Result<Vec<ServerId>, Refusal> {
        let known = self.known();
        let chosen = known.index.choose(query, group)?;
        Ok(chosen.into_iter().cloned().collect())
    }

    /// What a request would find.
    pub fn look(&self, query: &Query, group: Option<&Group>) -> SearchAnswer {
        self.known().index.look(query, group)
    }
}

impl Known {
    /// For the first reading: the index is sorted once.
    fn fill(&mut self, rows: &[FleetRow]) {
        let there = rows.iter().filter(|row| row.retired.is_none());
        let labelled: Vec<_> = there.map(|row| (labels(row), row)).collect();
        self.index = labelled
            .iter()
            .map(|(labels, row)| Candidate {
                name: &row.declared.name,
                free: is_free(row),
                labels,
                hardware: row.hardware.as_ref(),
            })
            .collect();
        rows.iter().for_each(|row| self.remember(row));
    }

    /// Tells whether the server can be lent now and could not before, or is another to searches than it was.
    fn put(&mut self, row: &FleetRow) -> bool {
        let before = self.servers.get(&row.declared.name);
        let offered_before = before.is_some_and(|before| {
            before.custody == Custody::Free
                && !before.maintenance
                && before.hardware_known == row.hardware.is_some()
                && before.server.labels == labels(row)
        });
        match row.retired {
            Some(_) => self.index.remove(&row.declared.name),
            None => self.index.put(Candidate {
                name: &row.declared.name,
                free: is_free(row),
                labels: &labels(row),
                hardware: row.hardware.as_ref(),
            }),
        }
        self.remember(row);
        row.retired.is_none() && is_free(row) && !offered_before
    }

    /// Everything but the index.
    fn remember(&mut self, row: &FleetRow) {
        let name = &row.declared.name;
        let before = self.servers.remove(name);
        if let Some(before) = &before {
            let address = IpAddr::from(before.server.place.address.addr());
            if self.addresses.get(&address) == Some(name) {
                self.addresses.remove(&address);
            }
            for mac in before.cards.iter().chain([&before.server.place.mac]) {
                if self.cards.get(mac) == Some(name) {
                    self.cards.remove(mac);
                }
            }
        }
        if row.retired.is_some() {
            return;
        }
        let member = Member::new(row, before.as_deref());
        for mac in &member.cards {
            self.cards.entry(*mac).or_insert_with(|| name.clone());
        }
        let place = &member.server.place;
        self.cards.insert(place.mac, name.clone());
        self.addresses.insert(place.address.addr().into(), name.clone());
        self.servers.insert(name.clone(), Arc::new(member));
    }
}

impl Member {
    /// A controller that is as before is kept, with the session that it may have.
    fn new(row: &FleetRow, before: Option<&Self>) -> Self {
        let declared = &row.declared;
        let same = before.filter(|before| {
            before.server.power == declared.power
                && before.server.folder == declared.folder
                && before.power.is_ok()
        });
        let power = match same {
            Some(before) => before.power.clone(),
            None => PowerController::new(&declared.power, &declared.folder)
                .map(Arc::new)
                .map_err(|error| {
                    tracing::error!(server = %declared.name, error = &error as &dyn std::error::Error, "a server cannot be powered");
                    error.to_string()
                }),
        };
        let nics = row
            .hardware
            .iter()
            .flat_map(|hardware: &HardwareReport| &hardware.nics);
        Self {
            server: Server {
                labels: labels(row),
                hardware: None,
                ..declared.clone()
            },
            custody: row.custody,
            maintenance: row.maintenance.is_some(),
            hardware_known: row.hardware.is_some(),
            inventory_boots: row.inventory_boots,
            inventory_deadline: row.inventory_deadline,
            power,
            cards: nics.map(|nic| nic.mac).collect(),
        }
    }
}

fn is_free(row: &FleetRow) -> bool {
    row.custody == Custody::Free && row.maintenance.is_none()
}

/// The declared labels with what was changed since.
pub fn labels(row: &FleetRow) -> BTreeMap<String, String> {
    let mut labels = row.declared.labels.clone();
    for (name, value) in &row.labels {
        match value {
            Some(value) => labels.insert(name.clone(), value.clone()),
            None => labels.remove(name),
        };
    }
    labels
}
