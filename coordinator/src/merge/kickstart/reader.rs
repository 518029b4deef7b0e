//! Reading a kickstart as pykickstart does: commands outside sections, each one line, split like shell words; sections from `%name` to
//! `%end`.
//!
//! Python ends a line at more characters than others do. A text that has such a character would be read differently here and on the server,
//! so it is refused.

use crate::merge::problems::Problems;

/// The sections that installers know.
const SECTIONS: [&str; 9] = [
    "%pre",
    "%pre-install",
    "%post",
    "%onerror",
    "%traceback",
    "%packages",
    "%addon",
    "%anaconda",
    "%certificate",
];

/// A kickstart, read.
pub(super) struct Script<'a> {
    /// All lines without their ends.
    pub(super) lines: Vec<&'a str>,
    /// The commands outside sections.
    pub(super) commands: Vec<Command<'a>>,
    /// The line, counted from 1, of the first section.
    pub(super) first_section: Option<usize>,
}

/// One command.
pub(super) struct Command<'a> {
    /// Line, counted from 1.
    pub(super) number: usize,
    /// The line as it stands.
    pub(super) text: &'a str,
    /// Its words without quotes; at least one.
    pub(super) words: Vec<String>,
}

impl Command<'_> {
    /// The command's name.
    pub(super) fn name(&self) -> &str {
        &self.words[0]
    }

    /// The names of its options, such as `--size`.
    pub(super) fn options(&self) -> impl Iterator<Item = &str> {
        let options = self.words[1..].iter().filter(|word| word.starts_with("--"));
        options.map(|word| word.split_once('=').map_or(word.as_str(), |(name, _)| name))
    }

    /// The value of an option, written as `--name=value` or `--name value`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let (index, word) = self
            .words
            .iter()
            .enumerate()
            .find(|(_, word)| word.split('=').next() == Some(name))?;
        match word.split_once('=') {
            Some((_, value)) => Some(value),
            None => self.words.get(index + 1).map(String::as_str),
        }
    }
}

impl<'a> Script<'a> {
    pub(super) fn read(text: &'a str, problems: &mut Problems<'_>) -> Self {
        let lines: Vec<_> = text.lines().collect();
        let mut script = Script {
            lines: lines.clone(),
            commands: Vec::new(),
            first_section: None,
        };
        let mut open: Option<(usize, &str)> = None;
        for (number, line) in (1..).zip(lines) {
            if line.contains(is_foreign_line_end) {
                let message =
                    "the line has a control character at which an installer would end it: take it out"
                        .to_owned();
                problems.line(number, line, message);
                continue;
            }
            let first = line.split_whitespace().next().unwrap_or_default();
            if matches!(first, "%include" | "%ksappend") {
                let message = format!(
                    "{first} brings lines that a merge cannot look at: write them into the profile's kickstart"
                );
                problems.line(number, line, message);
            } else if let Some(begun) = open {
                open = script.section_line(number, line, first, begun, problems);
            } else if first.starts_with('%') {
                open = script.section_begins(number, line, first, problems);
            } else {
                script.command_line(number, line, problems);
            }
        }
        if let Some((number, line)) = open {
            problems.line(number, line, "the section has no %end".to_owned());
        }
        script
    }

    /// The commands of this name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Command<'a>> {
        self.commands.iter().filter(move |command| command.name() == name)
    }

    fn section_line(
        &self,
        number: usize,
        line: &'a str,
        first: &str,
        begun: (usize, &'a str),
        problems: &mut Problems<'_>,
    ) -> Option<(usize, &'a str)> {
        if first == "%end" {
            return None;
        }
        if SECTIONS.contains(&first) {
            problems.line(
                begun.0,
                begun.1,
                format!("the section has no %end before the next one begins on line {number}"),
            );
            return Some((number, line));
        }
        Some(begun)
    }

    fn section_begins(
        &mut self,
        number: usize,
        line: &'a str,
        first: &str,
        problems: &mut Problems<'_>,
    ) -> Option<(usize, &'a str)> {
        self.first_section.get_or_insert(number);
        if first == "%end" {
            problems.line(number, line, "%end without a section".to_owned());
            return None;
        }
        if !SECTIONS.contains(&first) {
            problems.line(
                number,
                line,
                format!("there is no section {first}: use one of {}", SECTIONS.join(" ")),
            );
        }
        Some((number, line))
    }

    fn command_line(&mut self, number: usize, line: &'a str, problems: &mut Problems<'_>) {
        match split(line) {
            Some(words) if words.is_empty() => {}
            Some(words) => self.commands.push(Command {
                number,
                text: line,
                words,
            }),
            None => problems.line(
                number,
                line,
                "a quotation mark or a backslash has no counterpart".to_owned(),
            ),
        }
    }
}

/// Where Python's `str.splitlines` ends a line and `\n` does not.
fn is_foreign_line_end(character: char) -> bool {
    matches!(
        character,
        '\r' | '\u{b}' | '\u{c}' | '\u{1c}' | '\u{1d}' | '\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\0'
    )
}

/// Shell words by the rules of Python's `shlex.split(…, comments=True)`: an unquoted `#` ends the line, also within a word. `None` when a
/// quotation is open at the end.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            '#' => break,
            ' ' | '\t' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(rest.next()?),
            '\'' => quoted(&mut rest, word.get_or_insert_default(), '\'')?,
            '"' => quoted(&mut rest, word.get_or_insert_default(), '"')?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

fn quoted(rest: &mut std::str::Chars<'_>, word: &mut String, mark: char) -> Option<()> {
    loop {
        match rest.next()? {
            end if end == mark => return Some(()),
            '\\' if mark == '"' => match rest.next()? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn splits_as_a_shell_does() {
        assert_eq!(words(r#"a "b c" 'd"e' f\ g # h"#), ["a", "b c", "d\"e", "f g"]);
        assert_eq!(words(r#"--append="x=\"1\" y""#), [r#"--append=x="1" y"#]);
        assert_eq!(words("a#b"), ["a"]);
        assert_eq!(words("''"), [""]);
        assert!(words("  # nothing").is_empty());
        assert!(split("a \"b").is_none() && split("a\\").is_none());
    }
}
