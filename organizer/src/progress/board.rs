//! Several transfers on a terminal: a table with one line for each server, which stays where it is. The lines are a pure function of
//! the transfers; [`Board`] only puts them on the screen.

use super::bars::style;
use super::estimate::Estimate;
use super::live::Live;
use super::phases::End;
use super::table::{length, rate_of, size};
use indicatif::{MultiProgress, ProgressBar};
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::timestamp::Timestamp;
use std::io;
use std::time::Duration;

const COLUMNS: [&str; 6] = ["SERVER", "PHASE", "TIME", "BYTES", "RATE", "LEFT"];
const LINE: &str = "{wide_msg}";

/// A server's line, by columns.
pub type Row = [String; COLUMNS.len()];

/// How a transfer ended, in the words of a table.
pub fn end_of(live: &Live) -> Option<&'static str> {
    Some(match live.phases().end()? {
        End::InService { .. } => "in service",
        End::Released => "released",
        End::Failed { .. } if live.is_refused() => "refused",
        End::Failed { .. } => "failed",
    })
}

/// A server's line.
pub fn row(name: &Hostname, live: &Live, left: Estimate, now: Timestamp) -> Row {
    let doing = live.doing();
    let flow = doing.and_then(|doing| doing.flow);
    let phase = match end_of(live) {
        Some(end) => end.to_owned(),
        None => doing.map_or_else(String::new, |doing| doing.phase.to_string()),
    };
    let bytes = flow.map(|flow| match flow.total {
        Some(total) => format!("{} of {}", size(flow.bytes), size(total)),
        None => size(flow.bytes),
    });
    let rate = flow.and_then(|flow| flow.rate()).map(rate_of);
    let left = left.transfer.map(|left| match left {
        Duration::ZERO => "due".to_owned(),
        left => format!("about {}", length(left)),
    });
    [
        name.to_string(),
        phase,
        length(live.elapsed(now)),
        bytes.unwrap_or_default(),
        rate.unwrap_or_default(),
        left.unwrap_or_default(),
    ]
}

/// The header and a line for each row, columns below each other.
pub fn lines(rows: &[Row]) -> Vec<String> {
    let header = COLUMNS.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..COLUMNS.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &&Row| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The table on the screen.
pub struct Board {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Board {
    /// Room for this many servers.
    pub fn new(servers: usize) -> Self {
        let bars = MultiProgress::new();
        let line = |_| bars.add(ProgressBar::new_spinner().with_style(style(LINE)));
        // One more for the header.
        let lines = (0..=servers).map(line).collect();
        Self { bars, lines }
    }

    /// Shows the table as it is now.
    pub fn refresh(&self, rows: &[Row]) {
        for (line, text) in self.lines.iter().zip(lines(rows)) {
            line.set_message(text);
        }
    }

    /// Says something above the table.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn notice(&self, notice: &str) -> io::Result<()> {
        self.bars.println(notice)
    }

    /// Takes the table away.
    pub fn close(&self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Note, Progress};
    use super::*;
    use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, Step};

    fn story(notes: &[(u64, Note)]) -> Live {
        let mut live = Live::new();
        for (seconds, note) in notes {
            live.take(&Progress {
                sequence: 1,
                at: Timestamp(seconds * 1000),
                note: note.clone(),
            });
        }
        live
    }

    fn created(name: &str) -> Note {
        Note::Created {
            profile: "web".to_owned(),
            hostname: name.parse().unwrap(),
            address: "10.99.0.10".parse().unwrap(),
        }
    }

    fn fetching() -> Note {
        let event = LeaseEvent {
            sequence: 1,
            at: Timestamp(0),
            state: LeaseState::Stage1,
            what: EventKind::StepStarted { step: Step::Initrd },
        };
        Note::Lender { event }
    }

    fn fetched(bytes: u64) -> Note {
        let event = LeaseEvent {
            sequence: 2,
            at: Timestamp(0),
            state: LeaseState::Stage1,
            what: EventKind::StepProgress {
                step: Step::Initrd,
                bytes,
                total: Some(40 << 20),
            },
        };
        Note::Lender { event }
    }

    #[test]
    fn each_server_has_a_line_with_phase_rate_and_what_is_left() {
        let web1 = story(&[(0, created("web-1")), (30, fetching()), (34, fetched(10 << 20))]);
        let reason = "nothing fits".to_owned();
        let web10 = story(&[(0, created("web-10")), (2, Note::Failed { reason })]);
        let left = Estimate {
            phase: None,
            transfer: Some(Duration::from_secs(200)),
        };
        let now = Timestamp(40_000);
        let rows = [
            row(&"web-1".parse().unwrap(), &web1, left, now),
            row(&"web-10".parse().unwrap(), &web10, Estimate::default(), now),
        ];
        let expected = [
            "SERVER  PHASE    TIME  BYTES                 RATE       LEFT",
            "web-1   initrd   40 s  10.0 MiB of 40.0 MiB  2.5 MiB/s  about 3 min",
            "web-10  refused  2 s",
        ];
        assert_eq!(lines(&rows), expected);
    }

    #[test]
    fn a_transfer_that_takes_longer_than_its_predecessors_is_due() {
        let live = story(&[(0, created("web-1"))]);
        let left = Estimate {
            phase: None,
            transfer: Some(Duration::ZERO),
        };
        let row = row(&"web-1".parse().unwrap(), &live, left, Timestamp(1));
        assert_eq!(row[5], "due");
    }
}
