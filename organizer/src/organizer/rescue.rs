//! Rescue mode as the enterprise sees it: the order goes to the lender and, through the tunnel, to the agent; the console comes through the tunnel alone.
//!
//! ```text
//! leaseboot-po rescue ─► lender: PUT /v1/leases/…/rescue ─► store ─► GET /v1/rescue of the agent, in the tunnel
//! leaseboot-po console ─► call ─► the same word ─► the agent dials GET /v1/console/{call} in the tunnel ─► relay
//! ```
//!
//! Who the agent is, WireGuard has checked: the inner address names the borrowing. Who may open a console, the control socket's owner says. A session lives while the
//! borrowing is in the state in which its install-time peer is let in, and the order stands.

use super::{LookupError, Organizer};
use crate::borrowing::BorrowingId;
use crate::error_chain;
use crate::gateway::Peers;
use crate::gateway::service::Identities as _;
use crate::now;
use crate::store::{ConsoleRecord, StoreError};
use leaseboot_console::calls::CallError;
use leaseboot_console::{Stream, relay};
use leaseboot_protocol::console::CallId;
use leaseboot_protocol::console::session::Limits;
use leaseboot_protocol::rescue::{ConsoleCall, RescueRequest, RescueView, RescueWord};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long somebody waits for the agent to dial in; it asks every two seconds.
const CALL_TIME: Duration = Duration::from_secs(20);

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is no such borrowing, or the store failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// It is not in the state for one.
    #[error("no console of {name}: {why}")]
    Closed {
        /// The borrowing, as it was named.
        name: String,
        /// Why.
        why: String,
    },
    /// Another one waits, or too many.
    #[error("no console: {0}")]
    Busy(CallError),
    /// The kernel gives no random numbers.
    #[error("cannot get random numbers from the kernel")]
    Random(#[source] getrandom::Error),
    /// The agent does not come.
    #[error(
        "the agent has not dialled in through the tunnel within {} s: is it there yet? `leaseboot-po follow` tells where the server stands",
        CALL_TIME.as_secs()
    )]
    Silent,
}

impl From<StoreError> for ConsoleError {
    fn from(error: StoreError) -> Self {
        Self::Lookup(error.into())
    }
}

/// A console that the agent has answered, and that is written down.
pub struct OpenConsole<P> {
    organizer: Arc<Organizer<P>>,
    id: BorrowingId,
    address: IpAddr,
    who: String,
    sequence: i64,
    agent: Box<dyn Stream>,
}

impl<P: Peers> Organizer<P> {
    /// Orders that the agent stays, or withdraws that, and says whether the lender may have a console.
    ///
    /// # Errors
    /// [`LookupError`]; of the lender's when it refuses.
    pub async fn order_rescue(&self, name: &str, request: RescueRequest) -> Result<RescueView, LookupError> {
        let found = self.find(name).await?;
        // What was agreed to can be withdrawn when all is over, too: the disks may not be erased yet.
        let asks = request.stay || request.lender_console;
        let Some(lease) = found.lease.as_ref().filter(|_| !(found.over && asks)) else {
            return Err(LookupError::Over(name.to_owned()));
        };
        let lender = self.surroundings.lenders.of(found.lender.as_deref())?;
        // A consent that the lender has not heard yet opens nothing, and one that was withdrawn must be withdrawn here first.
        if !request.lender_console {
            let (until, _) = self.surroundings.store.rescue(&found.id).await?;
            let withdrawn = RescueView {
                stay_until: until.filter(|_| request.stay),
                lender_stay_until: None,
                lender_console: false,
            };
            self.surroundings.store.keep_rescue(&found.id, &withdrawn).await?;
        }
        let view = as_ordered(request, lender.rescue(lease, request).await?);
        self.surroundings.store.keep_rescue(&found.id, &view).await?;
        tracing::info!(borrowing = %found.id, stay = request.stay, lender_console = request.lender_console, "rescue mode");
        Ok(view)
    }

    /// The word for the agent at `address`; it stands behind the tunnel.
    pub(super) async fn word_for(&self, address: IpAddr) -> Result<Option<RescueWord>, StoreError> {
        let Some(tenant) = self
            .tenant(address)
            .filter(|tenant| tenant.state.session().is_some())
        else {
            return Ok(None);
        };
        let (until, lender_console) = self.surroundings.store.rescue(&tenant.id).await?;
        let call = self.calls.of(tenant.id.as_str());
        Ok(Some(RescueWord {
            stay: until.is_some_and(|until| until > now()),
            lender_console,
            call: call.map(|id| ConsoleCall { id, lm_url: None }),
        }))
    }

