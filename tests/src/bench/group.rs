//! A program and everything that it starts, held together by a control group (cgroups(7), version 2).
//!
//! proc(5) counts the CPU of children only for a parent that waits for them. A server that makes a process for each transfer and lets the
//! kernel bury it would look as if it used none; a group counts whoever was ever in it, in microseconds, and ends them all at once.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the kernel may take to bury what was killed.
const BURIAL: Duration = Duration::from_secs(10);

/// In what portions a held group gets its time: short, so that it does not fall silent for longer than a socket's buffer lasts.
const PERIOD: Duration = Duration::from_millis(4);

/// The group. Dropping it kills whoever is in it.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    /// A second folder, where the controller of the CPU is still of version 1.
    held: Option<PathBuf>,
}

impl Group {
    /// An empty group.
    ///
    /// # Errors
    /// When the host has no hierarchy of version 2 mounted, or we may not write to it.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let root = hierarchy(&mounts).context(
            "no control groups of version 2 are mounted: mount -t cgroup2 none /sys/fs/cgroup/unified",
        )?;
        let name = format!(
            "leaseboot-bench-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = root.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, held: None })
    }

    /// An empty group that gets at most `share` of one core, for programs that would otherwise outrun whoever asks them.
    ///
    /// # Errors
    /// As [`Group::new`], and when no hierarchy controls the CPU.
    pub fn held_to(share: f64) -> Result<Self> {
        let mut group = Self::new()?;
        let period = PERIOD.as_micros();
        let quota = (PERIOD.as_secs_f64() * share * 1e6).round();
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        if let Some(root) = cpu_hierarchy(&mounts) {
            let folder = root.join(group.folder.file_name().unwrap_or_default());
            fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let folder = group.held.insert(folder);
            write(&folder.join("cpu.cfs_period_us"), &period.to_string())?;
            write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())?;
        } else {
            if let Some(root) = group.folder.parent() {
                write(&root.join("cgroup.subtree_control"), "+cpu")?;
            }
            write(&group.folder.join("cpu.max"), &format!("{quota} {period}"))?;
        }
        Ok(group)
    }

    /// Takes a process in, with all that it will start from now on.
    pub fn take(&self, pid: u32) -> Result<()> {
        let folders = [Some(&self.folder), self.held.as_ref()];
        folders
            .into_iter()
            .flatten()
            .try_for_each(|folder| write(&folder.join("cgroup.procs"), &pid.to_string()))
    }

    /// CPU seconds, user and system, of everybody who is or was in it.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let path = self.folder.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        usage(&text).with_context(|| format!("{} makes no sense", path.display()))
    }

    fn is_empty(&self) -> bool {
        fs::read_to_string(self.folder.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.folder.join("cgroup.kill"), "1") {
            eprintln!("cannot end what runs in {}: {error}", self.folder.display());
        }
        let until = Instant::now() + BURIAL;
        while !self.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        for folder in [Some(&self.folder), self.held.as_ref()].into_iter().flatten() {
            if let Err(error) = fs::remove_dir(folder) {
                eprintln!("cannot remove {}: {error}", folder.display());
            }
        }
    }
}

fn hierarchy(mounts: &str) -> Option<&Path> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| Path::new(place))
    })
}

/// Where version 1 controls the CPU.
fn cpu_hierarchy(mounts: &str) -> Option<&Path> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let (_, place, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (kind == "cgroup" && options.split(',').any(|option| option == "cpu")).then(|| Path::new(place))
    })
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {value} into {}", path.display()))
}

fn usage(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(line.trim().parse::<f64>().ok()? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_groups_are_and_what_they_used() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(hierarchy(mounts), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(hierarchy("proc /proc proc rw 0 0\n"), None);
        assert_eq!(cpu_hierarchy(mounts), Some(Path::new("/sys/fs/cgroup/cpu")));
        assert_eq!(cpu_hierarchy("cgroup /x cgroup rw,cpuacct 0 0\n"), None);
        assert_eq!(usage("usage_usec 1500000\nuser_usec 1000000\n"), Some(1.5));
        assert_eq!(usage(""), None);
    }
}
