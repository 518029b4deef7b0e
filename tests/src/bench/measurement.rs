//! What a bench says about one thing that it measured.

use serde::{Deserialize, Serialize};

/// The word with which a line begins that carries a [`Measurement`].
const MARK: &str = "row ";

/// One thing measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What was measured, in a few words.
    pub name: String,
    /// The unit of both values, such as `MiB/CPU-s`.
    pub unit: String,
    /// Our value.
    pub ours: f64,
    /// The value of the peer that the goal speaks of.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// What we want.
    #[serde(default)]
    pub goal: Option<Goal>,
}

/// Somebody else's program that does the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its value in this run.
    pub value: f64,
}

/// What we want; a ratio is ours divided by the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At least so many times the peer's.
    RatioAtLeast(f64),
    /// At most so many times the peer's.
    RatioAtMost(f64),
    /// Ours alone, at least.
    AtLeast(f64),
    /// Ours alone, at most.
    AtMost(f64),
}

impl Measurement {
    /// A value of ours, without a peer or a goal.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, ours: f64) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            ours,
            peer: None,
            goal: None,
        }
    }

    /// With the peer's value beside it.
    #[must_use]
    pub fn against(mut self, peer: impl Into<String>, value: f64) -> Self {
        self.peer = Some(Peer {
            name: peer.into(),
            value,
        });
        self
    }

    /// With a goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Says it on standard output, where the xtask listens.
    ///
    /// # Errors
    /// Only numbers that JSON does not know.
    pub fn say(&self) -> serde_json::Result<()> {
        println!("{MARK}{}", serde_json::to_string(self)?);
        Ok(())
    }

    /// Reads a line of a bench: `None` when it carries no measurement.
    pub fn heard(line: &str) -> Option<serde_json::Result<Self>> {
        line.strip_prefix(MARK).map(serde_json::from_str)
    }

    /// Ours divided by the peer's.
    pub fn ratio(&self) -> Option<f64> {
        self.peer
            .as_ref()
            .filter(|peer| peer.value > 0.0)
            .map(|peer| self.ours / peer.value)
    }

    /// Whether the goal was reached; `None` without a goal. A ratio that could not be had reaches nothing.
    pub fn met(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::RatioAtLeast(least) => self.ratio().is_some_and(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Goal::AtLeast(least) => self.ours >= least,
            Goal::AtMost(most) => self.ours <= most,
        })
    }
}

/// The value in the middle: one disturbed run among several changes nothing.
///
/// # Panics
/// Without values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_said_and_heard() {
        let line = r#"row {"name":"a","unit":"s","ours":3.0,"peer":{"name":"b","value":2.0},"goal":{"ratio_at_least":1.5}}"#;
        let heard = Measurement::heard(line).unwrap().unwrap();
        let made = Measurement::new("a", "s", 3.0)
            .against("b", 2.0)
            .goal(Goal::RatioAtLeast(1.5));
        assert_eq!(heard, made);
        assert_eq!((heard.ratio(), heard.met()), (Some(1.5), Some(true)));
        assert!(Measurement::heard("rows are said so").is_none());
        assert!(Measurement::heard("row of houses").unwrap().is_err());
    }

    #[test]
    fn a_goal_without_a_peer_is_not_reached_by_accident() {
        let alone = Measurement::new("a", "s", 3.0).goal(Goal::RatioAtMost(9.0));
        assert_eq!(alone.met(), Some(false));
        assert_eq!(alone.against("b", 0.0).met(), Some(false));
        assert_eq!(
            Measurement::new("a", "MB", 30.0).goal(Goal::AtMost(32.0)).met(),
            Some(true)
        );
        assert_eq!(Measurement::new("a", "MB", 30.0).met(), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 100.0, 1.0]), 3.0);
    }
}
