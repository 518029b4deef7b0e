//! Which of several lenders a server is borrowed from.
//!
//! All that may be asked are asked at once what they would lend (`POST /v1/search`, which takes nothing). Where the policy names lenders, its
//! order decides: the first one that has a server. Else the offers decide: the one that our own preferences rate highest; of equals the one
//! that fits most closely, for what is larger than asked is dearer to whoever lends it; of equals po.toml's order. A lender that refuses the
//! request itself, or cannot be reached, is passed over, and the others are asked anew.
//!
//! The choice is in the store before the request is sent: after a kill the same request goes to the same lender, which gives the same lease.
//! So a lender that may have granted a lease, but whose answer was lost, is never passed over: it is asked again, for as long as a search may
//! last, and then for what it granted, to give it back.
//!
//! With one lender there is nothing to choose, and nothing is asked before the request.

use super::Order;
use crate::error_chain;
use crate::lender::{Lender, LenderError};
use futures_util::future::join_all;
use leaseboot_protocol::leases::{Offer, Refusal, SearchAnswer, SearchRequest};
use std::cmp::Reverse;

/// All lenders, in the order of po.toml.
pub struct Lenders(Vec<(String, Lender)>);

impl Lenders {
    /// Lenders by name; there is at least one.
    ///
    /// # Panics
    /// When there is none: po.toml is refused then.
    pub fn new(lenders: Vec<(String, Lender)>) -> Self {
        assert!(!lenders.is_empty(), "po.toml names a lender");
        Self(lenders)
    }

    /// The lender, when there is only one.
    pub fn only(&self) -> Option<&Lender> {
        match self.0.as_slice() {
            [(_, only)] => Some(only),
            _ => None,
        }
    }

    /// The first of `names` that is no lender of po.toml.
    pub fn unknown<'a>(&self, names: &'a [String]) -> Option<&'a String> {
        let is_known = |name: &&String| self.0.iter().any(|(known, _)| known == *name);
        names.iter().find(|name| !is_known(name))
    }

    /// All names, for people.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    /// The lender that a lease is with. Leases of before there were several are with the first.
    ///
    /// # Errors
    /// [`LenderError::Unknown`].
    pub fn of(&self, chosen: Option<&str>) -> Result<&Lender, LenderError> {
        let Some(name) = chosen else {
            return Ok(&self.0[0].1);
        };
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, lender)| lender)
            .ok_or_else(|| LenderError::Unknown {
                name: name.to_owned(),
            })
    }
}

/// A lender that was passed over, and why.
pub(super) type PassedOver = (String, String);

/// The lender to ask, and why this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) lender: String,
    pub(super) why: String,
}

/// Asks all lenders that may be asked.
///
/// # Errors
/// [`LenderError::Refused`] when none has a server, and another one when somebody may have one who does not answer.
pub(super) async fn choose(
    lenders: &Lenders,
    order: &Order,
    passed: &[PassedOver],
) -> Result<Chosen, LenderError> {
    let request = SearchRequest {
        requirements: order.requirements.clone(),
        group: None,
    };
    let may = |name: &String| {
        let wanted = order.lenders.is_empty() || order.lenders.contains(name);
        wanted && !passed.iter().any(|(passed, _)| passed == name)
    };
    let asked = lenders.0.iter().filter(|(name, _)| may(name));
    let asked = asked.map(|(name, lender)| async { (name.clone(), lender.search(&request).await) });
    let (mut found, mut reasons, mut passing) = (Vec::new(), passed.to_vec(), None);
    for (name, answer) in join_all(asked).await {
        match answer {
            Ok(answer) if answer.servers > 0 => found.push((name, answer)),
            Ok(answer) => reasons.push((name, nothing_fits(answer).to_string())),
            Err(error) => {
                reasons.push((name, error_chain(&error)));
                passing = passing.or_else(|| error.is_passing().then_some(error));
            }
        }
    }
    match (best(&order.lenders, &found), passing) {
        (Some(chosen), _) => Ok(chosen),
        (None, Some(error)) => Err(error),
        (None, None) => Err(LenderError::Refused(Refusal::Invalid {
            message: none_left(&reasons),
        })),
    }
}

/// The lender with the best offer; pure.
fn best(order: &[String], found: &[(String, SearchAnswer)]) -> Option<Chosen> {
    if let Some(lender) = order
        .iter()
        .find(|name| found.iter().any(|(found, _)| found == *name))
    {
        return Some(Chosen {
            lender: lender.clone(),
            why: "the first of the policy's lenders that has a server".to_owned(),
        });
    }
    let offer = |answer: &SearchAnswer| answer.offers.first().cloned().unwrap_or_default();
    // The first of equals is the one that stands first in po.toml.
    let (lender, answer) = found.iter().min_by_key(|(_, answer)| rank(&offer(answer)))?;
    Some(Chosen {
        lender: lender.clone(),
        why: in_words(&offer(answer), found.len()),
    })
}

fn rank(offer: &Offer) -> (Reverse<i64>, u32, u64) {
    (Reverse(offer.weight), offer.cores, offer.memory_mib)
}

fn in_words(offer: &Offer, found: usize) -> String {
    let what = format!("{} cores, {} MiB", offer.cores, offer.memory_mib);
    match found {
        1 => format!("no other has a server that fits ({what})"),
        n => format!("the best of {n} offers: rated {}, {what}", offer.weight),
    }
}

fn nothing_fits(answer: SearchAnswer) -> Refusal {
    Refusal::NothingFits {
        free: answer.free,
        busy: answer.busy,
        fitting: answer.fitting,
        unmet: answer.unmet,
        nearest: answer.nearest,
        shortfall: answer.shortfall,
    }
}

fn none_left(reasons: &[PassedOver]) -> String {
    let reasons = reasons.iter().map(|(name, why)| format!("{name}: {why}"));
    match reasons.collect::<Vec<_>>() {
        reasons if reasons.is_empty() => "none of the lenders that were named is in po.toml".to_owned(),
        reasons => format!("no lender has a server:\n{}", reasons.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, weight: i64, cores: u32) -> (String, SearchAnswer) {
        let offer = Offer {
            weight,
            cores,
            ..Offer::default()
        };
        let answer = SearchAnswer {
            servers: 1,
            offers: vec![offer],
            ..SearchAnswer::default()
        };
        (name.to_owned(), answer)
    }

    fn chosen(order: &[&str], found: &[(String, SearchAnswer)]) -> Option<String> {
        let order: Vec<_> = order.iter().map(|name| (*name).to_owned()).collect();
        best(&order, found).map(|chosen| chosen.lender)
    }

    #[test]
    fn the_policys_order_goes_before_any_offer() {
        let found = [answer("a", 9, 4), answer("b", 1, 64)];
        assert_eq!(chosen(&["c", "b", "a"], &found).as_deref(), Some("b"));
        assert_eq!(chosen(&["a", "b"], &found).as_deref(), Some("a"));
    }

    #[test]
    fn offers_are_rated_then_fitted_then_taken_as_they_stand() {
        assert_eq!(
            chosen(&[], &[answer("a", 1, 4), answer("b", 2, 64)]).as_deref(),
            Some("b")
        );
        assert_eq!(
            chosen(&[], &[answer("a", 1, 64), answer("b", 1, 4)]).as_deref(),
            Some("b")
        );
        assert_eq!(
            chosen(&[], &[answer("a", 1, 4), answer("b", 1, 4)]).as_deref(),
            Some("a")
        );
        assert_eq!(chosen(&[], &[]), None);
    }
}
