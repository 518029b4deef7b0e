//! Reading a preseed file as debconf does: one answer per line, `owner question type value`, where a backslash at the end of a line
//! continues it.
//!
//! Two programs read such files and differ in one thing: to debconf's Perl a backslash at the end of a comment swallows the next
//! line, to debian-installer's cdebconf it does not. A text in which that matters is refused, so that everybody reads the same.
//!
//! Sources: debconf-set-selections(1), appendix B of the Debian installation guide.

use std::ops::RangeInclusive;

/// The types that debconf knows, and `seen`, by which a question's flag is set.
const TYPES: [&str; 10] = [
    "string",
    "boolean",
    "select",
    "multiselect",
    "note",
    "text",
    "password",
    "title",
    "error",
    "seen",
];

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its lines, counted from 1.
    pub lines: RangeInclusive<usize>,
    /// The first of them as it stands.
    pub text: &'a str,
    /// The package that owns the question, `d-i` for the installer.
    pub owner: String,
    /// The question, such as `netcfg/get_hostname`.
    pub question: String,
    /// The type, such as `string`.
    pub kind: String,
    /// The value, its lines joined.
    pub value: String,
}

/// A line that is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PreseedError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Reads all answers, and everything that is none.
pub fn parse(text: &str) -> (Vec<Answer<'_>>, Vec<PreseedError>) {
    let (mut answers, mut errors) = (Vec::new(), Vec::new());
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if let Some(problem) = foreign(line) {
            errors.push(PreseedError {
                line: number,
                problem,
            });
            continue;
        }
        if is_blank(line) {
            continue;
        }
        let (mut joined, mut last, mut open) = (String::new(), number, line);
        while let Some(part) = open.strip_suffix('\\') {
            joined.push_str(part);
            let Some((next, line)) = lines.next() else {
                errors.push(PreseedError {
                    line: last,
                    problem: "the last line ends with a backslash: take it out".to_owned(),
                });
                return (answers, errors);
            };
            if let Some(problem) = foreign(line) {
                errors.push(PreseedError { line: next, problem });
            }
            (last, open) = (next, line);
        }
        joined.push_str(open);
        match answer(&joined) {
            Ok([owner, question, kind, value]) => answers.push(Answer {
                lines: number..=last,
                text: line,
                owner,
                question,
                kind,
                value,
            }),
            Err(problem) => errors.push(PreseedError {
                line: number,
                problem,
            }),
        }
    }
    (answers, errors)
}

/// Whether a line is empty or a comment.
pub fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn foreign(line: &str) -> Option<String> {
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Some("the line has a control character: take it out".to_owned());
    }
    (is_blank(line) && line.ends_with('\\'))
        .then(|| "a comment or an empty line ends with a backslash, which debconf's readers take differently: take it out".to_owned())
}

fn answer(line: &str) -> Result<[String; 4], String> {
    let (owner, rest) = word(line);
    let (question, rest) = word(rest);
    let (kind, rest) = word(rest);
    if !question.contains('/') || kind.is_empty() {
        return Err(
            "a line must be `owner question type value`, such as `d-i time/zone string UTC`".to_owned(),
        );
    }
    if !TYPES.contains(&kind) {
        return Err(format!(
            "there is no type {kind:?}: use one of {}",
            TYPES.join(" ")
        ));
    }
    Ok([owner, question, kind, rest].map(str::to_owned))
}

/// The first word, and what follows it after one run of blanks.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    match text.find([' ', '\t']) {
        Some(at) => (&text[..at], text[at..].trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_answers_over_several_lines() {
        let text = "# note\n\nd-i  time/zone string UTC\nd-i preseed/late_command string a; \\\n  b\ntasksel tasksel/first multiselect\n";
        let (answers, errors) = parse(text);
        assert_eq!(errors, []);
        let read: Vec<_> = answers
            .iter()
            .map(|a| (a.lines.clone(), a.question.as_str(), a.value.as_str()))
            .collect();
        assert_eq!(
            read,
            [
                (3..=3, "time/zone", "UTC"),
                (4..=5, "preseed/late_command", "a;   b"),
                (6..=6, "tasksel/first", "")
            ]
        );
    }

    #[test]
    fn tells_what_is_no_answer_and_where() {
        for (text, line, words) in [
            ("d-i time/zone", 1, "owner question type value"),
            ("\nlocale string x y", 2, "owner question type value"),
            ("d-i time/zone strange x", 1, "no type"),
            ("# note \\\nd-i a/b string c", 1, "a comment"),
            ("d-i a/b string c \\", 1, "last line"),
            ("d-i a/b string c\u{b}d", 1, "control character"),
            ("d-i a/b string c \\\nx\u{7}", 2, "control character"),
        ] {
            let (_, errors) = parse(text);
            assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
            assert!(
                errors[0].line == line && errors[0].problem.contains(words),
                "{text:?}: {errors:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_line_is_read_once(text in "(d-i|a/b|string|#|\\\\|x| |\t|\n){0,60}") {
            let (answers, _) = parse(&text);
            for pair in answers.windows(2) {
                prop_assert!(pair[0].lines.end() < pair[1].lines.start());
            }
        }
    }
}
