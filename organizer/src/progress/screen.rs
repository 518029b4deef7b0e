//! Progress as it goes: bars on a terminal, plain lines elsewhere, JSON lines for programs.

use super::phases::{Phase, Update};
use super::{Progress, table};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(120);
const SPINNER: &str = "{spinner} {prefix:<15}{elapsed:>8}";
const COUNTER: &str = "{spinner} {prefix:<15}{elapsed:>8}  {binary_bytes:>12}  {binary_bytes_per_sec}";
const BAR: &str = "{spinner} {prefix:<15}{elapsed:>8}  {binary_bytes:>12} of {binary_total_bytes}  {bar:24}  {binary_bytes_per_sec}";

/// Where progress is shown.
pub enum Screen {
    /// A terminal.
    Bars(Bars),
    /// A file, a pipe.
    Plain,
    /// A program.
    Json,
}

/// One bar for each running phase; finished phases scroll away above them.
pub struct Bars {
    bars: MultiProgress,
    running: Vec<(Phase, ProgressBar)>,
}

impl Screen {
    /// What fits standard output, or JSON lines when they are asked for.
    pub fn for_stdout(json: bool) -> Self {
        if json {
            Screen::Json
        } else if io::stdout().is_terminal() && io::stderr().is_terminal() {
            Screen::Bars(Bars {
                bars: MultiProgress::new(),
                running: Vec::new(),
            })
        } else {
            Screen::Plain
        }
    }

    /// Whether somebody reads, and not a program.
    pub fn is_for_people(&self) -> bool {
        !matches!(self, Screen::Json)
    }

    /// Shows a note and what it means.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn show(&mut self, progress: &Progress, updates: &[Update]) -> io::Result<()> {
        match self {
            Screen::Json => {
                let mut line = serde_json::to_vec(progress)?;
                line.push(b'\n');
                io::stdout().write_all(&line)
            }
            _ => self.updates(updates),
        }
    }

    /// Shows what is not behind a note of its own.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn updates(&mut self, updates: &[Update]) -> io::Result<()> {
        match self {
            Screen::Json => Ok(()),
            Screen::Plain => updates.iter().try_for_each(plain),
            Screen::Bars(bars) => updates.iter().try_for_each(|update| bars.show(update)),
        }
    }

    /// Takes the bars away.
    pub fn close(&mut self) {
        if let Screen::Bars(bars) = self {
            for (_, bar) in bars.running.drain(..) {
                bar.finish_and_clear();
            }
        }
    }
}

fn plain(update: &Update) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match update {
        // These last for minutes without a word: say that they began.
        Update::Started(phase @ (Phase::Firmware | Phase::Installation | Phase::Reboot)) => {
            writeln!(out, "{phase} …")
        }
        Update::Finished(record) => writeln!(out, "{}", table::line(record)),
        Update::Notice(notice) => writeln!(out, "* {notice}"),
        Update::Started(_) | Update::Moved { .. } | Update::Dropped(_) => Ok(()),
    }
}

impl Bars {
    fn show(&mut self, update: &Update) -> io::Result<()> {
        match update {
            Update::Started(phase) => self.start(*phase),
            Update::Moved { phase, bytes, total } => {
                if self.bar(*phase).is_none() {
                    self.start(*phase);
                }
                if let Some(bar) = self.bar(*phase) {
                    bar.set_style(style(if total.is_some() { BAR } else { COUNTER }));
                    bar.set_length(total.unwrap_or(*bytes));
                    bar.set_position(*bytes);
                }
            }
            Update::Dropped(phase) => self.clear(*phase),
            Update::Finished(record) => {
                self.clear(record.phase);
                self.bars.println(format!("  {}", table::line(record)))?;
            }
            Update::Notice(notice) => self.bars.println(format!("* {notice}"))?,
        }
        Ok(())
    }

    fn start(&mut self, phase: Phase) {
        self.clear(phase);
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style(SPINNER));
        bar.set_prefix(phase.to_string());
        bar.enable_steady_tick(TICK);
        self.running.push((phase, bar));
    }

    fn bar(&self, phase: Phase) -> Option<&ProgressBar> {
        self.running
            .iter()
            .find(|(running, _)| *running == phase)
            .map(|(_, bar)| bar)
    }

    fn clear(&mut self, phase: Phase) {
        if let Some(at) = self.running.iter().position(|(running, _)| *running == phase) {
            let (_, bar) = self.running.remove(at);
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
