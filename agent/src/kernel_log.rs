//! The last lines of the kernel's log, for reports of failures (kernel document ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

const LINES: usize = 40;
const LARGEST_RECORD: usize = 8192;

/// The last lines, oldest first; empty when the log cannot be read.
pub(crate) fn tail() -> Vec<String> {
    let mut lines = KernelLog::open().map(|mut log| log.fresh()).unwrap_or_default();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}

/// The log from its first line on, read bit by bit.
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// `None` when the log cannot be read.
    pub(crate) fn open() -> Option<Self> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        opened.ok().map(Self)
    }

    /// What was said since the last call.
    pub(crate) fn fresh(&mut self) -> Vec<String> {
        let (mut lines, mut record) = (Vec::new(), [0; LARGEST_RECORD]);
        loop {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(length) => lines.push(text(&String::from_utf8_lossy(&record[..length]))),
                // A record was overwritten while we read: the next read goes on behind it.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// `level,sequence,microseconds,flags;message\n key=value…` as a line like the console's.
fn text(record: &str) -> String {
    let (head, rest) = record.split_once(';').unwrap_or(("", record));
    let message = rest.lines().next().unwrap_or_default();
    let microseconds = head
        .split(',')
        .nth(2)
        .and_then(|field| field.parse::<u64>().ok())
        .unwrap_or(0);
    format!(
        "[{:>5}.{:06}] {message}",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        assert_eq!(
            text("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n"),
            "[    5.140900] NET: Registered"
        );
        assert_eq!(text("nonsense"), "[    0.000000] nonsense");
    }
}
