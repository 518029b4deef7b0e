//! Sends what this boot says on its console to whoever keeps it: the agent's own lines and the kernel's, merged by their times.
//!
//! ```text
//! say! ─► kept lines ─┐
//! /dev/kmsg ──────────┴─► every few seconds, and before we leave ─► LM (TLS), PO (tunnel)
//! ```
//!
//! It is a courtesy: a reader who is away costs lines and nothing else, so there is one attempt for each message, and what does not arrive is said again next
//! time as far as there is room.

use crate::gateway::Gateway;
use crate::kernel_log::KernelLog;
use crate::lm::Session;
use leaseboot_protocol::boot_log::{LogLines, LogSource, MOST_LINES};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const PAUSE: Duration = Duration::from_secs(3);
/// One message may take so long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Lines that wait for a reader; the oldest make room.
const WAITING: usize = 2000;

/// Our lines. Each sender has its own place in them, so that the enterprise hears what the lender has heard already.
struct Said {
    /// Lines that made room for others.
    gone: usize,
    lines: VecDeque<String>,
}

static SAID: Mutex<Said> = Mutex::new(Said {
    gone: 0,
    lines: VecDeque::new(),
});

/// Keeps a line of ours until it is sent.
pub(crate) fn keep(line: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.keep(line);
}

impl Said {
    fn keep(&mut self, line: &str) {
        if self.lines.len() >= WAITING {
            self.lines.pop_front();
            self.gone += 1;
        }
        self.lines.push_back(line.to_owned());
    }

    /// The lines from a place on, and the place behind them.
    fn since(&self, place: usize) -> (Vec<String>, usize) {
        let heard = place.saturating_sub(self.gone);
        let lines = self.lines.iter().skip(heard).cloned().collect();
        (lines, self.gone + self.lines.len())
    }
}

/// Whoever keeps the lines.
pub(crate) enum Reader {
    /// The lender.
    Lm(Session),
    /// The enterprise.
    Po(Gateway),
}

/// A running sender; it stops when this is dropped.
pub(crate) struct Sender {
    now: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Begins with what was said before.
    pub(crate) fn start(source: LogSource, readers: Vec<Reader>) -> Self {
        let (now, asked) = mpsc::unbounded_channel();
        Self {
            now,
            task: tokio::spawn(send(source, readers, asked)),
        }
    }

    /// Sends what was said so far; returns when it was tried.
    pub(crate) async fn flush(&self) {
        let (done, tried) = oneshot::channel();
        if self.now.send(done).is_ok() {
            // Bounded by the deadline of each message.
            let _ = tried.await;
        }
    }
}

/// Goal: what is said is sent soon. Waiting for time or for somebody who asks loses nothing when it is dropped.
async fn send(
    source: LogSource,
    readers: Vec<Reader>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let (mut kernel, mut place) = (KernelLog::open(), 0);
    let mut waiting: Vec<VecDeque<String>> = readers.iter().map(|_| VecDeque::new()).collect();
    loop {
        let mut done = None;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            one = asked.recv() => match one {
                Some(one) => done = Some(one),
                None => return,
            }
        }
        let own;
        (own, place) = since(place);
        let fresh = merged(kernel.as_mut().map(KernelLog::fresh).unwrap_or_default(), own);
        for (reader, lines) in readers.iter().zip(&mut waiting) {
            lines.extend(fresh.iter().cloned());
            let surplus = lines.len().saturating_sub(WAITING);
            lines.drain(..surplus);
            while !lines.is_empty() && reader.take(source, lines).await {}
        }
        if let Some(done) = done {
            // Whoever asked may have given up waiting.
            let _ = done.send(());
        }
    }
}

impl Reader {
    /// Sends the first lines; `false` when they did not arrive, and stay.
    async fn take(&self, source: LogSource, lines: &mut VecDeque<String>) -> bool {
        let count = lines.len().min(MOST_LINES);
        let message = LogLines {
            source,
            lines: lines.iter().take(count).cloned().collect(),
        };
        let sent = async {
            match self {
                Reader::Lm(session) => session.log(&message).await.is_ok(),
                Reader::Po(gateway) => gateway.log(&message).await.is_ok(),
            }
        };
        let arrived = tokio::time::timeout(DEADLINE, sent).await.unwrap_or(false);
        if arrived {
            lines.drain(..count);
        }
        arrived
    }
}

fn since(place: usize) -> (Vec<String>, usize) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).since(place)
}

/// Both in the order of the times that they begin with; what has none follows the line before.
fn merged(kernel: Vec<String>, own: Vec<String>) -> Vec<String> {
    let mut all = Vec::with_capacity(kernel.len() + own.len());
    for lines in [kernel, own] {
        let mut last = 0.0;
        for line in lines {
            last = time(&line).unwrap_or(last);
            all.push((last, line));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    all.into_iter().map(|(_, line)| line).collect()
}

/// The seconds in `[    5.140900] …`.
fn time(line: &str) -> Option<f64> {
    let (inside, _) = line.strip_prefix('[')?.split_once(']')?;
    inside.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_hears_every_line_that_is_left() {
        let mut said = Said {
            gone: 0,
            lines: VecDeque::new(),
        };
        said.keep("a");
        let (first, place) = said.since(0);
        assert_eq!((first, place), (vec!["a".to_owned()], 1));
        said.keep("b");
        assert_eq!(said.since(place).0, ["b"]);
        assert_eq!(said.since(0).0, ["a", "b"], "a reader who comes later");
        for _ in 0..WAITING {
            said.keep("c");
        }
        let (lines, end) = said.since(place);
        assert_eq!((lines.len(), end), (WAITING, WAITING + 2));
    }

    #[test]
    fn lines_stand_in_the_order_of_their_times() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            merged(
                lines(&["[    1.000000] a", "continued", "[    3.000000] c"]),
                lines(&["[   2.000] leaseboot: b"])
            ),
            lines(&[
                "[    1.000000] a",
                "continued",
                "[   2.000] leaseboot: b",
                "[    3.000000] c"
            ])
        );
    }
}
