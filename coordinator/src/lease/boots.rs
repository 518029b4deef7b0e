//! What a server that asks to boot is told, and the tokens that go with it.
//!
//! | whose card | told |
//! |---|---|
//! | a server whose lease is in the boot, or goes back | the agent, for the lease |
//! | a server whose agent has staged stage 2 on its disk | what lies there, by digests |
//! | a server that is installed or in service | its disk |
//! | any other server on record | the agent, for a hardware report, and off again: a server that was given back must not start its last system |
//! | a stranger | the agent, for a hardware report |
//!
//! Anybody on the wire can ask, so asking changes nothing: an attempt counts when the agent has spoken.
//!
//! A server that is to install is given the drivers of the hardware on record only, so that less crosses the wire. When such a boot stays silent, because a card is
//! not the one on record, the lease's next boots bring every driver. A boot for a hardware report or an erasure always does: it must see what nobody wrote down. So does one
//! for a disk image, whose file systems are in no archive of a driver.

use super::driver::{Driver, DriverError, locked, now};
use super::tokens;
use crate::boot::{AgentBoot, BootDirectory, BootError, BootPlan, Drivers, SiteArchiveId};
use crate::config::Server;
use crate::dhcp::{Card, DhcpMode, LoaderChoice};
use crate::metrics::BootRequest;
use crate::seldom::Seldom;
use crate::store::{BootTicket, DriverSet, NewBootToken};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ipnet::Ipv6Net;
use leaseboot_protocol::agent::BootFacts;
use leaseboot_protocol::handover::StagedFiles;
use leaseboot_protocol::hardware::PciDevice;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::network::{LenderAddress6, MacAddress};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

static ELSEWHERE: Seldom = Seldom::new();
/// A site archive must be fetched this soon after its script.
const SITE_TIME: Duration = Duration::from_secs(300);
/// Site archives that are promised at once; the oldest makes room.
const MOST_SITES: usize = 1024;

/// Site archives that were promised and not yet fetched, one for each card.
#[derive(Default)]
pub(super) struct Sites {
    promised: HashMap<MacAddress, Promise>,
    /// Cards in the order of their promises; may name a card more than once.
    order: VecDeque<MacAddress>,
}

struct Promise {
    id: SiteArchiveId,
    drivers: DriverSet,
    since: Instant,
}

impl Sites {
    fn promise(&mut self, mac: MacAddress, id: SiteArchiveId, drivers: DriverSet) {
        self.promised.insert(
            mac,
            Promise {
                id,
                drivers,
                since: Instant::now(),
            },
        );
        self.order.push_back(mac);
        while self.order.len() > MOST_SITES {
            if let Some(oldest) = self.order.pop_front()
                && !self.order.contains(&oldest)
            {
                self.promised.remove(&oldest);
            }
        }
    }

    /// The card that the archive was promised to, and the drivers that come with it; a second question finds nothing.
    fn redeem(&mut self, id: &SiteArchiveId) -> Option<(MacAddress, DriverSet)> {
        let mac = *self.promised.iter().find(|(_, promise)| promise.id == *id)?.0;
        let promise = self.promised.remove(&mac)?;
        self.order.retain(|other| *other != mac);
        (promise.since.elapsed() <= SITE_TIME).then_some((mac, promise.drivers))
    }
}

/// What a card's server is to do.
enum Purpose {
    Disk,
    Staged(StagedFiles),
    Agent(Option<LeaseId>),
    /// The agent, to take an installer in, on a server of which these PCI functions are on record.
    Install(LeaseId, Vec<PciDevice>),
}

