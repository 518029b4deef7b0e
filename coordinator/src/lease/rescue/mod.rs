//! Rescue mode as the Lease Manager sees it: who ordered that an agent stays, and the calls for consoles that it is told of.
//!
//! ```text
//! servers rescue SERVER ─► store ─┐                    ┌─► "stay" in the task and in each answer to a report
//! PUT /v1/leases/…/rescue ► store ┴─ Driver::stays ────┤
//!                                                      └─► GET /v1/agent/rescue, every few seconds ──► the call of a console, if [`rules`] permit it
//! console SERVER ─► Driver::open_console ─► store: call ┘
//! ```
//!
//! The order is read anew at each question, so that what was withdrawn or has run out is over within seconds, whichever Lease Manager is asked.

pub mod rules;

use super::Event;
use super::agent::AgentError;
use super::driver::{Driver, DriverError, now};
use super::tenant::OrderError;
use crate::audit::Deed;
use crate::store::{Remains, StoreError, TenantsWord};
use leaseboot_console::Stream;
use leaseboot_console::calls::Call;
use leaseboot_protocol::agent::{Outcome, Report};
use leaseboot_protocol::console::CallId;
use leaseboot_protocol::ids::{LeaseId, ServerId, TenantId};
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::leases::Refusal;
use leaseboot_protocol::rescue::{RescueRequest, RescueView, RescueWord};
use leaseboot_protocol::timestamp::Timestamp;
use rules::{Closed, Standing};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long an operator waits for the agent to dial in; the agent asks every two seconds.
pub const CALL_TIME: Duration = Duration::from_secs(20);

/// Why an operator gets no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is no such server.
    #[error("there is no server {0}: `leaseboot-lm servers list` names them")]
    NoServer(ServerId),
    /// The agent was not told to stay.
    #[error("{0} is not in rescue mode: `leaseboot-lm servers rescue {0}` first")]
    NotInRescue(ServerId),
    /// It is not the lender's to look at.
    #[error("no console of {server}: {why}")]
    Closed {
        /// The server.
        server: ServerId,
        /// Why.
        why: Closed,
    },
    /// Another one waits, or too many.
    #[error("no console of {server}: {why}")]
    Busy {
        /// The server.
        server: ServerId,
        /// Why.
        why: leaseboot_console::calls::CallError,
    },
    /// Something inside failed.
    #[error(transparent)]
    Inside(#[from] DriverError),
}

impl From<StoreError> for ConsoleError {
    fn from(error: StoreError) -> Self {
        Self::Inside(error.into())
    }
}

/// What an agent's reports come to. Of an agent that is to stay, a failure is not yet the end of the boot: it stays, and is looked at.
pub(super) fn events(reports: Vec<Report>, stays: Option<Timestamp>) -> Vec<Event> {
    let Some(until) = stays else {
        return reports.into_iter().map(Event::Reported).collect();
    };
    let mut events = Vec::with_capacity(reports.len() + 1);
    for mut report in reports {
        if let Outcome::Failed { retrying, .. } = &mut report.outcome {
            *retrying = true;
        }
        let begins = report.step == Step::Rescue && report.outcome == Outcome::Started;
        events.push(Event::Reported(report));
        if begins {
            events.push(Event::Rescued(until));
        }
    }
    events
}

impl Driver {
    /// Until when the agent of a lease is to stay, on the lender's or on the tenant's word; the later one counts.
    pub(super) async fn stays(
        &self,
        lease: &LeaseId,
        server: &ServerId,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.store.stays(Some(lease), server, now()).await
    }

    /// Whether a server that serves no lease is to stay.
    pub(super) async fn rescues(&self, server: &ServerId) -> Result<bool, StoreError> {
        Ok(self.store.stays(None, server, now()).await?.is_some())
    }

