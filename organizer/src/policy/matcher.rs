//! Which events a policy is about: by name, and by labels as Prometheus means them: a label that is not there equals the empty text.

use crate::events::Event;
use std::collections::BTreeMap;
use std::fmt;

/// Names and labels, each with the values of which one must be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// The event's name is one of these.
    pub names: Vec<String>,
    /// Each of these labels has one of its values.
    pub labels: BTreeMap<String, Vec<String>>,
}

impl Matcher {
    /// Whether the policy is about this event.
    pub fn fits(&self, event: &Event) -> bool {
        let one_of = |wanted: &[String], value: &str| wanted.iter().any(|wanted| wanted == value);
        let mut labels = self.labels.iter();
        one_of(&self.names, &event.name)
            && labels.all(|(name, wanted)| one_of(wanted, event.labels.get(name).map_or("", String::as_str)))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(" or "))?;
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, values)| format!("{name}={:?}", values.join("|")))
            .collect();
        match labels.is_empty() {
            true => Ok(()),
            false => write!(f, "{{{}}}", labels.join(", ")),
        }
    }
}