impl Driver {
    async fn purpose(&self, server: Option<&ServerId>) -> Result<Purpose, DriverError> {
        let Some(name) = server else {
            return Ok(Purpose::Agent(None));
        };
        let record = self.store.server(name).await?;
        let Some((lease, hardware)) = record.and_then(|record| Some((record.lease?, record.hardware))) else {
            return Ok(Purpose::Agent(None));
        };
        let phase = self.lease(&lease).await?.lease.phase;
        if let Some(files) = phase.staged() {
            return Ok(Purpose::Staged(files.clone()));
        }
        Ok(match phase {
            phase if phase.boots_disk() => Purpose::Disk,
            phase if phase.wipes() => Purpose::Agent(Some(lease)),
            phase if phase.boots_agent() && self.writes_a_disk(&lease).await? => Purpose::Agent(Some(lease)),
            phase if phase.boots_agent() => Purpose::Install(lease, hardware.unwrap_or_default().pci),
            _ => Purpose::Agent(None),
        })
    }

    /// The file systems of disk images are only in the whole stage 1: no record of hardware asks for them.
    async fn writes_a_disk(&self, lease: &LeaseId) -> Result<bool, DriverError> {
        let merged = self.store.kickstart(lease).await?;
        Ok(merged.is_some_and(|merged| merged.settings.image.disk().is_some()))
    }

    async fn drivers(&self, mac: MacAddress, purpose: Purpose) -> Result<(DriverSet, Drivers), DriverError> {
        Ok(match purpose {
            Purpose::Install(_, functions) if functions.is_empty() => (DriverSet::All, Drivers::All),
            Purpose::Install(lease, functions) => match self.store.own_drivers_failed(mac, &lease).await? {
                true => (DriverSet::AllAfterOwn, Drivers::All),
                false => (DriverSet::Own, Drivers::Own(functions)),
            },
            Purpose::Agent(_) | Purpose::Staged(_) | Purpose::Disk => (DriverSet::All, Drivers::All),
        })
    }

    async fn boot_plan(&self, mac: MacAddress) -> Result<BootPlan, DriverError> {
        let member = self.fleet.by_card(mac);
        let server = member.as_ref().map(|member| &member.server);
        match self.purpose(server.map(|server| &server.name)).await? {
            Purpose::Disk => Ok(BootPlan::LocalDisk),
            Purpose::Staged(files) => Ok(BootPlan::Staged(Box::new(files))),
            purpose => {
                let (set, drivers) = self.drivers(mac, purpose).await?;
                if set == DriverSet::AllAfterOwn {
                    tracing::warn!(%mac, "a server did not come up with the drivers of the hardware on record; it gets all of them");
                }
                let site = SiteArchiveId::random()?;
                locked(&self.sites).promise(mac, site.clone(), set);
                Ok(BootPlan::Agent(Box::new(AgentBoot {
                    site,
                    drivers,
                    console: server.and_then(|server| server.console.clone()),
                    kernel_words: server
                        .map(|server| server.kernel_words.clone())
                        .unwrap_or_default(),
                })))
            }
        }
    }

