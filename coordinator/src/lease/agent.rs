//! What a server in stage 1 and 2 says, and what it is told.
//!
//! A token that is not good is an event on the lease of the server that it came from, so that lender and enterprise both see that somebody
//! tried; the token itself is nowhere written.

use super::driver::Extras;
use super::driver::{Driver, DriverError, locked, now};
use super::{Event, rescue, tokens};
use crate::erasure;
use crate::fleet::Member;
use crate::seldom::Seldom;
use crate::store::{
    BootName, BootTicket, KickstartRecord, LeaseRecord, Redeemed, SessionRecord, StrangerRecord, model,
};
use leaseboot_protocol::agent::{Directive, Hello, InstallTask, KeyOffer, Report, Task, Welcome};
use leaseboot_protocol::boot_log::{LogLines, LogSource};
use leaseboot_protocol::erasure::{ErasureRecord, ErasureReport, WipeTask};
use leaseboot_protocol::handover::{Handover, StagedFiles};
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::secret::Secret;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

static STRANGER: Seldom = Seldom::new();
static WRONG: Seldom = Seldom::new();
/// Wrong tokens are written into one server's history at most this often.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(10);

/// What an agent's request comes to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The token is not good.
    #[error("{0}; the server must restart to get a new token")]
    Unauthorized(&'static str),
    /// There is nothing to give.
    #[error("{0}")]
    Invalid(String),
    /// The LM failed.
    #[error(transparent)]
    Inside(#[from] DriverError),
}

impl From<crate::store::StoreError> for AgentError {
    fn from(error: crate::store::StoreError) -> Self {
        AgentError::Inside(error.into())
    }
}

impl Driver {
    /// Whether a token is on record at all. What it is good for, and where it must come from, is asked when it is used.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn knows_token(&self, token: &str) -> Result<bool, DriverError> {
        Ok(self.store.knows_token(&tokens::digest(token)).await?)
    }

    /// The agent's first word: its boot token is used up, its hardware kept, its task given.
    ///
    /// # Errors
    /// [`AgentError::Unauthorized`] for a token that is not good, which is recorded.
    pub async fn hello(&self, token: &str, from: IpAddr, hello: Hello) -> Result<Welcome, AgentError> {
        let session = tokens::make().map_err(DriverError::from)?;
        let (boot, digest) = (tokens::digest(token), tokens::digest(session.expose()));
        match self.store.redeem(&boot, hello.mac, from, &digest, now()).await? {
            Redeemed::Bad(why) => {
                self.wrong_token(hello.mac, from, why).await?;
                Err(AgentError::Unauthorized(why))
            }
            Redeemed::Good(ticket) => {
                ticket.concern();
                tracing::info!(mac = %hello.mac, %from, version = hello.agent_version, "an agent says hello");
                self.welcome(ticket, from, session, hello).await
            }
        }
    }

    async fn welcome(
        &self,
        ticket: BootTicket,
        from: IpAddr,
        session_token: Secret,
        hello: Hello,
    ) -> Result<Welcome, AgentError> {
        let mut unfit = None;
        let server = match &ticket.server {
            // What goes back is compared with what is on record: a disk that is missing now must not be forgotten.
            Some(name) if self.wipes(ticket.lease.as_ref()).await? => name.clone(),
            Some(name) => {
                unfit = self.take_report(name, &hello.hardware).await?;
                name.clone()
            }
            None => {
                let stranger = StrangerRecord {
                    mac: hello.mac,
                    address: from,
                    hardware: hello.hardware.clone(),
                    seen: now(),
                };
                self.store.save_stranger(&stranger).await?;
                stranger_name(hello.mac)
            }
        };
        let task = match &ticket.lease {
            Some(lease) => self.task(lease, &server, hello, unfit).await?,
            None if self.rescues(&server).await? => Task::Rescue,
            None => Task::PowerOff,
        };
        if ticket.lease.is_none() {
            // A free server that told its hardware may suit a lease that moves.
            self.store.announce_work();
        }
        Ok(Welcome {
            server,
            session_token,
            task,
        })
    }

    async fn wipes(&self, lease: Option<&LeaseId>) -> Result<bool, DriverError> {
        match lease {
            Some(id) => Ok(self.lease(id).await?.lease.phase.wipes()),
            None => Ok(false),
        }
    }

    async fn task(
        &self,
        id: &LeaseId,
        server: &ServerId,
        hello: Hello,
        unfit: Option<String>,
    ) -> Result<Task, AgentError> {
        match self.wipes(Some(id)).await? {
            true => self.wipe_task(id, server, hello).await,
            false => self.install_task(id, server, hello, unfit).await,
        }
    }

    async fn wipe_task(&self, id: &LeaseId, server: &ServerId, hello: Hello) -> Result<Task, AgentError> {
        let earlier = hello.earlier.into_iter().map(Event::Reported);
        let events: Vec<_> = std::iter::once(Event::Hello).chain(earlier).collect();
        if !self.apply(id, &events).await?.lease.phase.wipes() {
            return Ok(Task::PowerOff);
        }
        let disks = self.hardware(server).await?.disks;
        Ok(Task::Wipe(WipeTask {
            lease: id.clone(),
            serials: disks
                .into_iter()
                .map(|disk| disk.serial)
                .filter(|serial| !serial.is_empty())
                .collect(),
        }))
    }

    async fn install_task(
        &self,
        id: &LeaseId,
        server: &ServerId,
        hello: Hello,
        unfit: Option<String>,
    ) -> Result<Task, AgentError> {
        let kickstart = self.kickstart_of(id).await?;
        let mut events = vec![Event::Hello];
        events.extend(self.known_handover(id, &hello).await?.map(Event::Handover));
        events.extend(unfit.map(Event::Unfit));
        if !hello
            .hardware
            .disks
            .iter()
            .any(|disk| disk.by_id == kickstart.disk)
        {
            events.push(Event::Unfit(format!(
                "the disk {} that the settings were merged for is not there any more",
                kickstart.disk
            )));
        }
        events.extend(hello.earlier.into_iter().map(Event::Reported));
        let lease = self.apply(id, &events).await?;
        let Some(boot) = lease.lease.phase.boot() else {
            return Ok(Task::PowerOff);
        };
        let member = self.configured(&lease, server)?;
        let server = &member.server;
        Ok(Task::Install(Box::new(InstallTask {
            lease: id.clone(),
            address: server.lent_place().clone(),
            tunnel: kickstart.settings.tunnel,
            image: kickstart.settings.image,
            disk: kickstart.disk,
            lender_command_line: crate::merge::console_words(server.console.as_ref()),
            handover: boot.handover,
            stay: self.stays(id, &server.name).await?.is_some(),
        })))
    }

    /// The only way that the server's kernel has, or what other servers of this model have shown, where the lease itself has shown nothing yet.
    async fn known_handover(&self, id: &LeaseId, hello: &Hello) -> Result<Option<Handover>, DriverError> {
        if hello.without_kexec {
            return Ok(Some(Handover::Disk));
        }
        let shown = self.lease(id).await?.lease.phase.next_handover();
        match (shown, model(&hello.hardware)) {
            (None, Some(model)) => Ok(self.store.handover(&model).await?),
            _ => Ok(None),
        }
    }

    /// The agent has staged everything on the server's disk: the next start enters it from there.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn staged(&self, token: &str, from: IpAddr, files: StagedFiles) -> Result<(), AgentError> {
        let session = self.session(token, from).await?;
        let lease = session
            .lease
            .ok_or_else(|| AgentError::Invalid("this boot serves no lease".to_owned()))?;
        match self.apply(&lease, &[Event::Staged(files)]).await {
            Ok(_) => Ok(()),
            Err(DriverError::OutOfPlace(error)) => Err(AgentError::Invalid(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn configured(
        &self,
        lease: &LeaseRecord,
        server: &ServerId,
    ) -> Result<Arc<Member>, DriverError> {
        self.fleet.get(server).ok_or_else(|| DriverError::NoServer {
            server: server.clone(),
            lease: lease.id.clone(),
        })
    }

    async fn kickstart_of(&self, lease: &LeaseId) -> Result<KickstartRecord, AgentError> {
        let found = self.store.kickstart(lease).await?;
        found
            .ok_or_else(|| AgentError::Invalid(format!("there is no merged kickstart for the lease {lease}")))
    }

    async fn wrong_token(&self, mac: MacAddress, from: IpAddr, why: &str) -> Result<(), DriverError> {
        let by_address = self.fleet.by_address(from);
        let Some(member) = by_address.or_else(|| self.fleet.by_card(mac)) else {
            if let Some(spoken) = STRANGER.speak() {
                tracing::warn!(%mac, %from, why, left_out = spoken.left_out, "a hello of a stranger was refused");
            }
            return Ok(());
        };
        let server = &member.server;
        if let Some(spoken) = WRONG.speak() {
            tracing::warn!(server = %server.name, %mac, %from, why, left_out = spoken.left_out, "a hello was refused");
        }
        if !self.may_write_wrong_token(&server.name) {
            return Ok(());
        }
        let Some(lease) = self
            .store
            .server(&server.name)
            .await?
            .and_then(|record| record.lease)
        else {
            return Ok(());
        };
        let error = format!("a hello from {from}, card {mac}, was refused: {why}");
        self.apply(&lease, &[Event::WrongToken(error)]).await?;
        Ok(())
    }

    fn may_write_wrong_token(&self, server: &ServerId) -> bool {
        let mut written = locked(&self.wrong_tokens);
        let pausing = written
            .get(server)
            .is_some_and(|last| last.elapsed() < WRONG_TOKEN_PAUSE);
        if !pausing {
            written.insert(server.clone(), Instant::now());
        }
        !pausing
    }

    pub(super) async fn session(&self, token: &str, from: IpAddr) -> Result<SessionRecord, AgentError> {
        let session = self.store.session(&tokens::digest(token)).await?;
        session
            .filter(|session| session.address == from)
            .ok_or(AgentError::Unauthorized(
                "the session token is not good (any more)",
            ))
    }

    /// Keeps the key of this boot.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn offer_key(&self, token: &str, from: IpAddr, offer: KeyOffer) -> Result<(), AgentError> {
        let session = self.session(token, from).await?;
        let lease = session
            .lease
            .ok_or_else(|| AgentError::Invalid("this boot serves no lease".to_owned()))?;
        match self.apply(&lease, &[Event::AgentKey(offer.key)]).await {
            Ok(_) => Ok(()),
            Err(DriverError::OutOfPlace(error)) => Err(AgentError::Invalid(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The merged kickstart, as it stands in the store.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn agent_kickstart(&self, token: &str, from: IpAddr) -> Result<String, AgentError> {
        let session = self.session(token, from).await?;
        let lease = session
            .lease
            .ok_or_else(|| AgentError::Invalid("this boot serves no lease".to_owned()))?;
        Ok(self.kickstart_of(&lease).await?.merged)
    }

    /// Takes reports; tells the server whether to go on.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn reports(
        &self,
        token: &str,
        from: IpAddr,
        reports: Vec<Report>,
    ) -> Result<Directive, AgentError> {
        let session = self.session(token, from).await?;
        let Some(lease) = session.lease else {
            tracing::info!(mac = %session.mac, ?reports, "reports of a boot without lease");
            return Ok(Directive::Continue);
        };
        let server = self.lease(&lease).await?.lease.server;
        let stays = self.stays(&lease, &server).await?;
        let lease = self.apply(&lease, &rescue::events(reports, stays)).await?;
        Ok(match (lease.lease.phase.keeps_agent(), stays) {
            (false, _) => Directive::PowerOff,
            (true, Some(_)) => Directive::Stay,
            (true, None) => Directive::Continue,
        })
    }

    /// Keeps what the boot said on its console. A boot that serves no lease says nothing worth keeping.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn boot_log(&self, token: &str, from: IpAddr, lines: &LogLines) -> Result<(), AgentError> {
        let session = self.session(token, from).await?;
        if lines.source == LogSource::Serial {
            let why = "what a serial line says is the lender's to read";
            return Err(AgentError::Invalid(why.to_owned()));
        }
        let Some(id) = session.lease else { return Ok(()) };
        let lease = self.lease(&id).await?.lease;
        let boot = BootName {
            lease: id,
            server: lease.server,
            attempt: lease.phase.attempt(),
        };
        Ok(self.store.keep_boot_log(&boot, lines, now()).await?)
    }

    /// The boot that a lease sends this server through now, from the power order to the end of the installation.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn boot_under_way(&self, server: &ServerId) -> Result<Option<BootName>, DriverError> {
        let record = self.store.server(server).await?;
        let Some(id) = record.and_then(|record| record.lease) else {
            return Ok(None);
        };
        let lease = self.lease(&id).await?.lease;
        let phase = lease.phase;
        Ok((phase.boots_agent() && !phase.wipes()).then(|| BootName {
            lease: id,
            server: lease.server,
            attempt: phase.attempt(),
        }))
    }

    /// Takes the report of an erasure, and signs its record. The same report may come again: its answer may have been lost.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn erasure(
        &self,
        token: &str,
        from: IpAddr,
        report: ErasureReport,
    ) -> Result<Directive, AgentError> {
        let session = self.session(token, from).await?;
        let id = session
            .lease
            .ok_or_else(|| AgentError::Invalid("this boot serves no lease".to_owned()))?;
        let lease = self.lease(&id).await?;
        if !lease.lease.phase.wipes() {
            // Either taken already, or none that was asked for: there is nothing left to do for this server.
            return Ok(Directive::PowerOff);
        }
        let on_record = self
            .hardware(&lease.lease.server)
            .await
            .map_err(DriverError::from)?
            .disks;
        let event = Event::Erased {
            disks: erasure::erased(&report),
            faults: erasure::faults(&report, &on_record),
        };
        let record = ErasureRecord {
            lease: id.clone(),
            tenant: lease.tenant,
            server: lease.lease.server,
            at: now(),
            report,
        };
        let signed = self.signer.sign(&record);
        let extras = Extras {
            erasure: Some(signed.map_err(|source| DriverError::Record {
                lease: id.clone(),
                source,
            })?),
            ..Extras::default()
        };
        match self.apply_with(&id, &[event], extras).await {
            // No order is answered here, so the outcome is the lease itself. Out of place: since we looked, another copy of this report was
            // taken, and the lease went on.
            Ok(_) | Err(DriverError::OutOfPlace(_)) => Ok(Directive::PowerOff),
            Err(error) => Err(error.into()),
        }
    }
}

impl BootTicket {
    /// Names lease and server in the span of the request.
    fn concern(&self) {
        let span = tracing::Span::current();
        if let Some(server) = &self.server {
            span.record("server", server.as_str());
        }
        if let Some(lease) = &self.lease {
            span.record("lease", lease.as_str());
        }
    }
}

fn stranger_name(mac: MacAddress) -> ServerId {
    let name = format!("stranger-{}", hex::encode(mac.0));
    name.parse().expect("letters, digits and a dash")
}
