//! What may stand in a label, and expressions over labels, such as `rack in (a1, a2) and row != 3 and !gpu`.
//!
//! ```text
//! expression  = all { "or" all }
//! all         = one { ("and" | ",") one }
//! one         = ("!" | "not") one | "(" expression ")" | test
//! test        = name [ ("=" | "==" | "!=") value | ["not"] "in" "(" value { "," value } ")" ]
//! name, value = one or more of A-Z a-z 0-9 . _ / - , or anything between double quotes
//! ```
//!
//! A bare name asks whether the label is there at all. A server without the label meets `!=` and `not in`, because what is not there is not
//! that value. Length and depth are bounded: the text comes from tenants.

mod parser;

pub use parser::{LabelError, Problem};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The longest text of an expression, in bytes.
pub const LONGEST_EXPRESSION: usize = 2048;
/// The longest name or value of a label, in bytes.
pub const LONGEST_WORD: usize = 128;

/// The lender's labels of one server.
pub type Labels = BTreeMap<String, String>;

/// Whether the text may be a label's name: [`LONGEST_WORD`] at most of letters, digits and `. _ / -`, so that expressions can name it.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && text.chars().all(parser::is_plain)
}

/// Whether the text may be a label's value: not longer than [`LONGEST_WORD`], without control characters and double quotes.
pub fn is_value(text: &str) -> bool {
    text.len() <= LONGEST_WORD && !text.chars().any(|c| c.is_control() || c == '"')
}

/// A parsed expression. In JSON and TOML it is its text; it prints as a text that means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelExpression(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Has(String),
    /// The label has one of the values; with `not`, it has none of them or is not there.
    In {
        name: String,
        values: Vec<String>,
        not: bool,
    },
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// Many servers' labels, arranged so that a question is answered for all of them at once.
pub trait Sets {
    /// Some of the servers.
    type Set;
    /// Those that have a label of this name.
    fn with(&self, name: &str) -> Self::Set;
    /// Those on which it has this value.
    fn with_value(&self, name: &str, value: &str) -> Self::Set;
    /// Every server.
    fn all(&self) -> Self::Set;
    /// No server.
    fn none(&self) -> Self::Set;
    /// Those that are not in the set.
    fn not(&self, set: Self::Set) -> Self::Set;
    /// Those in both.
    fn and(&self, a: Self::Set, b: Self::Set) -> Self::Set;
    /// Those in one of them.
    fn or(&self, a: Self::Set, b: Self::Set) -> Self::Set;
}

impl LabelExpression {
    /// Whether a server with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.matches(labels)
    }

    /// All the servers that are meant: those whose labels [`match`](Self::matches).
    pub fn select<S: Sets>(&self, sets: &S) -> S::Set {
        self.0.select(sets)
    }

    /// The labels that it asks about, each once, by name.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.0.names(&mut names);
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Node {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Node::Has(name) => labels.contains_key(name),
            Node::In { name, values, not } => {
                labels.get(name).is_some_and(|value| values.contains(value)) != *not
            }
            Node::Not(inner) => !inner.matches(labels),
            Node::All(parts) => parts.iter().all(|part| part.matches(labels)),
            Node::Any(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }

    fn select<S: Sets>(&self, sets: &S) -> S::Set {
        match self {
            Node::Has(name) => sets.with(name),
            Node::In { name, values, not } => {
                let found = values.iter().map(|value| sets.with_value(name, value));
                let found = found.fold(sets.none(), |all, found| sets.or(all, found));
                if *not { sets.not(found) } else { found }
            }
            Node::Not(inner) => sets.not(inner.select(sets)),
            Node::All(parts) => parts
                .iter()
                .fold(sets.all(), |all, part| sets.and(all, part.select(sets))),
            Node::Any(parts) => parts
                .iter()
                .fold(sets.none(), |all, part| sets.or(all, part.select(sets))),
        }
    }

    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Node::Has(name) | Node::In { name, .. } => names.push(name),
            Node::Not(inner) => inner.names(names),
            Node::All(parts) | Node::Any(parts) => parts.iter().for_each(|part| part.names(names)),
        }
    }
}

impl FromStr for LabelExpression {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let expression = parser::parse(text).map(Self)?;
        // What is kept and sent is what is printed, and it must be read again; printing may add blanks and quotes.
        if expression.to_string().len() > LONGEST_EXPRESSION {
            return Err(LabelError::too_long());
        }
        Ok(expression)
    }
}

impl TryFrom<String> for LabelExpression {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<LabelExpression> for String {
    fn from(expression: LabelExpression) -> String {
        expression.to_string()
    }
}

impl fmt::Display for LabelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, false)
    }
}

impl Node {
    /// `inside`: whether a larger expression stands around it, so that it may need parentheses.
    fn print(&self, f: &mut fmt::Formatter<'_>, inside: bool) -> fmt::Result {
        match self {
            Node::Has(name) => word(f, name),
            Node::In { name, values, not } => {
                word(f, name)?;
                match (values.as_slice(), not) {
                    ([value], false) => f.write_str(" = ").and_then(|()| word(f, value)),
                    ([value], true) => f.write_str(" != ").and_then(|()| word(f, value)),
                    (values, not) => list(f, values, *not),
                }
            }
            Node::Not(inner) => f.write_str("!").and_then(|()| inner.print(f, true)),
            Node::All(parts) => chain(f, parts, " and ", inside),
            Node::Any(parts) => chain(f, parts, " or ", inside),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, values: &[String], not: bool) -> fmt::Result {
    f.write_str(if not { " not in (" } else { " in (" })?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        word(f, value)?;
    }
    f.write_str(")")
}

fn chain(f: &mut fmt::Formatter<'_>, parts: &[Node], between: &str, inside: bool) -> fmt::Result {
    if inside {
        f.write_str("(")?;
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        part.print(f, true)?;
    }
    f.write_str(if inside { ")" } else { "" })
}

fn word(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = !text.is_empty() && text.chars().all(parser::is_plain) && !parser::is_keyword(text);
    if plain {
        f.write_str(text)
    } else {
        write!(f, "\"{text}\"")
    }
}

#[cfg(test)]
mod tests;
