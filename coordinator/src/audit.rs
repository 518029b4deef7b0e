//! Who did what, in a log whose entries each cover the one before, so that nobody can change or take out one of them unseen.
//!
//! ```text
//! entry 1: fields, previous = 00…00 ─► sha256 ─┐
//!                       ┌──────────────────────┘
//! entry 2: fields, previous = sha256 of 1 ─► sha256 ─► … ─► head: number and sha256 of the last
//! ```
//!
//! Pure: the store keeps entries and head, in the transaction of what was done where there is one. What the chain shows is that the log is
//! the one that was written; whoever can write the whole store can write another whole log, so an operator who wants to hold out
//! against that keeps the head elsewhere now and then (`leaseboot-lm audit verify` prints it).

use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{LeaseId, ServerId, TenantId};
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What was done, before it has a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// By whom: `tenant acme`, `operator root`, `lease manager`.
    pub actor: String,
    /// What, such as `borrow` or `power off ordered`.
    pub action: String,
    /// On which lease.
    pub lease: Option<LeaseId>,
    /// On which server.
    pub server: Option<ServerId>,
    /// More, for people. Never a secret.
    pub detail: String,
}

impl Deed {
    /// A deed of a tenant.
    pub fn of_tenant(tenant: &TenantId, action: impl Into<String>) -> Self {
        Self::of(format!("tenant {tenant}"), action)
    }

    /// A deed of the LM itself.
    pub fn of_manager(action: impl Into<String>) -> Self {
        Self::of("lease manager".to_owned(), action)
    }

    /// A deed of whoever runs this command.
    pub fn of_operator(action: impl Into<String>) -> Self {
        Self::of_named_operator(&operator_name(), action)
    }

    /// A deed of an operator who runs a command elsewhere.
    pub fn of_named_operator(name: &str, action: impl Into<String>) -> Self {
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::of(format!("operator {name}"), action)
    }

    fn of(actor: String, action: impl Into<String>) -> Self {
        Self {
            actor,
            action: action.into(),
            lease: None,
            server: None,
            detail: String::new(),
        }
    }

    /// On a lease and its server.
    #[must_use]
    pub fn on(mut self, lease: Option<&LeaseId>, server: Option<&ServerId>) -> Self {
        self.lease = lease.cloned();
        self.server = server.cloned();
        self
    }

    /// With more words.
    #[must_use]
    pub fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// Whoever runs this command.
pub fn operator_name() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()));
    name.unwrap_or_else(|| "without a name".to_owned())
}

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Entries so far.
    pub sequence: u64,
    /// The digest of the last one.
    pub sha256: Sha256,
}

impl Head {
    /// Of an empty log.
    pub fn none() -> Self {
        Self {
            sequence: 0,
            sha256: "0".repeat(64).parse().expect("64 hexadecimal digits"),
        }
    }
}

/// A deed in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// What.
    pub action: String,
    /// On which lease.
    pub lease: Option<String>,
    /// On which server.
    pub server: Option<String>,
    /// More, for people.
    pub detail: String,
    /// The digest of the entry before.
    pub previous: Sha256,
    /// The digest of this one.
    pub sha256: Sha256,
}

impl Entry {
    /// The entry that comes after `head`.
    pub fn after(head: &Head, at: Timestamp, deed: &Deed) -> Self {
        let mut entry = Self {
            sequence: head.sequence + 1,
            at,
            actor: deed.actor.clone(),
            action: deed.action.clone(),
            lease: deed.lease.as_ref().map(ToString::to_string),
            server: deed.server.as_ref().map(ToString::to_string),
            detail: deed.detail.clone(),
            previous: head.sha256,
            sha256: head.sha256,
        };
        entry.sha256 = entry.digest();
        entry
    }

    /// The SHA-256 over all other fields as a JSON array, which leaves no doubt where one field ends.
    fn digest(&self) -> Sha256 {
        let fields = (
            self.sequence,
            self.at,
            &self.actor,
            &self.action,
            &self.lease,
            &self.server,
            &self.detail,
            self.previous,
        );
        Sha256::of(&serde_json::to_vec(&fields).expect("numbers and texts have a JSON form"))
    }
}

/// The log is not the one that was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is broken at entry {sequence}: {problem}")]
pub struct Broken {
    /// The first entry that is wrong.
    pub sequence: u64,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Follows the chain, entry by entry.
#[derive(Debug)]
pub struct Verifier {
    head: Head,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { head: Head::none() }
    }
}

impl Verifier {
    /// Where the chain has got to.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn follow(&mut self, entry: &Entry) -> Result<(), Broken> {
        let expected = self.head.sequence + 1;
        let broken = |problem| {
            Err(Broken {
                sequence: expected,
                problem,
            })
        };
        if entry.sequence != expected {
            return broken("it is missing");
        }
        if entry.previous != self.head.sha256 {
            return broken("it does not continue the one before: one of the two was replaced");
        }
        if entry.digest() != entry.sha256 {
            return broken("its fields are not those that its digest was made of: it was changed");
        }
        self.head = Head {
            sequence: entry.sequence,
            sha256: entry.sha256,
        };
        Ok(())
    }

    /// All entries have been followed; `head` is what the store says of the end.
    ///
    /// # Errors
    /// [`Broken`] when the end was cut off.
    pub fn end(self, head: &Head) -> Result<Head, Broken> {
        if self.head == *head {
            return Ok(*head);
        }
        Err(Broken {
            sequence: self.head.sequence + 1,
            problem: "the end of the log is not where it was: entries were taken away or added behind the log's back",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(length: usize) -> (Vec<Entry>, Head) {
        let (mut head, mut entries) = (Head::none(), Vec::new());
        for number in 0..length {
            let deed = Deed::of_manager(format!("deed {number}"));
            let entry = Entry::after(&head, Timestamp(number as u64), &deed);
            head = Head {
                sequence: entry.sequence,
                sha256: entry.sha256,
            };
            entries.push(entry);
        }
        (entries, head)
    }

    fn verify(entries: &[Entry], head: &Head) -> Result<Head, Broken> {
        let mut verifier = Verifier::default();
        for entry in entries {
            verifier.follow(entry)?;
        }
        verifier.end(head)
    }

    #[test]
    fn a_log_that_was_left_alone_is_whole() {
        let (entries, head) = log(5);
        assert_eq!(verify(&entries, &head), Ok(head));
        assert_eq!(verify(&[], &Head::none()), Ok(Head::none()));
    }

    proptest! {
        #[test]
        fn whoever_tampers_is_found_at_that_entry(length in 1usize..12, which in 0usize..12, how in 0u8..7) {
            let (mut entries, head) = log(length);
            let which = which % length;
            let place = which as u64 + 1;
            match how {
                0 => entries[which].actor.push('x'),
                1 => entries[which].detail = "other".to_owned(),
                2 => entries[which].at = Timestamp(999),
                3 => entries[which].server = Some("s1".to_owned()),
                4 => drop(entries.remove(which)),
                5 => {
                    // With a digest that fits: the next one, or the head, does not.
                    entries[which].action = "other".to_owned();
                    entries[which].sha256 = entries[which].digest();
                }
                _ => entries.truncate(which),
            }
            let broken = verify(&entries, &head).unwrap_err();
            let found = if how == 5 { place + 1 } else { place };
            prop_assert_eq!(broken.sequence, found);
        }
    }
}
