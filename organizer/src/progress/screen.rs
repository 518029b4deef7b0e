//! Progress as it goes, of one transfer or of several: bars or a table on a terminal, plain lines elsewhere, JSON lines for programs.
//!
//! | standard output | one server | several |
//! |---|---|---|
//! | a terminal | [`Bars`] | [`Board`] |
//! | a file, a pipe | lines | lines that begin with the server's name |
//! | `--json` | objects with the borrowing and its name, one a line | the same |

use super::bars::Bars;
use super::board::{self, Board};
use super::estimate::Estimate;
use super::live::Live;
use super::phases::{Phase, Update};
use super::{Progress, table};
use crate::borrowing::BorrowingId;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// A transfer that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The borrowing.
    pub id: BorrowingId,
    /// The server's name.
    pub name: Hostname,
}

/// Where progress is shown.
pub struct Screen {
    subjects: Vec<Subject>,
    kind: Kind,
}

enum Kind {
    Bars(Bars),
    Board(Board),
    Plain,
    Json,
}

/// A note as programs read it.
#[derive(Serialize)]
struct Line<'a> {
    borrowing: &'a BorrowingId,
    name: &'a Hostname,
    #[serde(flatten)]
    progress: &'a Progress,
}

impl Screen {
    /// What fits standard output, or JSON lines when they are asked for.
    pub fn for_stdout(json: bool, subjects: Vec<Subject>) -> Self {
        let terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let kind = match (json, terminal, subjects.len()) {
            (true, _, _) => Kind::Json,
            (false, false, _) => Kind::Plain,
            (false, true, 1) => Kind::Bars(Bars::new()),
            (false, true, several) => Kind::Board(Board::new(several)),
        };
        Self { subjects, kind }
    }

    /// Whether somebody reads, and not a program.
    pub fn is_for_people(&self) -> bool {
        !matches!(self.kind, Kind::Json)
    }

    /// Shows a note of a subject, and what it means.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn show(&mut self, subject: usize, progress: &Progress, updates: &[Update]) -> io::Result<()> {
        match self.kind {
            Kind::Json => {
                let Subject { id, name } = &self.subjects[subject];
                let line = Line {
                    borrowing: id,
                    name,
                    progress,
                };
                let mut line = serde_json::to_vec(&line)?;
                line.push(b'\n');
                io::stdout().write_all(&line)
            }
            _ => self.updates(subject, updates),
        }
    }

    /// Shows what is not behind a note of its own.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn updates(&mut self, subject: usize, updates: &[Update]) -> io::Result<()> {
        let several = self.subjects.len() > 1;
        let name = &self.subjects[subject].name;
        match &mut self.kind {
            Kind::Json => Ok(()),
            Kind::Bars(bars) => updates.iter().try_for_each(|update| bars.show(update)),
            Kind::Board(board) => updates.iter().try_for_each(|update| match update {
                Update::Notice(notice) => board.notice(&format!("{name}: {notice}")),
                _ => Ok(()),
            }),
            Kind::Plain => {
                let prefix = if several {
                    format!("{name}: ")
                } else {
                    String::new()
                };
                let mut out = io::stdout().lock();
                let mut lines = updates.iter().filter_map(plain);
                lines.try_for_each(|line| writeln!(out, "{prefix}{line}"))
            }
        }
    }

    /// Shows where every subject is now, in their order; only terminals show that.
    pub fn refresh<'a>(&mut self, standing: impl Iterator<Item = (&'a Live, Estimate)>, now: Timestamp) {
        match &mut self.kind {
            Kind::Json | Kind::Plain => {}
            Kind::Bars(bars) => {
                for (live, left) in standing {
                    let flow = live.doing().and_then(|doing| doing.flow);
                    let flow = flow.and_then(|flow| Some((flow.phase, flow.rate()?)));
                    bars.refresh(flow, left, live.elapsed(now));
                }
            }
            Kind::Board(board) => {
                let rows = self.subjects.iter().zip(standing);
                let rows: Vec<_> = rows
                    .map(|(subject, (live, left))| board::row(&subject.name, live, left, now))
                    .collect();
                board.refresh(&rows);
            }
        }
    }

    /// Takes away what moves.
    pub fn close(&mut self) {
        match &mut self.kind {
            Kind::Bars(bars) => bars.close(),
            Kind::Board(board) => board.close(),
            Kind::Json | Kind::Plain => {}
        }
    }
}

fn plain(update: &Update) -> Option<String> {
    match update {
        // These last for minutes without a word: say that they began.
        Update::Started(phase @ (Phase::Firmware | Phase::Installation | Phase::Reboot)) => {
            Some(format!("{phase} …"))
        }
        Update::Finished(record) => Some(table::line(record)),
        Update::Notice(notice) => Some(format!("* {notice}")),
        Update::Started(_) | Update::Moved { .. } | Update::Dropped(_) => None,
    }
}
