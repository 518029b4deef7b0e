//! `cargo xtask test`: everything that must hold before a change is taken in, from formatting to whole transfers.
//!
//! A stage that fails does not hide what the next ones would find; only the scenarios are left out when what they run on is
//! missing. The last line is the sum of all test runners' closing lines.

use crate::dist::Dist;
use crate::prepare::{self, cargo};
use crate::rotation::{self, Rotation};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use leaseboot_tests::folders::Folders;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Instant;

/// Set-up, formatting, lints, unit tests, image, and the scenarios on virtual machines.
#[derive(Args)]
pub(crate) struct Test {
    /// Leave out the scenarios on virtual machines
    #[arg(long)]
    quick: bool,
    /// Run every scenario, also those of which a run takes only a part otherwise
    #[arg(long, conflicts_with = "quick")]
    full: bool,
}

#[derive(Default)]
struct Stages {
    done: Vec<(&'static str, f64, Result<()>)>,
    counts: Counts,
}

/// The numbers of closing lines such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        prepare::require_root("test")?;
        let folders = Folders::find()?;
        let mut stages = Stages::default();
        stages.run("set-up", |_| prepare::packages(&folders))?;
        let fmt = ["fmt", "--all", "--check"];
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        stages.note("formatting", |_| prepare::run(cargo().args(fmt)));
        stages.note("lints", |_| prepare::run(cargo().args(clippy)));
        stages.note("unit tests", |counts| {
            counted(&["test", "--no-fail-fast"], counts)
        });
        if !self.quick {
            // The selection of the unit tests, whose integration tests need both managers: another one would compile every dependency
            // again with other features.
            let programs = ["test", "--no-run"];
            stages.run("programs", |_| prepare::run(cargo().args(programs)))?;
            stages.note("packages", |_| Dist::of(folders.programs().to_owned()).run());
            stages.run("image", |_| prepare::image())?;
            stages.note("image again", |_| prepare::image_again());
            stages.run("enterprise", |_| runtime()?.block_on(prepare::assets(&folders)))?;
            stages.note("foreign", |_| {
                runtime()?.block_on(prepare::foreign_installers(&folders))
            });
            let mut rotation = self.full.then(Rotation::default);
            if !self.full {
                stages.note("rotation", |_| {
                    rotation = Some(Rotation::of_this_commit()?);
                    Ok(())
                });
            }
            // Without it, nobody knows what would be run.
            if let Some(rotation) = rotation {
                if rotation.has_whole(rotation::ARM64) {
                    stages.note("arm64", |_| prepare::arm64(&folders));
                }
                stages.note("scenarios", |counts| scenarios(&rotation, counts));
            }
        }
        stages.close()
    }
}

impl Stages {
    /// Runs a stage; its failure is told at the end.
    fn note(&mut self, name: &'static str, stage: impl FnOnce(&mut Counts) -> Result<()>) {
        println!("=== {name}");
        let begun = Instant::now();
        let outcome = stage(&mut self.counts);
        let seconds = begun.elapsed().as_secs_f64();
        if let Err(error) = &outcome {
            println!("=== {name}: FAILED after {seconds:.1} s: {error:#}");
        }
        self.done.push((name, seconds, outcome));
    }

    /// Runs a stage that the following ones need.
    fn run(&mut self, name: &'static str, stage: impl FnOnce(&mut Counts) -> Result<()>) -> Result<()> {
        self.note(name, stage);
        if self.done.last().is_some_and(|(_, _, outcome)| outcome.is_err()) {
            self.table();
            bail!("the stage '{name}' failed, and the rest cannot go on without it");
        }
        Ok(())
    }

    fn table(&self) {
        println!("\n{:<12} {:>9}  outcome", "stage", "seconds");
        for (name, seconds, outcome) in &self.done {
            let outcome = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("{name:<12} {seconds:>9.1}  {outcome}");
        }
    }

    fn close(self) -> Result<()> {
        self.table();
        let Counts {
            passed,
            failed,
            ignored,
        } = self.counts;
        let failures: Vec<_> = self
            .done
            .iter()
            .filter(|(_, _, outcome)| outcome.is_err())
            .collect();
        let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
        let seconds: f64 = self.done.iter().map(|(_, seconds, _)| seconds).sum();
        println!(
            "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; finished in {seconds:.2}s"
        );
        let names: Vec<_> = failures.iter().map(|(name, _, _)| *name).collect();
        ensure!(names.is_empty(), "these stages failed: {}", names.join(", "));
        Ok(())
    }
}

/// Runs the scenarios one after the other: each has two cores' worth of emulated server to run.
fn scenarios(rotation: &Rotation, counts: &mut Counts) -> Result<()> {
    let mut arguments = vec![
        "test",
        "-p",
        "leaseboot-tests",
        "--no-fail-fast",
        "--",
        "--test-threads=1",
        "--exact",
    ];
    for test in &rotation.left {
        arguments.extend(["--skip", test]);
    }
    let outcome = counted(&arguments, counts);
    if !rotation.left.is_empty() {
        println!("\nrun in this commit's turn: {}", rotation.due.join(", "));
        println!(
            "left to other commits and to cargo xtask test --full: {}",
            rotation.left.join(", ")
        );
    }
    outcome
}

/// Runs a test runner, shows what it says, and adds up its closing lines.
fn counted(arguments: &[&str], counts: &mut Counts) -> Result<()> {
    let mut child = cargo()
        .args(arguments)
        // The errors of scenarios speak for themselves; their backtraces are those of the runtime.
        .env("RUST_LIB_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let out = child.stdout.take().context("cargo has no standard output")?;
    for line in BufReader::new(out).lines() {
        let line = line.context("cannot read what the test runner says")?;
        println!("{line}");
        std::io::stdout()
            .flush()
            .context("cannot write to standard output")?;
        counts.add(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(
        status.success(),
        "cargo {} ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}

impl Counts {
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |word: &str| -> u64 {
            let mut words = rest.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
            while let Some(found) = words.next() {
                if words.peek() == Some(&word) {
                    return found.parse().unwrap_or(0);
                }
            }
            0
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.ignored += number("ignored");
    }
}

/// For the few steps of ours that wait for programs.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_closing_lines_and_nothing_else() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s",
        );
        counts.add("test a_test ... ok");
        counts.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            counts,
            Counts {
                passed: 14,
                failed: 1,
                ignored: 1
            }
        );
    }
}
