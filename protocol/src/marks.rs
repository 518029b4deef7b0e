//! Sealed marks: `@sealed:NAME@` in a kickstart stands for a value that the lender must not see.
//!
//! The lender's merge carries marks like any other text. Only the server replaces them, with values that it fetched through
//! the tunnel. A name is one or more of `a-z`, `0-9` and `_`.

use std::collections::{BTreeMap, BTreeSet};

use crate::secret::Secret;

const OPEN: &str = "@sealed:";
const CLOSE: char = '@';

/// A mark is broken, or there is no value for it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// `@sealed:` without a proper name and a closing `@`.
    #[error("line {line}: a sealed mark is not of the form @sealed:name@ (a-z, 0-9 and _)")]
    Malformed {
        /// Line, counted from 1.
        line: usize,
    },
    /// The enterprise gave no value of this name.
    #[error("line {line}: there is no sealed value named {name:?}")]
    Missing {
        /// Line, counted from 1.
        line: usize,
        /// The name in the mark.
        name: String,
    },
    /// A value would end its line and begin another, so it could add commands.
    #[error("line {line}: the sealed value {name:?} contains a line break")]
    LineBreak {
        /// Line, counted from 1.
        line: usize,
        /// The name in the mark.
        name: String,
    },
}

/// The names of all marks in `text`.
///
/// # Errors
/// [`MarkError::Malformed`].
pub fn names(text: &str) -> Result<BTreeSet<String>, MarkError> {
    let mut found = BTreeSet::new();
    walk(text, |piece| {
        if let Piece::Mark { name, .. } = piece {
            found.insert(name.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// `text` with every mark replaced by its value. The result is as secret as the values.
///
/// # Errors
/// [`MarkError`]; nothing is replaced in part.
pub fn fill(text: &str, values: &BTreeMap<String, Secret>) -> Result<Secret, MarkError> {
    let mut filled = String::with_capacity(text.len());
    walk(text, |piece| match piece {
        Piece::Text(text) => {
            filled.push_str(text);
            Ok(())
        }
        Piece::Mark { line, name } => {
            let value = values.get(name).ok_or_else(|| MarkError::Missing {
                line,
                name: name.to_owned(),
            })?;
            if value.expose().contains(['\n', '\r']) {
                return Err(MarkError::LineBreak {
                    line,
                    name: name.to_owned(),
                });
            }
            filled.push_str(value.expose());
            Ok(())
        }
    })?;
    Ok(Secret::new(filled))
}

enum Piece<'a> {
    Text(&'a str),
    Mark { line: usize, name: &'a str },
}

fn walk<'a>(
    text: &'a str,
    mut visit: impl FnMut(Piece<'a>) -> Result<(), MarkError>,
) -> Result<(), MarkError> {
    let mut rest = text;
    let mut line = 1;
    while let Some(at) = rest.find(OPEN) {
        // A mark holds no line break, so counting what lies between marks counts each byte once.
        line += rest[..at].matches('\n').count();
        let after = &rest[at + OPEN.len()..];
        let end = after.find(CLOSE).ok_or(MarkError::Malformed { line })?;
        let name = &after[..end];
        let proper = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(proper) {
            return Err(MarkError::Malformed { line });
        }
        visit(Piece::Text(&rest[..at]))?;
        visit(Piece::Mark { line, name })?;
        rest = &after[end + 1..];
    }
    visit(Piece::Text(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_and_lists() {
        let text = "rootpw --iscrypted @sealed:root_password@\nuser x\n";
        assert_eq!(
            names(text).unwrap().into_iter().collect::<Vec<_>>(),
            ["root_password"]
        );
        let values = BTreeMap::from([("root_password".to_owned(), Secret::new("$6$x"))]);
        assert_eq!(
            fill(text, &values).ok().unwrap().expose(),
            "rootpw --iscrypted $6$x\nuser x\n"
        );
    }

    #[test]
    fn tells_the_line() {
        assert_eq!(names("a\n@sealed:Bad@"), Err(MarkError::Malformed { line: 2 }));
        let missing = fill("\n\n@sealed:x@", &BTreeMap::new()).err().unwrap();
        assert_eq!(
            missing,
            MarkError::Missing {
                line: 3,
                name: "x".to_owned()
            }
        );
        let values = BTreeMap::from([("x".to_owned(), Secret::new("a\nreboot"))]);
        assert_eq!(
            fill("@sealed:x@", &values).err().unwrap(),
            MarkError::LineBreak {
                line: 1,
                name: "x".to_owned()
            }
        );
    }

    proptest! {
        #[test]
        fn text_without_marks_stays_as_it_is(text in "[^@]{0,200}") {
            let filled = fill(&text, &BTreeMap::new()).ok().unwrap();
            prop_assert_eq!(filled.expose(), &text);
        }

        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = names(&text);
        }
    }
}
