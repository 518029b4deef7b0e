//! Seconds and bytes as people read them, and the table of phases at the end of a transfer.

use super::phases::{PhaseRecord, Phases};
use std::fmt::Write as _;
use std::time::Duration;

const KIB: f64 = 1024.0;
/// Below this a rate says more about the clock than about the line.
const SHORTEST_FOR_RATE: f64 = 0.05;

/// Bytes with a binary unit (IEC 80000-13); nothing for none.
#[allow(clippy::cast_precision_loss)]
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        _ if bytes == 0 => String::new(),
        b if b < KIB => format!("{bytes} B"),
        b if b < KIB * KIB => format!("{:.1} KiB", b / KIB),
        b if b < KIB * KIB * KIB => format!("{:.1} MiB", b / KIB / KIB),
        b => format!("{:.2} GiB", b / KIB / KIB / KIB),
    }
}

/// Bytes per second with a unit; nothing when there is nothing to say.
#[allow(clippy::cast_precision_loss)]
pub fn rate(bytes: u64, seconds: f64) -> String {
    if bytes == 0 || seconds < SHORTEST_FOR_RATE {
        return String::new();
    }
    rate_of(bytes as f64 / seconds)
}

/// Bytes per second with a unit.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn rate_of(bytes_per_second: f64) -> String {
    format!("{}/s", size(bytes_per_second as u64))
}

/// A length of time as people say it.
pub fn length(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// A phase on one line.
pub fn line(record: &PhaseRecord) -> String {
    let detail = match (record.failed, record.detail.as_str()) {
        (true, "") => "failed".to_owned(),
        (true, detail) => format!("failed: {detail}"),
        (false, detail) => detail.to_owned(),
    };
    let line = format!(
        "{:<17}{:>8.1} s{:>12}{:>14}  {detail}",
        record.phase,
        record.seconds,
        size(record.bytes),
        rate(record.bytes, record.seconds),
    );
    line.trim_end().to_owned()
}

/// All phases, with what they come to.
pub fn table(phases: &Phases) -> String {
    let mut table = format!("{:<17}{:>10}{:>12}{:>14}\n", "phase", "seconds", "bytes", "rate");
    let attempts = phases.records().iter().map(|record| record.attempt).max();
    let mut attempt = 1;
    for record in phases.records() {
        if record.attempt != attempt {
            attempt = record.attempt;
            let _ = writeln!(
                table,
                "-- boot attempt {attempt} of {}",
                attempts.unwrap_or(attempt)
            );
        }
        let _ = writeln!(table, "{}", line(record));
    }
    let bytes = phases.records().iter().map(|record| record.bytes).sum();
    let total = phases.total().as_secs_f64();
    let sum = format!("{:<17}{total:>8.1} s{:>12}", "in all", size(bytes));
    table + sum.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_short() {
        assert_eq!(size(0), "");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(45 << 20), "45.0 MiB");
        assert_eq!(rate(10 << 20, 2.0), "5.0 MiB/s");
        assert_eq!(rate(10, 0.0), "");
        assert_eq!(length(Duration::from_secs(119)), "119 s");
        assert_eq!(length(Duration::from_secs(7199)), "119 min");
    }
}
