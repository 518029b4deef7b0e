//! The outline of a kickstart: which lines are commands and which stand in a section, as pykickstart sees them. A line opens or
//! ends a section only when its first character is `%`; what stands in a section is not looked at.
//!
//! This is no parser of commands: the PO must know where a line stands, not what it means.

/// Directives that look like sections and have no `%end`.
const DIRECTIVES: [&str; 2] = ["%include", "%ksappend"];
/// Words that begin a section, so that they cannot stand in one.
const SECTIONS: [&str; 10] = [
    "%packages",
    "%pre",
    "%pre-install",
    "%post",
    "%onerror",
    "%traceback",
    "%addon",
    "%anaconda",
    "%certificate",
    "%end",
];

/// A piece of a kickstart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A command, a comment or an empty line outside of sections.
    Line {
        /// Counted from 1.
        number: usize,
        /// The line without its line break.
        text: &'a str,
    },
    /// A section from its header to its `%end`.
    Section {
        /// The header's line, counted from 1.
        number: usize,
        /// The header.
        header: &'a str,
        /// The lines between header and `%end`.
        body: Vec<&'a str>,
    },
}

/// A kickstart whose sections do not close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct OutlineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Reads the outline of `text`.
///
/// # Errors
/// [`OutlineError`] for a section without `%end`, or an `%end` without section.
pub fn parse(text: &str) -> Result<Vec<Item<'_>>, OutlineError> {
    let mut items = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let word = percent_word(line);
        match word {
            Some("%end") => {
                let problem = "%end without a section before it; remove it".to_owned();
                return Err(OutlineError {
                    line: number,
                    problem,
                });
            }
            Some(word) if !DIRECTIVES.contains(&word) => items.push(Item::Section {
                number,
                header: line,
                body: body(number, line, &mut lines)?,
            }),
            _ => items.push(Item::Line { number, text: line }),
        }
    }
    Ok(items)
}

/// The first word of a line that begins with `%`.
fn percent_word(line: &str) -> Option<&str> {
    line.starts_with('%')
        .then(|| line.split_whitespace().next())
        .flatten()
}

fn body<'a>(
    start: usize,
    header: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<Vec<&'a str>, OutlineError> {
    let mut body = Vec::new();
    for (number, line) in lines {
        match percent_word(line) {
            Some("%end") => return Ok(body),
            Some(word) if SECTIONS.contains(&word) => {
                let problem = format!(
                    "{word} begins inside of {} from line {start}; close that with %end first",
                    header.trim()
                );
                return Err(OutlineError {
                    line: number,
                    problem,
                });
            }
            _ => body.push(line),
        }
    }
    Err(OutlineError {
        line: start,
        problem: format!("{} is not closed; end it with %end", header.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tells_commands_from_sections() {
        let items = parse("lang C\n%include /x\n%post --log=a\n %end\nx\n%end\nreboot\n").unwrap();
        assert_eq!(items.len(), 4);
        let Item::Section { number, body, .. } = &items[2] else {
            panic!("{items:?}")
        };
        assert_eq!((*number, body.as_slice()), (3, [" %end", "x"].as_slice()));
    }

    #[test]
    fn unbalanced_sections_are_refused_with_their_line() {
        for (text, line) in [
            ("a\n%end", 2),
            ("a\n%post\nb", 2),
            ("%packages\nnginx\n%post\n%end", 3),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(%|%end|%post|[a-z \n]){0,30}") {
            let _ = parse(&text);
        }
    }
}
