//! One attempt at what the LM is owed, and what its answer means for the borrowing.

use super::Order;
use super::machine::{Duty, Event, Word};
use crate::lender::{Lender, LenderError};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::leases::{LeaseRequest, Refusal};
use std::time::Duration;

/// How long the LM may be silent before a search is given up: nothing is lent yet, and a person waits.
const SEARCH_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may be silent while a leased server is not powered on yet.
const PREPARE_PATIENCE: Duration = Duration::from_secs(300);

impl Duty {
    /// For how long attempts make sense; `None` for as long as it takes.
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Duty::Request => Some(SEARCH_PATIENCE),
            Duty::Prepare(_) | Duty::Boot(..) => Some(PREPARE_PATIENCE),
            Duty::Tell(..) | Duty::Follow(_) | Duty::Return(_) | Duty::Rest => None,
        }
    }

    /// Carries the duty out once. [`Duty::Rest`] never ends.
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
            Duty::Follow(lease) => follow(lender, lease, cursor).await,
            Duty::Return(lease) => lender.give_back(lease).await.map(|()| vec![Event::Returned]),
            Duty::Rest => std::future::pending().await,
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
            (_, Refusal::NotFound { message }) => Ok(Event::LeaseGone(message)),
            // The lender's deadline may have passed, or a new boot begun: the events will tell.
            (Duty::Tell(lease, word), refusal) => {
                tracing::warn!(%lease, ?word, %refusal, "the lease manager does not take the word");
                Ok(Event::Told(*word))
            }
            // A member serves behind this lease: it is not dropped for a message that the LM did not like.
            (Duty::Follow(_), refusal) => Err(LenderError::Refused(refusal)),
            (_, refusal) => Ok(Event::Refused(refusal.to_string())),
        }
    }
}

async fn request(lender: &Lender, order: &Order) -> Result<Vec<Event>, LenderError> {
    let request = LeaseRequest {
        request_id: order.request_id.clone(),
        requirements: order.requirements.clone(),
        term_s: None,
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

async fn follow(lender: &Lender, lease: &LeaseId, cursor: u64) -> Result<Vec<Event>, LenderError> {
    let batch = lender.events(lease, cursor).await?;
    let events = batch.events.into_iter();
    Ok(events.map(|event| Event::Lender(Box::new(event))).collect())
}
