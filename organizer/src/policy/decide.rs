//! What a policy does: a function of what is known, without I/O or clock.
//!
//! An event that stands for `for` makes the policy borrow `servers`, and when these serve and it still stands for as long again, as many
//! once more, up to `limit`. Once nothing that it is about has stood for `quiet`, its servers go back. Between two decisions lies at least
//! `cooldown`, with one exception: a server that drains while the event stands again is kept at once, for every moment counts.
//!
//! Held by the property tests: no limit is ever exceeded; two decisions of a policy to borrow or to give back are a cool-down apart; the same
//! situation a second time decides nothing new once the first decision is carried out.

use super::{Policies, Policy, Server, Stage, Want, WantKey};
use crate::events::{Key, Known};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// What was raised.
    pub events: &'a [Known],
    /// The servers of all policies that are not closed.
    pub wants: &'a [Want],
    /// When each policy decided last.
    pub last: &'a BTreeMap<String, Timestamp>,
    /// Servers that people borrowed by hand and have not given back.
    pub by_hand: u32,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Nothing for now.
    Wait,
    /// Borrow servers.
    Borrow {
        /// How many more.
        servers: u32,
    },
    /// Give servers back.
    GiveBack {
        /// Which.
        wants: Vec<WantKey>,
    },
    /// Keep servers that were about to go back.
    Keep {
        /// Which.
        wants: Vec<WantKey>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Wait => f.write_str("wait"),
            Action::Borrow { servers } => write!(f, "borrow {}", count(*servers as usize)),
            Action::GiveBack { wants } => write!(f, "give {} back", count(wants.len())),
            Action::Keep { wants } => write!(f, "keep {}", count(wants.len())),
        }
    }
}

fn count(servers: usize) -> String {
    match servers {
        1 => "1 server".to_owned(),
        n => format!("{n} servers"),
    }
}

/// What one policy does, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The policy.
    pub policy: String,
    /// The events that it is about and that stand.
    pub sees: Vec<Key>,
    /// What to do.
    pub action: Action,
    /// Why, or what is waited for.
    pub reason: String,
    /// When time alone may change it.
    pub wake: Option<Timestamp>,
}

/// One verdict for each policy, in the order of the file.
pub fn decide(situation: &Situation<'_>) -> Vec<Verdict> {
    let theirs = situation.wants.iter().filter(|want| want.counts()).count();
    let mut taken = situation
        .by_hand
        .saturating_add(u32::try_from(theirs).unwrap_or(u32::MAX));
    let verdict = |policy: &Policy| {
        let verdict = View::new(situation, policy).verdict(taken);
        if let Action::Borrow { servers } = verdict.action {
            taken = taken.saturating_add(servers);
        }
        verdict
    };
    situation.policies.list.iter().map(verdict).collect()
}

/// The situation as one policy sees it.
struct View<'a> {
    situation: &'a Situation<'a>,
    policy: &'a Policy,
    about: Vec<&'a Known>,
    standing: Vec<&'a Known>,
    staying: Vec<&'a Want>,
    draining: Vec<&'a Want>,
}

/// What is done or waited for, until it is told whose it is.
struct Choice {
    action: Action,
    reason: String,
    wake: Option<Timestamp>,
}

fn wait(reason: String, wake: Option<Timestamp>) -> Choice {
    Choice {
        action: Action::Wait,
        reason,
        wake,
    }
}

fn act(action: Action, reason: String) -> Choice {
    Choice {
        action,
        reason,
        wake: None,
    }
}

fn keys(wants: &[&Want]) -> Vec<WantKey> {
    wants.iter().map(|want| want.key.clone()).collect()
}

impl<'a> View<'a> {
    fn new(situation: &'a Situation<'a>, policy: &'a Policy) -> Self {
        let about: Vec<_> = situation
            .events
            .iter()
            .filter(|known| policy.on.fits(&known.event))
            .collect();
        let stands = |known: &&&Known| known.stands(policy.expire, situation.now);
        let mine = || situation.wants.iter().filter(|want| want.policy == policy.name);
        let draining = |want: &&Want| want.counts() && matches!(want.stage, Stage::Draining(_));
        Self {
            situation,
            policy,
            standing: about.iter().filter(stands).copied().collect(),
            about,
            staying: mine().filter(|want| want.stays()).collect(),
            draining: mine().filter(draining).collect(),
        }
    }

