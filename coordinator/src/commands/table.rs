//! What commands print: tables for people and JSON for programs. A reader that goes away, such as `head`, ends the command quietly.

use anyhow::Context as _;
use leaseboot_protocol::timestamp::Timestamp;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Columns as wide as their widest cell, two spaces apart; the last one is free.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One more row; what is missing is empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<_> = cells.into_iter().take(self.head.len()).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].len()]).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let head = self.head.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes to standard output and says whether anybody still reads.
///
/// # Errors
/// When it cannot be written for any reason but a reader that is gone.
pub fn say(text: impl std::fmt::Display) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// How long ago `then` was, as people say it.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A point in time in UTC, to the second (RFC 3339).
pub fn clock(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    date.and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["abc".to_owned(), "x".to_owned()]);
        table.row(["d".to_owned()]);
        assert_eq!(table.to_string(), "A    LONG\nabc  x\nd\n");
    }

    #[test]
    fn times_are_told_as_people_do() {
        let now = Timestamp(1_000_000_000);
        assert_eq!(ago(now, Timestamp(999_999_000)), "1 s ago");
        assert_eq!(ago(now, Timestamp(999_700_000)), "5 min ago");
        assert_eq!(clock(Timestamp(1_000_000_999)), "1970-01-12T13:46:40Z");
    }
}
