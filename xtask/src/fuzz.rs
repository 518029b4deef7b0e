//! `cargo xtask fuzz [target]`: libFuzzer over what reads bytes of strangers.
//!
//! ```text
//! tests/fuzz/fuzz_targets/<target>.rs  calls the function of that name in the `fuzzing` module of its crate
//! tests/fuzz/corpus/<target>/          what every test run feeds it with; small, and written by people
//! tests/fuzz/found/<target>/           what libFuzzer found interesting; not committed
//! tests/fuzz/artifacts/<target>/       inputs that broke it: mend, give them a name, and move them into the corpus
//! ```
//!
//! The flags are those of cargo-fuzz without a sanitizer, which are stable. There is no `unsafe` in these readers that one would watch.

use crate::prepare::{cargo, run};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use leaseboot_image::{Workspace, host_packages};
use std::path::Path;
use std::process::Command;

/// Build scripts and macros run on the host and are not to be instrumented, so the host is named as if it were another.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// What lets libFuzzer see where an input leads.
const FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// The longest input, in bytes.
const LONGEST: u32 = 8192;
/// An input that takes longer than so many seconds is a finding.
const SLOWEST_S: u32 = 5;
/// More memory than so many MiB is a finding.
const MOST_MIB: u32 = 1024;

/// Feed the readers of strangers' bytes with what libFuzzer makes up.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// One target, a name below tests/fuzz/corpus; all of them if none is named
    target: Option<String>,
    /// How long to run each
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<()> {
        // libFuzzer is C++.
        host_packages::ensure(&["g++"]).context("cannot prepare this host")?;
        let folder = Workspace::of_this_crate().root().join("tests/fuzz");
        let targets = targets(&folder, self.target.as_deref())?;
        let mut build = cargo();
        build
            .args(["build", "--target", HOST])
            .current_dir(&folder)
            .env("RUSTFLAGS", FLAGS);
        for target in &targets {
            build.args(["--bin", target]);
        }
        run(&mut build)?;
        let mut broken = Vec::new();
        for target in targets {
            println!("=== {target}");
            if let Err(error) = fuzz(&folder, &target, self.seconds) {
                println!("=== {target}: {error:#}");
                broken.push(target);
            }
        }
        ensure!(broken.is_empty(), "these targets broke: {}", broken.join(", "));
        Ok(())
    }
}

fn targets(folder: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let entries = folder.join("fuzz_targets");
    let entries =
        std::fs::read_dir(&entries).with_context(|| format!("cannot list {}", entries.display()))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    match wanted {
        None => Ok(names),
        Some(wanted) if names.iter().any(|name| name == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => bail!("there is no target {wanted}; there are {}", names.join(", ")),
    }
}

fn fuzz(folder: &Path, target: &str, seconds: u32) -> Result<()> {
    let [found, artifacts] = ["found", "artifacts"].map(|name| folder.join(name).join(target));
    for made in [&found, &artifacts] {
        std::fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let program = folder.join("target").join(HOST).join("debug").join(target);
    run(Command::new(program)
        .arg(&found)
        .arg(folder.join("corpus").join(target))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={SLOWEST_S}"))
        .arg(format!("-rss_limit_mb={MOST_MIB}"))
        .arg("-print_final_stats=1")
        .current_dir(folder))
}