    fn verdict(&self, taken: u32) -> Verdict {
        let choice = match self.standing.iter().min_by_key(|known| known.since) {
            Some(eldest) if !self.draining.is_empty() => act(
                Action::Keep {
                    wants: keys(&self.draining),
                },
                format!("{} stands again", eldest.event),
            ),
            Some(eldest) => self.while_it_stands(eldest, taken),
            None => self.while_nothing_stands(),
        };
        Verdict {
            policy: self.policy.name.clone(),
            sees: self
                .standing
                .iter()
                .map(|known| known.event.key.clone())
                .collect(),
            action: choice.action,
            reason: choice.reason,
            wake: choice.wake,
        }
    }

    fn while_it_stands(&self, eldest: &Known, taken: u32) -> Choice {
        let policy = self.policy;
        let event = &eldest.event;
        let ripe = eldest.since + policy.stands;
        if self.now() < ripe {
            let stands = words(policy.stands);
            return wait(
                format!("{event} must stand for {stands} before servers are borrowed"),
                Some(ripe),
            );
        }
        let has = u32::try_from(self.staying.len()).unwrap_or(u32::MAX);
        if has >= policy.limit {
            let reason = format!(
                "it has its {}; {event} must be over before they go back",
                count(has as usize)
            );
            return wait(reason, None);
        }
        let missing = if has < policy.servers {
            policy.servers - has
        } else {
            match self.more_is_due(eldest) {
                Ok(()) => policy.servers.min(policy.limit - has),
                Err(waits) => return waits,
            }
        };
        if let Some(waits) = self.cooling_down() {
            return waits;
        }
        let room = self
            .situation
            .policies
            .limit
            .map_or(u32::MAX, |limit| limit.saturating_sub(taken));
        match missing.min(room) {
            0 => wait(
                format!("{event} stands, but all servers that [limits] allows are borrowed ({taken})"),
                None,
            ),
            servers => {
                let cause = format!("{event} stands for {}", words(self.now().since(eldest.since)));
                let reason = match (has, servers < missing) {
                    (0, false) => cause,
                    (has, false) => format!("{cause}, and it has {}", count(has as usize)),
                    (_, true) => format!("{cause}; [limits] allows no more than {servers} of {missing}"),
                };
                act(Action::Borrow { servers }, reason)
            }
        }
    }

    /// More servers than the first ones are for an event that stands although these serve.
    fn more_is_due(&self, eldest: &Known) -> Result<(), Choice> {
        let mut newest = eldest.since;
        for want in &self.staying {
            match want.server {
                Server::Serving(since) => newest = newest.max(since),
                _ => {
                    return Err(wait(
                        "its servers must serve before it judges whether they suffice".to_owned(),
                        None,
                    ));
                }
            }
        }
        let due = newest + self.policy.stands;
        match self.now() < due {
            true => Err(wait(
                format!(
                    "more are borrowed if {} stands for {} beside the servers that serve",
                    eldest.event,
                    words(self.policy.stands)
                ),
                Some(due),
            )),
            false => Ok(()),
        }
    }

    fn while_nothing_stands(&self) -> Choice {
        if self.staying.is_empty() {
            let reason = match self.draining.is_empty() {
                true => "nothing stands that it is about".to_owned(),
                false => format!("{} must be drained", count(self.draining.len())),
            };
            return wait(reason, None);
        }
        let ends = self
            .about
            .iter()
            .filter_map(|known| known.over_since(self.policy.expire, self.now()));
        // Without any event (it was forgotten, or the policy is about others now) silence counts from the last decision.
        let silent = ends.max().or_else(|| self.last()).unwrap_or_default();
        let due = silent + self.policy.quiet;
        if self.now() < due {
            let quiet = words(self.policy.quiet);
            return wait(
                format!("nothing may stand for {quiet} before servers go back"),
                Some(due),
            );
        }
        if let Some(waits) = self.cooling_down() {
            return waits;
        }
        let reason = format!("nothing stands for {}", words(self.now().since(silent)));
        act(
            Action::GiveBack {
                wants: keys(&self.staying),
            },
            reason,
        )
    }

    fn cooling_down(&self) -> Option<Choice> {
        let until = self.last()? + self.policy.cooldown;
        let reason = || format!("{} must lie between two decisions", words(self.policy.cooldown));
        (self.now() < until).then(|| wait(reason(), Some(until)))
    }

    fn last(&self) -> Option<Timestamp> {
        self.situation.last.get(&self.policy.name).copied()
    }

    fn now(&self) -> Timestamp {
        self.situation.now
    }
}

/// A length of time as people say it.
pub(super) fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