    /// Makes the boot token. It is bound to the card, to the address that fetches the archive, and to the lease
    /// as it stands now.
    async fn boot_facts(&self, id: &SiteArchiveId, from: IpAddr) -> Result<Option<BootFacts>, DriverError> {
        let Some((mac, drivers)) = locked(&self.sites).redeem(id) else {
            return Ok(None);
        };
        let member = self.fleet.by_card(mac);
        let server = member.as_ref().map(|member| &member.server);
        if let IpAddr::V6(from) = from
            && !self.is_own_address6(server, from)
        {
            return Ok(None);
        }
        // Beside another DHCP server the place on record is a wish: the server asks for its address again.
        let ours = self.config.dhcp.mode == DhcpMode::Authoritative;
        let place = server
            .filter(|server| ours && from.is_ipv4() && server.place.mac == mac)
            .map(|server| server.place.clone());
        if let Some(place) = &place
            && IpAddr::from(place.address.addr()) != from
        {
            if let Some(spoken) = ELSEWHERE.speak() {
                tracing::warn!(%mac, %from, left_out = spoken.left_out, "a site archive was asked for from another address than its server's; refused");
            }
            return Ok(None);
        }
        let lease = match self.purpose(server.map(|server| &server.name)).await? {
            Purpose::Disk | Purpose::Staged(_) => return Ok(None),
            Purpose::Agent(lease) => lease,
            Purpose::Install(lease, _) => Some(lease),
        };
        let tagged = server
            .filter(|server| from.is_ipv4() && server.place.mac == mac)
            .and_then(|server| server.tagged.clone());
        // Where the hello will come from.
        let speaks_from = tagged.as_ref().map_or(from, |place| place.address.addr().into());
        let token = tokens::make()?;
        let lifetime = Duration::from_secs(self.rules().deadlines.booting.get().into());
        self.store
            .save_boot_token(&NewBootToken {
                sha256: tokens::digest(token.expose()),
                ticket: BootTicket {
                    mac,
                    server: server.map(|server| server.name.clone()),
                    lease,
                },
                address: speaks_from,
                expires: now() + lifetime,
                drivers,
            })
            .await?;
        Ok(Some(BootFacts {
            lm_url: self.config.api_url_for(from),
            lm_others: self.config.other_urls(from),
            lm_ca_pem: self.ca_pem.clone(),
            mac,
            address: tagged.or(place),
            address6: self.place6(from),
            own_drivers: drivers == DriverSet::Own,
            clock: now(),
            boot_token: token,
        }))
    }
}

impl Driver {
    /// Whether a server that has an address of IPv6 on record asks from there.
    fn is_own_address6(&self, server: Option<&Server>, from: Ipv6Addr) -> bool {
        let own = server.and_then(|server| server.address6);
        let other = own.filter(|own| *own != from);
        if let Some(own) = other
            && let Some(spoken) = ELSEWHERE.speak()
        {
            tracing::warn!(%own, %from, left_out = spoken.left_out, "a site archive was asked for from another address than its server's; refused");
        }
        other.is_none()
    }

    /// Where a server stands whose firmware speaks IPv6.
    fn place6(&self, from: IpAddr) -> Option<LenderAddress6> {
        let (IpAddr::V6(from), wire) = (from, &self.config.wire) else {
            return None;
        };
        let subnet = wire.ipv6.as_ref()?.network_of(from)?;
        Some(LenderAddress6 {
            address: Ipv6Net::new(from, subnet.network.prefix_len()).ok()?,
            router: subnet.router,
            mtu: wire.mtu,
        })
    }
}

impl BootDirectory for Driver {
    fn plan(&self, mac: MacAddress, _from: IpAddr) -> BoxFuture<'_, Result<BootPlan, BootError>> {
        self.metrics.boot_request(BootRequest::Script);
        async move {
            let attempted = || format!("find the boot plan of {mac}");
            self.boot_plan(mac)
                .await
                .map_err(|source| failed(attempted(), source))
        }
        .boxed()
    }

    fn site_facts(
        &self,
        id: &SiteArchiveId,
        from: IpAddr,
    ) -> BoxFuture<'_, Result<Option<BootFacts>, BootError>> {
        self.metrics.boot_request(BootRequest::Site);
        let id = id.clone();
        async move {
            let attempted = || format!("make the boot facts for {from}");
            self.boot_facts(&id, from)
                .await
                .map_err(|source| failed(attempted(), source))
        }
        .boxed()
    }

    fn card(&self, mac: MacAddress) -> BoxFuture<'_, Result<Option<Card>, BootError>> {
        self.metrics.boot_request(BootRequest::Dhcp);
        let member = self.fleet.by_card(mac);
        let member = member.as_ref();
        let card = member
            .map(|member| &member.server)
            .filter(|server| server.place.mac == mac)
            .map(|server| Card {
                place: server.place.clone(),
                address6: server.address6,
                choice: LoaderChoice::of(server.loaders, &self.config.dhcp.loader_rules, &server.labels),
            });
        std::future::ready(Ok(card)).boxed()
    }
}

fn failed(attempted: String, source: DriverError) -> BootError {
    BootError {
        attempted,
        source: Box::new(source),
    }
}
