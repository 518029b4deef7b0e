//! What the enterprise's services raise: "this stands" and "this is over". Three doors, one kind of event behind them.
//!
//! ```text
//! Alertmanager  POST /v1/alertmanager ─► alertmanager ┐
//! CloudEvents   POST /v1/events ───────► cloudevents  ├─► Event ─► Known::after ─► store ─► policy::decide
//! leaseboot-po event, control socket ────────────────┘
//! ```
//!
//! Events are repeated, come late and overtake each other: Alertmanager sends an alert again every few hours, and again after every
//! failure. So an event is a statement about a thing with a stable [`Key`], and [`Known::after`] (pure) makes the same of it however often
//! it comes: a repeat changes nothing but when it was heard last, and a statement that is older than the last change is passed over.
//!
//! Hysteresis counts by our own clock ([`Known::since`]), order by the sender's ([`Known::at`]): two clocks are never compared.

pub mod alertmanager;
pub mod cloudevents;
pub mod listener;

use leaseboot_protocol::digest::Hasher;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest name, source, label or value, in bytes.
const LONGEST_TEXT: usize = 1024;
/// The most labels of one event.
const MOST_LABELS: usize = 64;
/// Hexadecimal digits of a key: enough that two things never share one by chance.
const KEY_DIGITS: usize = 16;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// What an event is about, such as `alertmanager:5f3a…`. The same thing has the same key each time it is spoken of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The key of the thing that `parts` name, as `source` speaks of it.
    pub fn of<'a>(door: &str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hasher = Hasher::new();
        for part in parts {
            // With its length, so that no two lists of parts give the same bytes.
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let digest = hasher.finish().to_string();
        Self(format!("{door}:{}", &digest[..KEY_DIGITS]))
    }

    /// A key as it was written down.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is said of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It stands.
    Firing,
    /// It is over.
    Resolved,
}

/// A statement about something that a service cares for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The thing.
    pub key: Key,
    /// Who said it.
    pub source: String,
    /// What kind of thing it is: the alert's name, the event's type.
    pub name: String,
    /// More about it.
    pub labels: Labels,
    /// What is said.
    pub status: Status,
    /// Since when it is so, by the sender's clock.
    pub at: Timestamp,
}

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The message is not of the format.
    #[error("{0}")]
    Malformed(String),
    /// A text is too long, or there are too many labels.
    #[error("the event {name:?} has {what}; leave out what no policy looks at")]
    TooMuch {
        /// The beginning of its name.
        name: String,
        /// What there is too much of.
        what: String,
    },
}

impl Event {
    /// The event, when it is of a size that is kept.
    ///
    /// # Errors
    /// [`EventError::TooMuch`].
    pub fn measured(self) -> Result<Self, EventError> {
        let too_much = |what: String| {
            let name = self.name.chars().take(64).collect();
            EventError::TooMuch { name, what }
        };
        if self.labels.len() > MOST_LABELS {
            let what = format!("{} labels, and at most {MOST_LABELS} are kept", self.labels.len());
            return Err(too_much(what));
        }
        let texts = self.labels.iter().flat_map(|(name, value)| [name, value]);
        let longest = texts.chain([&self.name, &self.source]).map(String::len).max();
        match longest.filter(|length| *length > LONGEST_TEXT) {
            Some(length) => Err(too_much(format!(
                "a text of {length} bytes, and at most {LONGEST_TEXT} are kept"
            ))),
            None => Ok(self),
        }
    }
}

/// A thing as it stands, by all that was said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What was said last.
    pub event: Event,
    /// Since when we know it to be so, by our clock: hysteresis counts from here.
    pub since: Timestamp,
    /// When it was spoken of last, by our clock.
    pub heard: Timestamp,
}

impl Known {
    /// What is known once `event` was heard at `now`. A repeat moves `heard` only; what is older than the last change is passed over; a resolved
    /// thing that nobody spoke of before is not worth a memory.
    pub fn after(before: Option<&Known>, event: Event, now: Timestamp) -> Option<Known> {
        let Some(known) = before else {
            return (event.status == Status::Firing).then_some(Known {
                event,
                since: now,
                heard: now,
            });
        };
        if event.at < known.event.at {
            return None;
        }
        let same = event.status == known.event.status;
        // It began anew in between: its end was not heard.
        let anew = same && event.status == Status::Firing && event.at > known.event.at;
        Some(Known {
            since: if same && !anew { known.since } else { now },
            heard: now,
            event: Event {
                // A repeat of "it is over" with a later time is no later end.
                at: if same && !anew { known.event.at } else { event.at },
                ..event
            },
        })
    }

    /// Whether it stands at `now`. What nobody spoke of for `expire` is taken to be over: whoever raised it may be gone.
    pub fn stands(&self, expire: Option<Duration>, now: Timestamp) -> bool {
        let forgotten = expire.is_some_and(|expire| now.since(self.heard) >= expire);
        self.event.status == Status::Firing && !forgotten
    }

    /// Since when it does not stand, when it does not.
    pub fn over_since(&self, expire: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
        match (self.event.status, expire) {
            (Status::Resolved, _) => Some(self.since),
            (Status::Firing, Some(expire)) if !self.stands(Some(expire), now) => Some(self.heard + expire),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        // The name stands among an alert's labels, too.
        let labels = self.labels.iter().filter(|(name, _)| *name != "alertname");
        let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
        match labels.is_empty() {
            true => Ok(()),
            false => write!(f, "{{{}}}", labels.join(", ")),
        }
    }
}

/// A time of RFC 3339, as the sender's clock tells it.
fn time_of(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
    Some(Timestamp(millis))
}

#[cfg(test)]
mod tests;