    /// Whose server it is now.
    async fn standing(&self, server: &ServerId) -> Result<Option<Standing>, DriverError> {
        let Some(record) = self.store.server(server).await? else {
            return Ok(None);
        };
        if let Some(lease) = &record.lease {
            let state = self.lease(lease).await?.lease.phase.state();
            let consent = self.store.tenants_word(lease, now()).await?.lender_console;
            return Ok(Some(Standing::Lent { state, consent }));
        }
        Ok(Some(match self.store.remains(server).await? {
            Remains::None => Standing::Lenders,
            Remains::Of(None) => Standing::Unerased { consent: false },
            Remains::Of(Some(lease)) => Standing::Unerased {
                consent: self.store.tenants_word(&lease, now()).await?.lender_console,
            },
        }))
    }

    /// Whether the lender may have a console of this server now, and the server was told to stay.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub async fn may_open(&self, server: &ServerId) -> Result<(), ConsoleError> {
        let standing = self.standing(server).await?;
        let standing = standing.ok_or_else(|| ConsoleError::NoServer(server.clone()))?;
        rules::lender(standing).map_err(|why| ConsoleError::Closed {
            server: server.clone(),
            why,
        })?;
        let lease = self.store.server(server).await?.and_then(|record| record.lease);
        match self.store.stays(lease.as_ref(), server, now()).await? {
            Some(_) => Ok(()),
            None => Err(ConsoleError::NotInRescue(server.clone())),
        }
    }

    /// Calls for the console of a server. What comes back waits for the agent, and is to be ended with [`Driver::console_called`].
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub async fn open_console(&self, server: &ServerId) -> Result<(CallId, Call), ConsoleError> {
        self.may_open(server).await?;
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(DriverError::Random)?;
        let id = CallId::of(bits);
        let call = self.consoles.call(server.as_str(), id.clone());
        let call = call.map_err(|why| ConsoleError::Busy {
            server: server.clone(),
            why,
        })?;
        let until = now() + CALL_TIME;
        self.store
            .call_console(server, &id, &self.config.api_url(), until)
            .await?;
        Ok((id, call))
    }

    /// The call was answered, or given up.
    pub async fn console_called(&self, id: &CallId) {
        if let Err(error) = self.store.console_called(id).await {
            // It ends by itself.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a console's call could not be taken back"
            );
        }
    }

    /// Writes what an operator did with a console into the audit log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write_console(&self, deed: Deed, server: &ServerId) -> Result<(), StoreError> {
        let lease = self.store.server(server).await?.and_then(|record| record.lease);
        self.store
            .write_audit(&deed.on(lease.as_ref(), Some(server)), now())
            .await
    }

    /// The word for an agent that asks whether to stay.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn rescue_word(&self, token: &str, from: IpAddr) -> Result<RescueWord, AgentError> {
        let session = self.session(token, from).await?;
        let server = self.server_of(&session.mac)?;
        let stay = match &session.lease {
            Some(lease) => {
                let stays = self.stays(lease, &server).await?.is_some();
                stays && self.lease(lease).await?.lease.phase.boot().is_some()
            }
            None => self.rescues(&server).await?,
        };
        let call = match self.may_open(&server).await {
            Ok(()) => self.store.console_call(&server, now()).await?,
            Err(ConsoleError::Inside(error)) => return Err(error.into()),
            Err(_) => None,
        };
        Ok(RescueWord {
            stay,
            lender_console: false,
            call,
        })
    }

    /// The server that may answer the call of a console: the one that was called, while the lender may still have it.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn console_server(
        &self,
        token: &str,
        from: IpAddr,
        call: &CallId,
    ) -> Result<ServerId, AgentError> {
        let session = self.session(token, from).await?;
        let server = self.server_of(&session.mac)?;
        match self.may_open(&server).await {
            Ok(()) if self.consoles.of(server.as_str()).as_ref() == Some(call) => Ok(server),
            Ok(()) => Err(AgentError::Invalid("nobody waits for this console".to_owned())),
            Err(ConsoleError::Inside(error)) => Err(error.into()),
            Err(error) => Err(AgentError::Invalid(error.to_string())),
        }
    }

    /// The agent has dialled in.
    pub fn console_answered(&self, server: &ServerId, call: &CallId, stream: Box<dyn Stream>) {
        if !self.consoles.answer(server.as_str(), call, stream) {
            tracing::info!(%server, "a console was answered that nobody waits for any more");
        }
    }

    fn server_of(&self, mac: &leaseboot_protocol::network::MacAddress) -> Result<ServerId, AgentError> {
        let member = self.fleet.by_card(*mac);
        member
            .map(|member| member.server.name.clone())
            .ok_or_else(|| AgentError::Invalid("a server that is not on record is not rescued".to_owned()))
    }

    /// The shell of rescue mode, for an agent that has a session.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn shell_file(&self, token: &str, from: IpAddr) -> Result<PathBuf, AgentError> {
        self.session(token, from).await?;
        let folder = self.config.boot_files.as_ref();
        let file = folder.map(|folder| folder.join(leaseboot_protocol::rescue::SHELL_FILE));
        file.filter(|file| file.is_file())
            .ok_or_else(|| AgentError::Invalid("there is no shell among the boot files".to_owned()))
    }

    /// How a tenant's lease stands to rescue mode.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn rescue_of(&self, tenant: &TenantId, id: &LeaseId) -> Result<RescueView, OrderError> {
        let lease = self.own(tenant, id).await?;
        let word = self.store.tenants_word(id, now()).await?;
        Ok(RescueView {
            stay_until: word.until,
            lender_stay_until: self.store.stays(None, &lease.lease.server, now()).await?,
            lender_console: word.lender_console,
        })
    }

    /// Takes a tenant's word. The same again changes nothing: an order that stands keeps its end.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] once the agent cannot be there any more, or a failure inside.
    pub async fn order_rescue(
        &self,
        tenant: &TenantId,
        id: &LeaseId,
        request: RescueRequest,
    ) -> Result<RescueView, OrderError> {
        let lease = self.own(tenant, id).await?;
        let state = lease.lease.phase.state();
        if request.stay && !rules::tenant_may_hold(state) {
            return Err(Refusal::Invalid {
                message: format!(
                    "the lease is {state}: the agent stays only before the enterprise's own system runs"
                ),
            }
            .into());
        }
        let known = self.store.tenants_word(id, now()).await?;
        let limit = Duration::from_secs(self.rules().deadlines.rescue.get().into());
        let word = TenantsWord {
            until: request.stay.then(|| known.until.unwrap_or(now() + limit)),
            lender_console: request.lender_console,
        };
        if word != known {
            self.store.keep_tenants_word(id, word).await?;
            let action = match (request.stay, request.lender_console) {
                (true, true) => "order rescue mode, and agree to a console of the lender's",
                (true, false) => "order rescue mode",
                (false, true) => "agree to a console of the lender's",
                (false, false) => "withdraw rescue mode",
            };
            let deed = Deed::of_tenant(tenant, action).on(Some(id), Some(&lease.lease.server));
            self.store.write_audit(&deed, now()).await?;
        }
        self.rescue_of(tenant, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: Step, outcome: Outcome) -> Report {
        Report {
            step,
            at: Timestamp(1),
            outcome,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            error: vec!["no".to_owned()],
            kernel_log: Vec::new(),
            retrying: false,
        }
    }

    #[test]
    fn a_failure_of_an_agent_that_stays_ends_no_boot_and_gives_no_time_by_itself() {
        let reports = || {
            vec![
                report(Step::Tunnel, failed()),
                report(Step::Rescue, Outcome::Started),
            ]
        };
        let until = Timestamp(99);
        let events = events(reports(), Some(until));
        assert!(matches!(
            &events[..],
            [
                Event::Reported(Report {
                    outcome: Outcome::Failed { retrying: true, .. },
                    ..
                }),
                Event::Reported(_),
                Event::Rescued(Timestamp(99))
            ]
        ));
        // Without an order, an agent that says it stays is one that failed.
        let events = super::events(reports(), None);
        assert!(matches!(
            &events[..],
            [
                Event::Reported(Report {
                    outcome: Outcome::Failed { retrying: false, .. },
                    ..
                }),
                Event::Reported(_)
            ]
        ));
    }
}
