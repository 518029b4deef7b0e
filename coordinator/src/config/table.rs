//! A table of servers (CSV, RFC 4180) as the text of a `servers.toml`.

use super::{ConfigError, Source};
use std::fmt::Write as _;

/// Turns each row into one `[[server]]`. A cell without text is left out. A cell is a text, except where a text cannot be meant: in `wiped`, in
/// columns that end in `_s`, `port` or `_mib`, and where it begins with `[`, it is written as it stands.
pub(super) fn as_toml(table: Source<'_>) -> Result<Source<'_>, ConfigError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(table.text.as_bytes());
    let broken = |error: &csv::Error| {
        let problem = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => format!("the row has {len} cells and the table {expected_len} columns"),
            _ => format!("not a table: {error}"),
        };
        table.line_problem(row_line(&table.text, error.position()), problem)
    };
    let columns = reader.headers().map_err(|error| broken(&error))?.clone();
    if let Some(wrong) = columns.iter().find(|column| !is_key(column)) {
        let problem =
            format!("{wrong:?} is not a column: name it as a key of servers.toml, such as labels.rack");
        return Err(table.line_problem(1, problem));
    }
    let (mut text, mut origins) = (String::new(), Vec::new());
    for row in reader.records() {
        let row = row.map_err(|error| broken(&error))?;
        let line = row_line(&table.text, row.position());
        text.push_str("[[server]]\n");
        origins.push(line);
        for (column, cell) in columns.iter().zip(&row).filter(|(_, cell)| !cell.is_empty()) {
            let _ = writeln!(text, "{column} = {}", value(column, cell));
            origins.push(line);
        }
    }
    Ok(Source::new(table.path, text, Some((table.text, origins))))
}

/// Where a row begins: the reader counts from the end of the one before it, so empty lines and comments come first.
fn row_line(text: &str, position: Option<&csv::Position>) -> usize {
    let line = position.map_or(1, csv::Position::line);
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let skipped = text.lines().skip(line - 1).take_while(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    });
    line + skipped.count()
}

fn is_key(column: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    column.split('.').all(part)
}

fn value(column: &str, cell: &str) -> String {
    let is_text = !(column == "wiped"
        || ["_s", "port", "_mib"].iter().any(|end| column.ends_with(end))
        || cell.starts_with('['));
    // One line, whatever the cell holds: lines are counted.
    match is_text || cell.contains(['\n', '\r']) {
        true => {
            let mut quoted = String::from("\"");
            for c in cell.chars() {
                match c {
                    '"' | '\\' => quoted.extend(['\\', c]),
                    c if c.is_control() => {
                        let _ = write!(quoted, "\\u{:04X}", u32::from(c));
                    }
                    c => quoted.push(c),
                }
            }
            quoted + "\""
        }
        false => cell.to_owned(),
    }
}