    /// Whether a console of this borrowing may be open now.
    async fn may_open(&self, id: &BorrowingId, address: IpAddr) -> Result<(), String> {
        let tenant = self.tenant(address).filter(|tenant| tenant.id == *id);
        if tenant.is_none_or(|tenant| tenant.state.session().is_none()) {
            return Err("the server is not in the tunnel of its installation".to_owned());
        }
        match self.surroundings.store.rescue(id).await {
            Ok((Some(until), _)) if until > now() => Ok(()),
            Ok(_) => Err("its agent was not told to stay: `leaseboot-po rescue` first".to_owned()),
            Err(error) => Err(error_chain(&error)),
        }
    }

    /// Calls for a console, waits for the agent, and writes down who has it.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub async fn open_console(
        self: &Arc<Self>,
        name: &str,
        who: &str,
    ) -> Result<OpenConsole<P>, ConsoleError> {
        let found = self.find(name).await?;
        self.may_open(&found.id, found.address)
            .await
            .map_err(|why| ConsoleError::Closed {
                name: name.to_owned(),
                why,
            })?;
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(ConsoleError::Random)?;
        let call = self.calls.call(found.id.as_str(), CallId::of(bits));
        let mut call = call.map_err(ConsoleError::Busy)?;
        let answered = tokio::time::timeout(CALL_TIME, call.answered()).await;
        let agent = answered.ok().flatten().ok_or(ConsoleError::Silent)?;
        let who: String = who.chars().filter(|c| !c.is_control()).take(64).collect();
        let sequence = self
            .surroundings
            .store
            .console_opened(&found.id, &who, now())
            .await?;
        tracing::info!(borrowing = %found.id, who, "a console is open");
        Ok(OpenConsole {
            organizer: Arc::clone(self),
            id: found.id,
            address: found.address,
            who,
            sequence,
            agent,
        })
    }

    /// The agent at `address` has dialled in.
    pub(super) fn console_answered(&self, address: IpAddr, call: &CallId, stream: Box<dyn Stream>) {
        let tenant = self.tenant(address);
        if !tenant.is_some_and(|tenant| self.calls.answer(tenant.id.as_str(), call, stream)) {
            tracing::info!(%address, "a console was answered that nobody waits for");
        }
    }

    /// Who had a console of a borrowed server.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn consoles(&self, name: &str) -> Result<Vec<ConsoleRecord>, LookupError> {
        let view = self.find(name).await?;
        Ok(self.surroundings.store.consoles(&view.id).await?)
    }
}

/// What the lender says of an order is when it ends. Whether there is one, and whether the tenant agreed to the lender's own console, it does not say: from here the agent hears it
/// as the enterprise's word.
fn as_ordered(request: RescueRequest, answered: RescueView) -> RescueView {
    RescueView {
        stay_until: answered.stay_until.filter(|_| request.stay),
        lender_console: request.lender_console,
        ..answered
    }
}

impl<P: Peers> OpenConsole<P> {
    /// Relays until it ends, and writes down how.
    pub async fn run(self, person: impl Stream) {
        let Self {
            organizer,
            id,
            address,
            who,
            sequence,
            agent,
        } = self;
        let (asked, of) = (Arc::clone(&organizer), id.clone());
        let permitted = move || {
            let (organizer, id) = (Arc::clone(&asked), of.clone());
            async move { organizer.may_open(&id, address).await }
        };
        let stopped = organizer.stop.clone();
        // Goal: the end of the session, or of the daemon, which both sides see as a connection that is closed.
        let words = tokio::select! {
            (ending, tally) = relay::run(person, agent, Limits::default(), permitted) => format!("{ending}; {tally}"),
            () = stopped.cancelled() => "leaseboot-po stopped".to_owned(),
        };
        tracing::info!(borrowing = %id, who, words, "a console is closed");
        let store = &organizer.surroundings.store;
        if let Err(error) = store.console_closed(&id, sequence, &words, now()).await {
            tracing::error!(borrowing = %id, error = error_chain(&error), "the end of a console is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::timestamp::Timestamp;

    #[test]
    fn no_lender_agrees_to_its_own_console_or_holds_what_nobody_ordered() {
        let forged = RescueView {
            stay_until: Some(Timestamp(9)),
            lender_stay_until: Some(Timestamp(9)),
            lender_console: true,
        };
        let request = |stay, lender_console| RescueRequest { stay, lender_console };
        let nothing = as_ordered(request(false, false), forged);
        assert_eq!((nothing.stay_until, nothing.lender_console), (None, false));
        let stay = as_ordered(request(true, false), forged);
        assert_eq!(
            (stay.stay_until, stay.lender_console),
            (Some(Timestamp(9)), false)
        );
        assert!(as_ordered(request(true, true), forged).lender_console);
    }
}
