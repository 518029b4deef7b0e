//! Lines for the person at the serial console. Each begins with the seconds since the kernel started, as the kernel's own do.

use crate::boot_log;
use nix::time::{ClockId, clock_gettime};

/// Writes one line to the console. A console that is gone must not stop a transfer, so errors are dropped.
pub(crate) fn line(text: &str) {
    use std::io::Write;
    let line = format!("[{:>8.3}] leaseboot: {text}", uptime_seconds());
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
    boot_log::keep(&line);
}

/// Seconds since the kernel started.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn uptime_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// Writes one formatted line to the console.
macro_rules! say {
    ($($word:tt)*) => { $crate::console::line(&format!($($word)*)) };
}
pub(crate) use say;
