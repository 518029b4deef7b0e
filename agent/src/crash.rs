//! The last words of a kernel that panicked, where the platform keeps them over a restart: pstore (kernel document ABI/testing/pstore), which EFI
//! variables or ACPI's ERST stand behind.
//!
//! They are read by the next boot of stage 1, and removed in any case. Told they are only while the same lease boots: what a system in service left there is its
//! tenant's, and goes with everything else when the server is erased.

use crate::console::say;
use crate::drivers::Drivers;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::path::Path;

const FOLDER: &str = "/sys/fs/pstore";
/// Lines that are told, the last ones.
const LINES: usize = 120;
/// Characters of one line.
const LONGEST: usize = 300;

/// Has the kernel keep its last words from now on, where the firmware is UEFI. ERST needs no module.
pub(crate) fn arm(drivers: &mut Drivers) {
    if Path::new("/sys/firmware/efi").exists() {
        // An image without the module keeps nothing; that harms nothing else.
        drop(drivers.load("efi_pstore"));
    }
}

/// Takes what earlier kernels left: their lines, oldest first. Nothing is left behind.
pub(crate) fn take() -> Vec<String> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("pstore"), FOLDER, Some("pstore"), flags, None::<&str>) {
        Ok(()) | Err(nix::Error::EBUSY) => {}
        Err(error) => {
            say!("last words: cannot mount pstore on {FOLDER}: {error}");
            return Vec::new();
        }
    }
    take_from(Path::new(FOLDER))
}

fn take_from(folder: &Path) -> Vec<String> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        records.push(String::from_utf8_lossy(&bytes).into_owned());
        if let Err(error) = fs::remove_file(entry.path()) {
            say!("last words: cannot remove {}: {error}", entry.path().display());
        }
    }
    lines(&records)
}

/// What happened, in the kernel's words, out of lines that [`take`] gave.
pub(crate) fn reason(lines: &[String]) -> String {
    let panic = lines.iter().find_map(|line| {
        let at = line.find("Kernel panic")?;
        Some(line[at..].to_owned())
    });
    panic.unwrap_or_else(|| "the kernel left words without saying that it panicked".to_owned())
}

/// The records in the order in which they were said. The kernel writes its log in parts, the last lines as part 1.
fn lines(records: &[String]) -> Vec<String> {
    let mut parts: Vec<_> = records.iter().filter_map(|record| part(record)).collect();
    parts.sort_by_key(|((count, number), _)| (*count, std::cmp::Reverse(*number)));
    let all = parts.iter().flat_map(|(_, text)| text.lines());
    let all: Vec<_> = all.map(plain).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(LINES)..].to_vec()
}

/// `Panic#2 Part3`, and the text below it. Records of other kinds are left out.
fn part(record: &str) -> Option<((u32, u32), &str)> {
    let (head, text) = record.split_once('\n')?;
    let (reason, number) = head.trim().split_once(" Part")?;
    let (_, count) = reason.split_once('#')?;
    Some(((count.parse().ok()?, number.parse().ok()?), text))
}

/// Without the level in front, nor what a terminal would take for an order.
fn plain(line: &str) -> String {
    let line = match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, rest)) => rest,
        None => line,
    };
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_log_and_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "dmesg-efi-1",
            "Panic#1 Part1\n<0>[    9.2] Kernel panic - not syncing: no\n<4>[    9.3] end\n",
        );
        write(
            "dmesg-efi-2",
            "Panic#1 Part2\n<6>[    9.0] first\n<6>[    9.1] \u{1b}[31msecond\n",
        );
        write("pmsg-ramoops-0", "what user space said\n");
        let found = take_from(folder.path());
        assert_eq!(
            found,
            [
                "[    9.0] first",
                "[    9.1] [31msecond",
                "[    9.2] Kernel panic - not syncing: no",
                "[    9.3] end"
            ]
        );
        assert_eq!(reason(&found), "Kernel panic - not syncing: no");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(take_from(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn noise_is_no_record() {
        for text in ["", "Panic", "Panic#x Part1\na", "Panic#1 Part\na", "Part1\na"] {
            assert!(lines(&[text.to_owned()]).is_empty(), "{text:?}");
        }
    }
}
