//! What each policy sees, has, decided and waits for: the answer to "why is there a server, and why is there none".

use super::decide::words;
use super::desk::Desk;
use super::{Decision, Policy, Server, Stage, Want, WantKey};
use crate::borrowing::BorrowingId;
use crate::events::Known;
use crate::store::StoreError;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How many decisions are told.
const DECISIONS: u32 = 5;

/// All policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The daemon's time.
    pub now: Timestamp,
    /// Why the file as it is now is not in force.
    pub problem: Option<String>,
    /// How many servers may be borrowed in all.
    pub limit: Option<u32>,
    /// Each policy.
    pub policies: Vec<Explanation>,
    /// Servers of policies that are no longer in the file: they are left to people.
    pub orphans: Vec<Holding>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its name.
    pub policy: String,
    /// What it does, in words.
    pub rule: String,
    /// The events that it is about, those that stand first.
    pub sees: Vec<Seen>,
    /// Its servers.
    pub has: Vec<Holding>,
    /// What it decided, the latest first.
    pub decided: Vec<Decision>,
    /// What it does next or waits for.
    pub waits_for: String,
    /// When time alone may change that.
    pub until: Option<Timestamp>,
}

/// An event as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What was raised.
    #[serde(flatten)]
    pub known: Known,
    /// Whether it stands for this policy.
    pub stands: bool,
}

/// A server of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Its key.
    pub want: WantKey,
    /// The policy.
    pub policy: String,
    /// The borrowing, once there is one.
    pub borrowing: Option<BorrowingId>,
    /// Where it stands.
    pub stage: Stage,
    /// The same, in words.
    pub state: String,
}

impl Desk {
    /// Explains every policy, or the one that is named.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn explain(&self, only: Option<&str>) -> Result<Report, StoreError> {
        self.refresh();
        let loaded = self.in_force();
        let knowledge = self.knowledge().await?;
        let mut policies = Vec::new();
        for verdict in knowledge.verdicts(&loaded.policies) {
            let Some(policy) = loaded.policies.get(&verdict.policy) else {
                continue;
            };
            if only.is_some_and(|only| only != policy.name) {
                continue;
            }
            let seen = |known: &Known| Seen {
                stands: known.stands(policy.expire, knowledge.now),
                known: known.clone(),
            };
            let about = knowledge
                .events
                .iter()
                .filter(|known| policy.on.fits(&known.event));
            let mut sees: Vec<_> = about.map(seen).collect();
            sees.sort_by_key(|seen| !seen.stands);
            let mine = knowledge.wants.iter().filter(|want| want.policy == policy.name);
            policies.push(Explanation {
                policy: policy.name.clone(),
                rule: rule(policy),
                sees,
                has: mine.map(holding).collect(),
                decided: self.store.decisions(&policy.name, DECISIONS).await?,
                waits_for: verdict.reason,
                until: verdict.wake,
            });
        }
        let left = |want: &&Want| loaded.policies.get(&want.policy).is_none();
        Ok(Report {
            now: knowledge.now,
            problem: loaded.problem,
            limit: loaded.policies.limit,
            policies,
            orphans: knowledge.wants.iter().filter(left).map(holding).collect(),
        })
    }
}

fn rule(policy: &Policy) -> String {
    let lenders = match policy.lenders.as_slice() {
        [] => String::new(),
        lenders => format!(", from {}", lenders.join(", then ")),
    };
    format!(
        "{} for {}: borrow {} by profile {}, at most {}{lenders}; over for {}: give back{}",
        policy.on,
        words(policy.stands),
        policy.servers,
        policy.profile,
        policy.limit,
        words(policy.quiet),
        if policy.drain.is_some() {
            " once drained"
        } else {
            ""
        },
    )
}

fn holding(want: &Want) -> Holding {
    Holding {
        want: want.key.clone(),
        policy: want.policy.clone(),
        borrowing: want.borrowing.clone(),
        state: state(want),
        stage: want.stage.clone(),
    }
}

fn state(want: &Want) -> String {
    let tried = |verb: &str, tries: &super::Tries| match &tries.failure {
        Some(failure) => format!("{verb}, attempt {} failed: {failure}", tries.count),
        None => verb.to_owned(),
    };
    match (&want.stage, want.server) {
        (Stage::Draining(tries), _) => tried("draining", tries),
        (Stage::Resuming(tries), _) => tried("taken into use again", tries),
        (Stage::Leaving, _) => "given back".to_owned(),
        (Stage::Closed { why }, _) => why.clone(),
        (_, Server::Serving(_)) => "in service".to_owned(),
        (_, Server::Coming) => "on its way".to_owned(),
        (_, Server::None) => "wanted".to_owned(),
        (_, Server::Gone | Server::Over) => "gone".to_owned(),
    }
}

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(problem) = &self.problem {
            let _ = writeln!(text, "not in force: {problem}\n");
        }
        if let Some(limit) = self.limit {
            let _ = writeln!(text, "at most {limit} servers in all\n");
        }
        if self.policies.is_empty() {
            text.push_str("there are no policies; write some into policies.toml beside po.toml\n");
        }
        for policy in &self.policies {
            self.tell(policy, &mut text);
        }
        for orphan in &self.orphans {
            let _ = writeln!(
                text,
                "{} of {}, which is not in the file any more: {}; `leaseboot-po release` gives it back",
                name(orphan),
                orphan.policy,
                orphan.state
            );
        }
        text
    }

    fn tell(&self, policy: &Explanation, text: &mut String) {
        let _ = writeln!(text, "{}: {}", policy.policy, policy.rule);
        for seen in &policy.sees {
            let how = if seen.stands { "stands" } else { "is over" };
            let since = self.ago(seen.known.since);
            let _ = writeln!(
                text,
                "  sees     {} {how} since {since} ({})",
                seen.known.event, seen.known.event.key
            );
        }
        for held in &policy.has {
            let _ = writeln!(text, "  has      {}: {}", name(held), held.state);
        }
        for decision in &policy.decided {
            let at = self.ago(decision.at);
            let _ = writeln!(text, "  decided  {} at {at}: {}", decision.what, decision.reason);
        }
        let _ = match policy.until {
            Some(until) => writeln!(
                text,
                "  waits    {} ({} left)\n",
                policy.waits_for,
                words(until.since(self.now))
            ),
            None => writeln!(text, "  waits    {}\n", policy.waits_for),
        };
    }

    fn ago(&self, at: Timestamp) -> String {
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX));
        let time = time
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_default();
        format!("{time}, {} ago", words(self.now.since(at)))
    }
}

fn name(held: &Holding) -> String {
    match &held.borrowing {
        Some(borrowing) => borrowing.to_string(),
        None => held.want.to_string(),
    }
}
