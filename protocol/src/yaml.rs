//! A strict reading of YAML: a tree with the place of each node, for texts that a tenant wrote and a PO must be able to compare.
//!
//! What YAML allows beyond trees is refused, because installers that read it differently would install something else than what was
//! looked at, and because it is how small texts become large: anchors and aliases ("billion laughs"), tags, merge keys, keys that
//! are no plain words, a key twice in one mapping, more than one document. Depth and number of nodes are bounded; the parser is asked
//! for one event at a time, so that a bad text is left where it turns bad.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::BTreeMap;

/// Mappings and lists inside of each other.
pub const DEEPEST: usize = 32;
/// Keys, values and lists in all.
pub const MOST_NODES: usize = 20_000;

/// A text that is not read, and where it turned bad.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct YamlError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A node and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line of its first character, counted from 1.
    pub line: usize,
    /// The column of its first character, counted from 0. Of a list in block style it says nothing reliable.
    pub column: usize,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// A word or a text.
    Scalar {
        /// Without quotes.
        text: String,
        /// Whether it was quoted: `"1"` is a text and `1` is a number.
        quoted: bool,
    },
    /// A list.
    Sequence {
        /// Its items.
        items: Vec<Node>,
        /// Whether it stands in `[]`.
        flow: bool,
    },
    /// A mapping, in the order of the text.
    Mapping {
        /// Key and value. Keys are scalars.
        entries: Vec<(Node, Node)>,
        /// Whether it stands in `{}`.
        flow: bool,
    },
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Mapping { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence { items, .. } => items,
            _ => &[],
        }
    }

    /// Key and value of this name in a mapping.
    pub fn entry(&self, name: &str) -> Option<&(Node, Node)> {
        self.entries().iter().find(|(key, _)| key.text() == Some(name))
    }

    /// The value of this name in a mapping.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|(_, value)| value)
    }

    /// The value of this name in a mapping, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let Value::Mapping { entries, .. } = &mut self.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|(key, _)| key.text() == Some(name));
        entry.map(|(_, value)| value)
    }

    /// Takes an entry out of a mapping.
    pub fn remove(&mut self, name: &str) -> Option<(Node, Node)> {
        let Value::Mapping { entries, .. } = &mut self.value else {
            return None;
        };
        let index = entries.iter().position(|(key, _)| key.text() == Some(name))?;
        Some(entries.remove(index))
    }

    /// Takes the first item out of a list for which `wanted` is true.
    pub fn remove_item(&mut self, wanted: impl FnMut(&Node) -> bool) -> Option<Node> {
        let Value::Sequence { items, .. } = &mut self.value else {
            return None;
        };
        let index = items.iter().position(wanted)?;
        Some(items.remove(index))
    }

    /// Whether it is a mapping in block style with at least one entry.
    pub fn is_block_mapping(&self) -> bool {
        matches!(&self.value, Value::Mapping { entries, flow: false } if !entries.is_empty())
    }

    /// Whether it is a list in block style with at least one item.
    pub fn is_block_sequence(&self) -> bool {
        matches!(&self.value, Value::Sequence { items, flow: false } if !items.is_empty())
    }

    /// Whether an installer would read the same: places and styles of collections do not count, order and quotes do.
    pub fn means_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar { text: a, quoted: x }, Value::Scalar { text: b, quoted: y }) => a == b && x == y,
            (Value::Sequence { items: a, .. }, Value::Sequence { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means_the_same(b))
            }
            (Value::Mapping { entries: a, .. }, Value::Mapping { entries: b, .. }) => {
                let same = |(a, b): (&(Node, Node), &(Node, Node))| {
                    a.0.means_the_same(&b.0) && a.1.means_the_same(&b.1)
                };
                a.len() == b.len() && a.iter().zip(b).all(same)
            }
            _ => false,
        }
    }
}

/// Reads `text`, which holds one document.
///
/// # Errors
/// [`YamlError`] at the first thing that is not a plain tree within the bounds.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        reader.take(event, span)?;
    }
    reader.document.ok_or_else(|| YamlError {
        line: 1,
        problem: "there is no YAML document".to_owned(),
    })
}

fn syntax(error: &ScanError) -> YamlError {
    let line = error.marker().line().max(1);
    YamlError {
        line,
        problem: format!(
            "this is not YAML: {} (a value that begins with @ needs quotes)",
            error.info()
        ),
    }
}

/// What is open while events come in.
#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    document: Option<Node>,
    nodes: usize,
}

