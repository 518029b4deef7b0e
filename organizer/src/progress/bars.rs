//! One transfer on a terminal: a bar for each running phase, one for the whole below them; phases that are over scroll away above.

use super::estimate::Estimate;
use super::phases::{Phase, Update};
use super::table;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(120);
const SPINNER: &str = "{spinner} {prefix:<15}{elapsed:>8}";
const COUNTER: &str = "{spinner} {prefix:<15}{elapsed:>8}  {binary_bytes:>12}  {msg}";
const BAR: &str =
    "{spinner} {prefix:<15}{elapsed:>8}  {binary_bytes:>12} of {binary_total_bytes}  {bar:24}  {msg}";
const WHOLE: &str = "  {wide_msg}";

/// The bars of one transfer.
pub struct Bars {
    bars: MultiProgress,
    running: Vec<(Phase, ProgressBar)>,
    whole: ProgressBar,
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Bars {
    /// No bars yet.
    pub fn new() -> Self {
        let bars = MultiProgress::new();
        let whole = bars.add(ProgressBar::new_spinner().with_style(style(WHOLE)));
        Self {
            bars,
            running: Vec::new(),
            whole,
        }
    }

    /// Shows what happened.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn show(&mut self, update: &Update) -> io::Result<()> {
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

    /// Shows where the transfer is: the rate of the phase that moves bytes, and what is left.
    pub fn refresh(&mut self, flow: Option<(Phase, f64)>, left: Estimate, elapsed: Duration) {
        if let Some((bar, rate)) = flow.and_then(|(phase, rate)| Some((self.bar(phase)?, rate))) {
            let left = left.phase.map(|left| format!(", {} left", table::length(left)));
            bar.set_message(format!("{}{}", table::rate_of(rate), left.unwrap_or_default()));
        }
        let elapsed = table::length(elapsed);
        self.whole.set_message(match left.transfer {
            None => format!("{elapsed} so far"),
            Some(Duration::ZERO) => format!("{elapsed} so far, due by what earlier ones took"),
            Some(left) => format!("{elapsed} so far, about {} left", table::length(left)),
        });
    }

    /// Takes the bars away.
    pub fn close(&mut self) {
        for (_, bar) in self.running.drain(..) {
            bar.finish_and_clear();
        }
        self.whole.finish_and_clear();
    }

    fn start(&mut self, phase: Phase) {
        self.clear(phase);
        let bar = self.bars.insert_before(&self.whole, ProgressBar::new_spinner());
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

pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
