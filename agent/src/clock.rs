//! The clock of a bare server is often wrong, and a wrong clock breaks TLS and WireGuard alike.
//!
//! The hint is not authenticated: it came over the lender's wire beside the CA, which has the same standing. It only has to be good
//! enough for the LM's certificate, which is dated back a day.
#![allow(unsafe_code)]

use leaseboot_protocol::timestamp::Timestamp;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

/// A clock nearer than this to the hint is left alone.
const GOOD_ENOUGH: Duration = Duration::from_secs(5);

/// What became of the clock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Adjustment {
    /// It was near enough.
    Kept,
    /// It was off by this much.
    Set {
        /// Seconds that were added, negative when the clock was fast.
        seconds: i64,
    },
}

/// The clock was wrong and could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the clock to the lease manager's time")]
pub(crate) struct ClockError(#[source] nix::Error);

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Sets the clock to the hint when it is far from it, and the hardware clock with it, so that the next kernel starts right.
pub(crate) fn set_from_hint(hint: Timestamp) -> Result<Adjustment, ClockError> {
    let before = now();
    if before.since(hint).max(hint.since(before)) < GOOD_ENOUGH {
        return Ok(Adjustment::Kept);
    }
    set(hint)?;
    #[allow(clippy::cast_possible_wrap)]
    let seconds = (hint.0 as i64 - before.0 as i64) / 1000;
    Ok(Adjustment::Set { seconds })
}

/// Makes sure that the clock is not behind `earliest`.
pub(crate) fn not_before(earliest: Timestamp) -> Result<(), ClockError> {
    if now() < earliest { set(earliest) } else { Ok(()) }
}

fn set(time: Timestamp) -> Result<(), ClockError> {
    let spec = TimeSpec::from(Duration::from_millis(time.0));
    clock_settime(ClockId::CLOCK_REALTIME, spec).map_err(ClockError)?;
    // A server without a hardware clock, or without its driver, only loses the head start of the next kernel.
    let _ = write_hardware_clock(time);
    Ok(())
}

mod request {
    nix::ioctl_write_ptr!(rtc_set_time, b'p', 0x0a, super::RtcTime);
}

/// `struct rtc_time` of linux/rtc.h.
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RtcTime {
    second: i32,
    minute: i32,
    hour: i32,
    day: i32,
    month: i32,
    year: i32,
    weekday: i32,
    yearday: i32,
    daylight_saving: i32,
}

fn write_hardware_clock(time: Timestamp) -> std::io::Result<()> {
    let clock = std::fs::OpenOptions::new().write(true).open("/dev/rtc0")?;
    let fields = rtc_time(time.0 / 1000);
    // SAFETY: the descriptor is open and `fields` is a live `struct rtc_time`, which the kernel only reads.
    unsafe { request::rtc_set_time(clock.as_raw_fd(), &raw const fields) }?;
    Ok(())
}

/// Seconds since 1970 as a civil date in UTC: days are counted in eras of 400 years that begin on 1 March.
fn rtc_time(seconds: u64) -> RtcTime {
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
    let (days, rest) = ((seconds / 86_400) as i64, (seconds % 86_400) as i32);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    #[allow(clippy::cast_possible_truncation)]
    RtcTime {
        second: rest % 60,
        minute: rest / 60 % 60,
        hour: rest / 3600,
        day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as i32,
        month: month as i32 - 1,
        year: year as i32 - 1900,
        ..RtcTime::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates() {
        let date = |seconds| {
            let time = rtc_time(seconds);
            (
                time.year + 1900,
                time.month + 1,
                time.day,
                time.hour,
                time.minute,
                time.second,
            )
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(1_795_488_245), (2026, 11, 24, 2, 44, 5));
        assert_eq!(date(4_107_542_399), (2100, 2, 28, 23, 59, 59));
    }
}
