//! How far the installer is, told to the LM and so to the PO: the last lines of whatever log it keeps.
//!
//! The wrapper knows no installer, but where installers write is known ([`LOGS`]); an image may name its own log (`leaseboot.log=/path`), or forbid it (`leaseboot.log=none`): a log is the enterprise's, and the
//! lender reads these lines. Little is told and seldom, so that a history stays short: a line each half minute at most while it goes on, and the last lines once it stands still, when somebody will ask why.

use crate::init_root::{InitRoot, Tail};
use crate::report::Steps;
use leaseboot_protocol::lease::Step;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::sleep;

/// Anaconda, its stand-ins and FAI; debian-installer; subiquity. The first that is there.
const LOGS: [&str; 5] = [
    "/tmp/anaconda.log",
    "/tmp/fai/fai.log",
    "/var/log/fai/localhost/last/fai.log",
    "/var/log/installer/subiquity-server-debug.log",
    "/var/log/syslog",
];
/// The word on the command line that names the log.
const WORD: &str = "leaseboot.log=";
const NONE: &str = "none";
const LOOK: Duration = Duration::from_secs(5);
/// Looks between two lines.
const PAUSE: u32 = 6;
/// Looks without a new byte after which an installer stands still.
const STILL: u32 = 24;
/// Bytes of the log's end that are looked at, lines that are told of it, and bytes of each.
const END: u64 = 4096;
const LAST_LINES: usize = 8;
const LONGEST_LINE: usize = 200;

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logs(Vec<String>);

impl Logs {
    /// What the kernel's command line says, or where installers usually write.
    pub(crate) fn on(command_line: &str) -> Self {
        let named = command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(WORD))
            .next_back();
        Self(match named {
            Some(NONE) => Vec::new(),
            Some(path) => vec![path.to_owned()],
            None => LOGS.map(str::to_owned).into(),
        })
    }
}

/// What was told so far. Pure: a look goes in, a note comes out.
#[derive(Debug, Default)]
struct Teller {
    length: u64,
    told: String,
    looks: u32,
    still: u32,
}

impl Teller {
    fn look(&mut self, tail: Option<&Tail>) -> Option<String> {
        let tail = tail?;
        self.looks += 1;
        if tail.length == self.length {
            self.still += 1;
            return (self.still == STILL).then(|| {
                let lines = last_lines(&tail.text, LAST_LINES).join("\n");
                format!("the installer's log stands still; it ends with:\n{lines}")
            });
        }
        (self.length, self.still) = (tail.length, 0);
        if self.looks < PAUSE && !self.told.is_empty() {
            return None;
        }
        let line = last_lines(&tail.text, 1).pop()?;
        if line == self.told {
            return None;
        }
        self.looks = 0;
        self.told.clone_from(&line);
        Some(format!("installer: {line}"))
    }
}

/// Follows the log for as long as the server runs.
pub(crate) async fn follow(root: InitRoot, logs: Logs, steps: Steps) -> Infallible {
    let mut teller = Teller::default();
    loop {
        sleep(LOOK).await;
        let tail = logs.0.iter().find_map(|path| root.tail(path, END));
        if let Some(note) = teller.look(tail.as_ref()) {
            steps.note(Step::Wrapper, note);
        }
    }
}

/// The last lines that say something, oldest first, without control characters.
fn last_lines(text: &str, count: usize) -> Vec<String> {
    let plain = |line: &str| -> String {
        let visible = line.chars().filter(|c| !c.is_control());
        visible.take(LONGEST_LINE).collect()
    };
    let mut lines: Vec<_> = text
        .lines()
        .rev()
        .map(|line| plain(line.trim()))
        .filter(|line| !line.is_empty())
        .take(count)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> Tail {
        Tail {
            length: text.len() as u64,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_command_line_may_name_a_log_or_forbid_it() {
        assert_eq!(Logs::on("quiet leaseboot.log=/run/x.log").0, ["/run/x.log"]);
        assert!(Logs::on("leaseboot.log=none").0.is_empty());
        assert_eq!(Logs::on("quiet").0, LOGS);
    }

    #[test]
    fn progress_is_told_seldom_and_a_halt_once_with_more_lines() {
        let mut teller = Teller::default();
        assert_eq!(teller.look(None), None);
        let first = teller.look(Some(&tail("a\nb\n\n")));
        assert_eq!(first.as_deref(), Some("installer: b"));
        let mut text = "a\nb\n".to_owned();
        let mut told = Vec::new();
        for number in 0..12 {
            text.push_str(&format!("line {number}\n"));
            told.extend(teller.look(Some(&tail(&text))));
        }
        assert_eq!(told, ["installer: line 5", "installer: line 11"]);
        let halts: Vec<_> = (0..100).filter_map(|_| teller.look(Some(&tail(&text)))).collect();
        assert_eq!(halts.len(), 1);
        assert!(
            halts[0].contains("line 4\nline 5") && halts[0].ends_with("line 11"),
            "{halts:?}"
        );
    }

    #[test]
    fn lines_are_short_and_plain() {
        let lines = last_lines(&format!("\x1b[31mred\x07\n{}\n", "x".repeat(500)), 5);
        assert_eq!(lines, ["[31mred".to_owned(), "x".repeat(LONGEST_LINE)]);
    }
}