/// A collection that is not closed yet.
struct Open {
    node: Node,
    /// The key whose value comes next.
    key: Option<Node>,
    /// The keys so far, each with its line.
    known: BTreeMap<String, usize>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        let refuse = |problem: &str| {
            Err(YamlError {
                line,
                problem: problem.to_owned(),
            })
        };
        let value = match event {
            Event::Alias(_) => return refuse("aliases (*name) are not taken: write the value out"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refuse("anchors (&name) are not taken: write the value out where it is needed");
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return refuse("tags (!name) are not taken: leave the tag out");
            }
            Event::Scalar(text, style, ..) => Value::Scalar {
                text: text.into_owned(),
                quoted: style != ScalarStyle::Plain,
            },
            Event::SequenceStart(..) => Value::Sequence {
                items: Vec::new(),
                flow: !span.is_empty(),
            },
            Event::MappingStart(..) => Value::Mapping {
                entries: Vec::new(),
                flow: !span.is_empty(),
            },
            Event::SequenceEnd | Event::MappingEnd => return self.close(),
            Event::DocumentStart(_) if self.document.is_some() => {
                return refuse("a second document begins here: write one");
            }
            _ => return Ok(()),
        };
        self.open(Node {
            line,
            column: span.start.col(),
            value,
        })
    }

    fn open(&mut self, node: Node) -> Result<(), YamlError> {
        let line = node.line;
        self.nodes += 1;
        let problem = if self.nodes > MOST_NODES {
            format!("there are more than {MOST_NODES} keys and values")
        } else if matches!(node.value, Value::Scalar { .. }) {
            return self.place(node);
        } else if self.open.len() >= DEEPEST {
            format!("mappings and lists are more than {DEEPEST} deep")
        } else {
            self.open.push(Open {
                node,
                key: None,
                known: BTreeMap::new(),
            });
            return Ok(());
        };
        Err(YamlError { line, problem })
    }

    fn close(&mut self) -> Result<(), YamlError> {
        match self.open.pop() {
            Some(Open { node, .. }) => self.place(node),
            None => Ok(()),
        }
    }

    /// Puts a whole node where it belongs.
    fn place(&mut self, node: Node) -> Result<(), YamlError> {
        let Some(parent) = self.open.last_mut() else {
            self.document = Some(node);
            return Ok(());
        };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Sequence { items, .. }, _) => items.push(node),
            (Value::Mapping { entries, .. }, Some(key)) => entries.push((key, node)),
            (Value::Mapping { .. }, None) => {
                check_key(&node, &mut parent.known)?;
                parent.key = Some(node);
            }
            (Value::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

fn check_key(key: &Node, known: &mut BTreeMap<String, usize>) -> Result<(), YamlError> {
    let line = key.line;
    let problem = match key.text() {
        None => "a key must be a plain word".to_owned(),
        Some("<<") => "merge keys (<<) are not taken: write the values out".to_owned(),
        Some(name) => match known.insert(name.to_owned(), line) {
            Some(first) => format!("line {first} has the key {name:?} already: keep one"),
            None => return Ok(()),
        },
    };
    Err(YamlError { line, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_places_and_styles() {
        let text = "#cloud-config\nautoinstall:\n  version: 1\n  late-commands:\n  - echo a\n  - |\n    x\n    y\n  storage: {layout: {name: lvm}}\n";
        let tree = parse(text).unwrap();
        let inside = tree.get("autoinstall").unwrap();
        assert!(tree.is_block_mapping() && inside.is_block_mapping());
        assert_eq!((inside.line, inside.column), (3, 2));
        let late = inside.get("late-commands").unwrap();
        assert!(late.is_block_sequence());
        assert_eq!(late.items()[1].text(), Some("x\ny\n"));
        let storage = inside.get("storage").unwrap();
        assert!(!storage.is_block_mapping() && storage.get("layout").is_some());
        let (key, _) = inside.entry("storage").unwrap();
        assert_eq!((key.line, key.column), (9, 2));
    }

    #[test]
    fn refuses_what_is_more_than_a_tree() {
        let deep = format!("a: {}1{}", "[".repeat(100), "]".repeat(100));
        let deep_block: String = (0..100)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        let many = format!("a: [{}]", "1,".repeat(MOST_NODES));
        for (text, line, words) in [
            ("a: &x 1\nb: *x", 1, "anchors"),
            ("b: *x", 1, "not YAML"),
            ("a: !!python/object:x 1", 1, "tags"),
            ("a: 1\n<<: {b: 2}", 2, "merge keys"),
            ("a: 1\nb: 2\na: 3", 3, "line 1 has the key"),
            ("[a]: 1", 1, "plain word"),
            ("a: 1\n---\nb: 2", 2, "second document"),
            ("a: 1\nb: [\n", 3, "not YAML"),
            ("password: @sealed:x@", 1, "needs quotes"),
            ("", 1, "no YAML document"),
            (deep.as_str(), 1, "deep"),
            (deep_block.as_str(), 33, "deep"),
            (many.as_str(), 1, "more than"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.problem.contains(words), "{text:.40}: {error}");
            assert_eq!(error.line, line, "{text:.40}: {error}");
        }
    }

    #[test]
    fn sameness_is_about_meaning() {
        let same = |a: &str, b: &str| parse(a).unwrap().means_the_same(&parse(b).unwrap());
        assert!(same("a: {b: [1, 'x']}", "a:\n  b:\n  - 1\n  - \"x\"\n# note\n"));
        assert!(!same("a: 1", "a: '1'") && !same("a: 1\nb: 2", "b: 2\na: 1") && !same("a: [1]", "a: [1, 1]"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(a|b|: |- |\\[|\\]|\\{|\\}|&x|\\*x|!t|\"|'|\\||>|#|\n| ){0,60}") {
            let _ = parse(&text);
        }
    }
}
