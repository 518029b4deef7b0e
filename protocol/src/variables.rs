//! FAI's class variables: shell assignments, in the plain form that says the same to a shell and to a reader who is none.
//!
//! FAI's `class/*.var` files are sourced by bash, so a line could be any program. Read here is one form only, `NAME=value`, where the value
//! is a word without anything that a shell would act on, or stands between quotes; the rest is refused. A sealed mark must stand between
//! single quotes: the hash that takes its place is full of `$`.
//!
//! Source: fai-guide, "Defining variables"; POSIX.1-2017, Shell Command Language, 2.2 and 2.9.1.

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Its line, counted from 1.
    pub line: usize,
    /// The line as it stands.
    pub text: &'a str,
    /// The name.
    pub name: &'a str,
    /// The value, without its quotes.
    pub value: &'a str,
}

/// A line that is no plain assignment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct VariableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub problem: &'static str,
}

const FORM: &str = "a line must be NAME=value, with a value that a shell takes as it stands: a word of letters, digits and _.,:/@%+=-, or anything between single quotes";
const MARK: &str =
    "a sealed mark must stand between single quotes, since its value may hold what a shell acts on";

/// Reads all assignments, and everything that is none.
pub fn parse(text: &str) -> (Vec<Variable<'_>>, Vec<VariableError>) {
    let (mut variables, mut errors) = (Vec::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        if is_blank(text) {
            continue;
        }
        match assignment(text) {
            Ok((name, value)) => variables.push(Variable {
                line,
                text,
                name,
                value,
            }),
            Err(problem) => errors.push(VariableError { line, problem }),
        }
    }
    (variables, errors)
}

/// Whether a line is empty or a comment. A carriage return is neither: to a shell it is part of a word.
fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    line.is_empty() || line.starts_with('#')
}

fn assignment(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, value) = line.split_once('=').ok_or(FORM)?;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Err(FORM);
    }
    let between = |quote: char| {
        value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
    };
    let printable = |text: &str| !text.contains(|c: char| c.is_control() && c != '\t');
    if let Some(inside) = between('\'') {
        let plain = printable(inside) && !inside.contains('\'');
        return plain.then_some((name, inside)).ok_or(FORM);
    }
    if value.contains("@sealed:") {
        return Err(MARK);
    }
    if let Some(inside) = between('"') {
        let plain = printable(inside) && !inside.contains(['"', '$', '`', '\\', '!']);
        return plain.then_some((name, inside)).ok_or(FORM);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:/@%+=-".contains(c);
    value.chars().all(plain).then_some((name, value)).ok_or(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_words_and_quoted_values() {
        let text = "# lent\n\nTIMEZONE=Etc/UTC\n  # more\nPAGE=\"enterprise web server\"\nROOTPW='@sealed:root_password@'\nEMPTY=\n";
        let (variables, errors) = parse(text);
        assert_eq!(errors, []);
        let read: Vec<_> = variables.iter().map(|v| (v.line, v.name, v.value)).collect();
        assert_eq!(
            read,
            [
                (3, "TIMEZONE", "Etc/UTC"),
                (5, "PAGE", "enterprise web server"),
                (6, "ROOTPW", "@sealed:root_password@"),
                (7, "EMPTY", "")
            ]
        );
    }

    #[test]
    fn whatever_a_shell_would_act_on_is_refused() {
        for line in [
            "echo x",
            "A",
            "1A=x",
            " A=x",
            "A =x",
            "A= x",
            "A=x y",
            "A=x;y",
            "A=$(x)",
            "A=`x`",
            "A=$B",
            "A=~",
            "A=x&",
            "A=\"$B\"",
            "A=\"x\\\"",
            "A=\"x\" y",
            "A=\"x\"\"y\"",
            "A='x''y'",
            "A='x'\\''y'",
            "A='x",
            "A='",
            "A=x\r",
            "A='x\u{7}'",
            "A=@sealed:a@",
            "A=\"@sealed:a@\"",
            "A+=x",
            "export A=x",
            "A[0]=x",
        ] {
            let (variables, errors) = parse(line);
            assert!(
                variables.is_empty() && errors.len() == 1,
                "{line:?}: {variables:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_line_is_read_once(text in "(A|B|=|'|\"|#|\\$|\\\\|x| |\t|\n){0,40}") {
            let (variables, errors) = parse(&text);
            let lines = text.lines().filter(|line| !is_blank(line)).count();
            prop_assert_eq!(variables.len() + errors.len(), lines);
        }
    }
}
