//! What a channel with a memory of its own has to be told. Pure: `(what it should show, what it was told) -> steps`.
//!
//! ```text
//!            in service                told                      gone                withdrawn
//! (no row) ─────────────► Telling ──────────► Told ─────────────► Withdrawing ───────────────► (no row)
//!     │                    ▲    └───────────── gone ───────────────▲  │
//!     └─► Owed ────────────┘                                          └─ in service again ─► Telling
//! ```
//!
//! The mark is written down before the channel hears a word. So whatever a channel may show has a row, also after a crash in between, and
//! whoever reads rows and roster knows what is left to do: a step that may or may not have been taken is taken again. [`Mark::Owed`] is
//! written in the same transaction as the state of the borrowing, for channels that must hear of every server, however short it served.

use crate::borrowing::BorrowingId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is announced, by a name that is unique in its channel.
pub type Subject = String;

/// How far a channel was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It has to be told, even if the server is gone by then.
    Owed,
    /// It is being told, or was told when the PO ended.
    Telling,
    /// It was told.
    Told,
    /// It is being told that this is no longer so.
    Withdrawing,
}

/// Something that a channel should show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<S> {
    /// For whose sake.
    pub borrowing: BorrowingId,
    /// What.
    pub shown: S,
}

/// Something that a channel was told, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<S> {
    /// For whose sake.
    pub borrowing: BorrowingId,
    /// What.
    pub shown: S,
    /// How far.
    pub mark: Mark,
    /// How often in vain since it was last told something.
    pub tries: u32,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Show it.
    Tell,
    /// Show it no longer.
    Withdraw,
}

impl Act {
    /// The mark while it is done.
    pub fn begun(self) -> Mark {
        match self {
            Act::Tell => Mark::Telling,
            Act::Withdraw => Mark::Withdrawing,
        }
    }
}

/// One thing to do. It may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<S> {
    /// Which way.
    pub act: Act,
    /// Its name.
    pub subject: Subject,
    /// For whose sake.
    pub borrowing: BorrowingId,
    /// What.
    pub shown: S,
}

/// Everything that is left to do.
pub fn plan<S: Clone + Eq>(
    wanted: &BTreeMap<Subject, Wanted<S>>,
    told: &BTreeMap<Subject, Row<S>>,
) -> Vec<Step<S>> {
    let step = |act, subject: &Subject, borrowing: &BorrowingId, shown: &S| Step {
        act,
        subject: subject.clone(),
        borrowing: borrowing.clone(),
        shown: shown.clone(),
    };
    // What goes comes first: what comes may take its place.
    let going = told.iter().filter_map(|(subject, row)| match row.mark {
        _ if wanted.contains_key(subject) => None,
        Mark::Owed => Some(step(Act::Tell, subject, &row.borrowing, &row.shown)),
        Mark::Telling | Mark::Told | Mark::Withdrawing => {
            Some(step(Act::Withdraw, subject, &row.borrowing, &row.shown))
        }
    });
    let coming = wanted.iter().filter_map(|(subject, wanted)| {
        let stands = told.get(subject).is_some_and(|row| {
            row.mark == Mark::Told && row.shown == wanted.shown && row.borrowing == wanted.borrowing
        });
        (!stands).then(|| step(Act::Tell, subject, &wanted.borrowing, &wanted.shown))
    });
    going.chain(coming).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A channel, its rows, and what should be seen; every step may be cut off at any point.
    #[derive(Default)]
    struct World {
        wanted: BTreeMap<Subject, Wanted<u8>>,
        rows: BTreeMap<Subject, Row<u8>>,
        channel: BTreeMap<Subject, u8>,
    }

    impl World {
        fn set(&mut self, n: u8, shown: Option<u8>) {
            let subject = n.to_string();
            match shown {
                None => drop(self.wanted.remove(&subject)),
                Some(shown) => {
                    let borrowing = BorrowingId::from_text(&subject);
                    self.wanted.insert(subject, Wanted { borrowing, shown });
                }
            }
        }

        /// Takes the first step, up to `cut`: 0 nothing, 1 the mark, 2 the word too, 3 all of it. Says whether there was one.
        fn step(&mut self, cut: u8) -> bool {
            let Some(step) = plan(&self.wanted, &self.rows).into_iter().next() else {
                return false;
            };
            let row = |mark| Row {
                borrowing: step.borrowing.clone(),
                shown: step.shown,
                mark,
                tries: 0,
            };
            if cut >= 1 {
                self.rows.insert(step.subject.clone(), row(step.act.begun()));
            }
            if cut >= 2 {
                match step.act {
                    Act::Tell => drop(self.channel.insert(step.subject.clone(), step.shown)),
                    Act::Withdraw => drop(self.channel.remove(&step.subject)),
                }
            }
            if cut >= 3 {
                match step.act {
                    Act::Tell => drop(self.rows.insert(step.subject.clone(), row(Mark::Told))),
                    Act::Withdraw => drop(self.rows.remove(&step.subject)),
                }
            }
            true
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_off_the_channel_converges_and_nothing_is_shown_without_a_row(
            changes in prop::collection::vec((0u8..4, prop::option::of(0u8..3), 0u8..4), 0..60),
        ) {
            let mut world = World::default();
            for (n, shown, cut) in changes {
                world.set(n, shown);
                world.step(cut);
                for subject in world.channel.keys() {
                    prop_assert!(world.rows.contains_key(subject), "{subject} is shown and nobody knows");
                }
            }
            let mut left = 20;
            while world.step(3) {
                left -= 1;
                prop_assert!(left > 0, "it does not come to an end");
            }
            let wanted: BTreeMap<_, _> = world.wanted.iter().map(|(k, v)| (k.clone(), v.shown)).collect();
            prop_assert_eq!(&world.channel, &wanted);
            prop_assert_eq!(world.rows.len(), wanted.len(), "no row is left over");
        }
    }

    #[test]
    fn what_is_owed_is_told_although_the_server_is_gone_and_withdrawn_then() {
        let borrowing = BorrowingId::from_text("b");
        let row = |mark| {
            let borrowing = borrowing.clone();
            BTreeMap::from([(
                "b".to_owned(),
                Row {
                    borrowing,
                    shown: (),
                    mark,
                    tries: 0,
                },
            )])
        };
        let acts = |mark| -> Vec<_> {
            plan(&BTreeMap::new(), &row(mark))
                .iter()
                .map(|step| step.act)
                .collect()
        };
        assert_eq!(acts(Mark::Owed), [Act::Tell]);
        assert_eq!(acts(Mark::Told), [Act::Withdraw]);
    }
}
