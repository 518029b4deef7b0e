//! `[inventory]` of `lm.toml`: what happens when a server is not what it was.

use super::compare::{Difference, DifferenceKind};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a difference leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// It is shown and kept; the server is lent as before.
    #[default]
    Note,
    /// The server is not lent until somebody has looked at it.
    Quarantine,
}

/// The `[inventory]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InventoryPolicy {
    /// For every kind that `kinds` does not name.
    pub on_change: Reaction,
    /// For kinds of differences, such as `disk = "quarantine"`.
    pub kinds: BTreeMap<DifferenceKind, Reaction>,
}

impl InventoryPolicy {
    /// Why the server must be quarantined; `None` when it may go on.
    pub fn quarantine(&self, differences: &[Difference]) -> Option<String> {
        let reaction = |kind| self.kinds.get(&kind).copied().unwrap_or(self.on_change);
        let grave = differences
            .iter()
            .filter(|difference| reaction(difference.kind) == Reaction::Quarantine);
        let words: Vec<_> = grave.map(|difference| difference.words.as_str()).collect();
        (!words.is_empty()).then(|| format!("not what it was: {}", words.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_s_own_reaction_goes_before_the_general_one() {
        let difference = |kind, words: &str| Difference {
            kind,
            words: words.to_owned(),
        };
        let both = [
            difference(DifferenceKind::Disk, "the disk is missing"),
            difference(DifferenceKind::Nic, "a card is new"),
        ];
        let policy = |text: &str| toml::from_str::<InventoryPolicy>(text).unwrap();
        assert_eq!(policy("").quarantine(&both), None);
        assert_eq!(
            policy("kinds.disk = \"quarantine\"").quarantine(&both).unwrap(),
            "not what it was: the disk is missing"
        );
        assert_eq!(
            policy("on_change = \"quarantine\"\nkinds.disk = \"note\"")
                .quarantine(&both)
                .unwrap(),
            "not what it was: a card is new"
        );
        assert!(toml::from_str::<InventoryPolicy>("kinds.colour = \"note\"").is_err());
    }
}
