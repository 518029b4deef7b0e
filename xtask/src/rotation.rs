//! Which scenarios a run leaves to other runs.
//!
//! Matrices (every way in, every card, every installer) would take hours one after the other. Each run takes one part of them,
//! chosen by the commit: a run that is repeated tries the same, and a few commits together try everything. A file whose tests need a preparation of minutes
//! is not divided: its tests are all due, or none.

use crate::prepare::cargo;
use anyhow::{Context as _, Result};
use leaseboot_image::process::output;
use std::process::Command;

/// The scenario files of which a run takes one part.
const ROTATING: &[&str] = &[
    "boot_order",
    "cards",
    "debian_installer",
    "fai",
    "image_write",
    "ipv6",
    "kernel_wireguard",
    "panic",
    "planes",
    "rescue",
    "second_way",
    "survival",
    "transit",
    "ways_in",
    "wires",
];
/// Those that are not divided, since what they need is dear: 64-bit ARM wants a compiler, an agent and an image of its own.
const WHOLE: [&str; 1] = [ARM64];
/// The scenarios on 64-bit ARM.
pub(crate) const ARM64: &str = "arm64";
/// Into how many parts they are divided.
const PARTS: usize = 6;

/// The tests of the rotating files, as they fall to this run and to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// They are run.
    pub(crate) due: Vec<String>,
    /// They are left to other commits, and to a full run.
    pub(crate) left: Vec<String>,
    /// Files that are not divided and fall to others.
    whole_left: Vec<&'static str>,
}

impl Rotation {
    /// The part of the commit that is checked out. Compiles the scenarios.
    pub(crate) fn of_this_commit() -> Result<Self> {
        let mut tests = Vec::new();
        for file in ROTATING {
            tests.extend(tests_of(file)?);
        }
        let commit = output(Command::new("git").args(["rev-parse", "HEAD"]))?;
        let seat = seat(&commit);
        let mut rotation = Self::part(tests, seat);
        for (number, file) in WHOLE.into_iter().enumerate() {
            let is_due = number % PARTS == seat;
            rotation.take_whole(file, tests_of(file)?, is_due);
        }
        Ok(rotation)
    }

    /// Whether tests of a file that is not divided are run.
    pub(crate) fn has_whole(&self, file: &str) -> bool {
        !self.whole_left.contains(&file)
    }

    fn take_whole(&mut self, file: &'static str, tests: Vec<String>, is_due: bool) {
        match is_due {
            true => self.due.extend(tests),
            false => {
                self.left.extend(tests);
                self.whole_left.push(file);
            }
        }
    }

    fn part(tests: Vec<String>, seat: usize) -> Self {
        let mut rotation = Self::default();
        for (number, test) in tests.into_iter().enumerate() {
            if number % PARTS == seat {
                rotation.due.push(test);
            } else {
                rotation.left.push(test);
            }
        }
        rotation
    }
}

/// Compiles a file of scenarios and asks for their names.
fn tests_of(file: &str) -> Result<Vec<String>> {
    let list = [
        "test",
        "-q",
        "-p",
        "leaseboot-tests",
        "--test",
        file,
        "--",
        "--list",
    ];
    let listed =
        output(cargo().args(list)).with_context(|| format!("cannot list the scenarios of {file}"))?;
    Ok(names(&listed))
}

/// The names in what a test runner lists, one `name: test` a line.
fn names(listed: &str) -> Vec<String> {
    let name = |line: &str| line.strip_suffix(": test").map(str::to_owned);
    listed.lines().filter_map(name).collect()
}

/// The part of a commit, by its name's last digits.
fn seat(commit: &str) -> usize {
    let digits = commit.trim().bytes().rev().take(8);
    digits.fold(0_usize, |sum, digit| sum + usize::from(digit)) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_falls_to_exactly_one_part() {
        let tests: Vec<_> = (0..10).map(|number| format!("row_{number}")).collect();
        let mut due = Vec::new();
        for seat in 0..PARTS {
            let rotation = Rotation::part(tests.clone(), seat);
            assert_eq!(rotation.due.len() + rotation.left.len(), tests.len());
            due.extend(rotation.due);
        }
        due.sort();
        assert_eq!(due, tests);
    }

    #[test]
    fn what_is_not_divided_is_due_as_a_whole_or_not_at_all() {
        let tests = || vec!["one".to_owned(), "two".to_owned()];
        let mut due = Rotation::default();
        due.take_whole(ARM64, tests(), true);
        assert!(due.has_whole(ARM64) && due.due == tests() && due.left.is_empty());
        let mut left = Rotation::default();
        left.take_whole(ARM64, tests(), false);
        assert!(!left.has_whole(ARM64) && left.left == tests() && left.due.is_empty());
        // A full run leaves nothing to others.
        assert!(Rotation::default().has_whole(ARM64));
    }

    #[test]
    fn commits_take_all_parts_and_a_commit_always_the_same() {
        let seats: std::collections::BTreeSet<_> = (0..64).map(|n| seat(&format!("{n:040x}\n"))).collect();
        assert_eq!(seats, (0..PARTS).collect());
        assert_eq!(seat("00ff\n"), seat("00ff"));
    }

    #[test]
    fn names_are_read_from_a_runners_list_and_nothing_else() {
        let listed = "bios_pxe: test\nuefi::http: test\n\n2 tests, 0 benchmarks\n";
        assert_eq!(names(listed), ["bios_pxe", "uefi::http"]);
    }
}
