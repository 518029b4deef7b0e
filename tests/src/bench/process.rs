//! What a process used, from proc(5).

use anyhow::{Context as _, Result};
use std::path::Path;

/// Ticks of `utime` and `stime` in a second: USER_HZ, which Linux fixes at 100 for programs on every architecture that we run on.
const TICKS: f64 = 100.0;

/// CPU seconds, user and system, that the process and its children that it has waited for have used so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    let fields = stat_fields(&text).with_context(|| format!("/proc/{pid}/stat makes no sense"))?;
    Ok(fields.iter().sum::<u64>() as f64 / TICKS)
}

/// The largest resident memory so far, in MB (10^6 bytes).
pub fn peak_memory(pid: u32) -> Result<f64> {
    status(pid, "VmHWM:")
}

/// The resident memory now, in MB (10^6 bytes).
pub fn memory(pid: u32) -> Result<f64> {
    status(pid, "VmRSS:")
}

/// Makes [`peak_memory`] begin anew.
pub fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

fn status(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = read(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib: Option<f64> = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    Ok(kib.with_context(|| format!("{path} has no {field}"))? * 1024.0 / 1e6)
}

/// `utime`, `stime`, `cutime`, `cstime`: fields 14 to 17, counted behind the name, which may hold blanks and brackets.
fn stat_fields(text: &str) -> Option<[u64; 4]> {
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?, next()?])
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(Path::new(path)).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_times_behind_any_name() {
        let line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 100 200 300";
        assert_eq!(stat_fields(line), Some([50, 60, 7, 8]));
        assert_eq!(stat_fields("42 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap() > 0.1 && peak_memory(pid).unwrap() > 0.1);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
    }
}
