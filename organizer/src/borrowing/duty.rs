//! One attempt at what the LM is owed, and what its answer means for the borrowing.

use super::Order;
use super::machine::{Duty, Event, Word};
use crate::erasure::Erasure;
use crate::lender::{Lender, LenderError};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::leases::{LeaseRequest, Refusal};
use std::time::Duration;

/// How long the LM may be silent before a search is given up: nothing is lent yet, and a person waits.
const SEARCH_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may be silent while a leased server is not powered on yet.
const PREPARE_PATIENCE: Duration = Duration::from_secs(300);

/// How long it may be silent about a server that it has back.
const ERASURE_PATIENCE: Duration = Duration::from_secs(3600);

impl Duty {
    /// For how long attempts make sense; `None` for as long as it takes.
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Duty::Request => Some(SEARCH_PATIENCE),
            Duty::Prepare(_) | Duty::Boot(..) => Some(PREPARE_PATIENCE),
            Duty::AwaitErasure(_) | Duty::Collect(_) => Some(ERASURE_PATIENCE),
            Duty::Tell(..)
            | Duty::Follow(_)
            | Duty::Renew(_)
            | Duty::Drain
            | Duty::Withdraw
            | Duty::Return(_)
            | Duty::Rest => None,
        }
    }

    /// Carries the duty out once. [`Duty::Rest`] never ends, nor do those that are ours and not the LM's.
    ///
    /// # Errors
    /// [`LenderError`] when another attempt may go better.
    pub async fn attempt(
        &self,
        lender: &Lender,
        order: &Order,
        cursor: u64,
    ) -> Result<Vec<Event>, LenderError> {
        let answer = match self {
            Duty::Request => request(lender, order).await,
            Duty::Prepare(lease) => {
                let prepared = lender.prepare(lease, &order.settings).await;
                prepared.map(|prepared| vec![Event::Merged(prepared)])
            }
            Duty::Boot(lease, digest) => lender.boot(lease, *digest).await.map(|_| vec![Event::Ordered]),
            Duty::Tell(lease, word) => tell(lender, lease, *word).await,
            Duty::Follow(lease) => follow(lender, lease, cursor).await.map(|(events, _)| events),
            Duty::AwaitErasure(lease) => {
                let followed = follow(lender, lease, cursor).await;
                followed.map(|(mut events, over)| {
                    // Its last event may have been heard before the server was given back.
                    events.extend(over.then_some(Event::Ended));
                    events
                })
            }
            Duty::Renew(lease) => {
                let renewed = lender.renew(lease, order.term_s).await;
                renewed.map(|view| vec![view.expires.map_or(Event::NotRenewed, Event::Renewed)])
            }
            Duty::Collect(lease) => collect(lender, lease).await,
            Duty::Return(lease) => lender.give_back(lease).await.map(|()| vec![Event::Returned]),
            Duty::Drain | Duty::Withdraw | Duty::Rest => std::future::pending().await,
        };
        match answer {
            Err(LenderError::Refused(refusal)) => self.refused(refusal).map(|event| vec![event]),
            other => other,
        }
    }

    /// What a refusal means.
    fn refused(&self, refusal: Refusal) -> Result<Event, LenderError> {
        match (self, refusal) {
            (Duty::Request, refusal) => Ok(Event::Refused(refusal.to_string())),
            (Duty::Collect(_), refusal) => Ok(Event::Erasure(Box::new(Erasure::None {
                reason: refusal.to_string(),
            }))),
            (_, Refusal::NotFound { message }) => Ok(Event::LeaseGone(message)),
            // The lender's deadline may have passed, or a new boot begun: the events will tell.
            (Duty::Tell(lease, word), refusal) => {
                tracing::warn!(%lease, ?word, %refusal, "the lease manager does not take the word");
                Ok(Event::Told(*word))
            }
            (Duty::Renew(lease), refusal) => {
                tracing::warn!(%lease, %refusal, "the lease manager does not renew the lease");
                Ok(Event::NotRenewed)
            }
            // A member serves behind this lease: it is not dropped for a message that the LM did not like.
            (Duty::Follow(_) | Duty::AwaitErasure(_), refusal) => Err(LenderError::Refused(refusal)),
            (_, refusal) => Ok(Event::Refused(refusal.to_string())),
        }
    }
}

async fn request(lender: &Lender, order: &Order) -> Result<Vec<Event>, LenderError> {
    let request = LeaseRequest {
        request_id: order.request_id.clone(),
        requirements: order.requirements.clone(),
        term_s: order.term_s,
        group: None,
    };
    let view = lender.request(&request).await?;
    Ok(vec![Event::Granted(Box::new(view))])
}

async fn tell(lender: &Lender, lease: &LeaseId, word: Word) -> Result<Vec<Event>, LenderError> {
    match word {
        Word::Installed => lender.installed(lease).await?,
        Word::InService => lender.in_service(lease).await?,
    }
    Ok(vec![Event::Told(word)])
}

async fn collect(lender: &Lender, lease: &LeaseId) -> Result<Vec<Event>, LenderError> {
    let signed = lender.erasure(lease).await?;
    let erasure = Erasure::judge(signed, lender.erasure_key(), lease);
    Ok(vec![Event::Erasure(Box::new(erasure))])
}

/// The next events, and whether there will be no more.
async fn follow(lender: &Lender, lease: &LeaseId, cursor: u64) -> Result<(Vec<Event>, bool), LenderError> {
    let batch = lender.events(lease, cursor).await?;
    let over = batch.lease.state.is_final() && batch.events.is_empty();
    let events = batch.events.into_iter();
    Ok((events.map(|event| Event::Lender(Box::new(event))).collect(), over))
}
