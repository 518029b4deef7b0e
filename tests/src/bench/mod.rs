//! The frame of all benches: `cargo xtask bench <name>`.
//!
//! A bench is a program of its own (`[[bench]]` with `harness = false`, in whichever crate has what it measures) that runs ours and the peers in one run on one machine, so that
//! the *ratio* means something on any machine, and says one line for each thing measured:
//!
//! ```text
//! row {"name":"TFTP lockstep","unit":"MiB/CPU-s","ours":610.0,"peer":{"name":"dnsmasq","value":180.0},"goal":{"ratio_at_least":3.0}}
//! ```
//!
//! All its other lines are for people. The xtask installs the packages, builds the programs, runs the bench and makes a [`Report`] of the rows: a table, `target/bench/<name>.json` and
//! `target/bench/<name>.svg`. A crate that must not import this one writes the lines itself: the format is all that is shared.
//!
//! Everything is compiled with `opt-level = 3` but otherwise as for development, with overflow checks: a little slower than what is
//! shipped, and without compiling all dependencies a second time.

pub mod boot;
pub mod fleet;
pub mod group;
mod measurement;
pub mod paths;
pub mod planes;
mod plot;
pub mod process;
mod report;
pub mod tunnel;

pub use measurement::{Goal, Measurement, Peer, median};
pub use report::{Report, Row};

/// The parts that a bench program was asked for; cargo adds a `--bench` of its own.
pub fn wanted() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect()
}

/// Whether a part is to be measured: all are when none is named.
///
/// # Errors
/// When one is named that there is not.
fn parts<'a>(named: &'a [String], known: &[&str]) -> anyhow::Result<impl Fn(&str) -> bool + 'a> {
    for part in named {
        anyhow::ensure!(
            known.contains(&part.as_str()),
            "there is no part {part:?}, only {known:?}"
        );
    }
    Ok(|name: &str| named.is_empty() || named.iter().any(|part| part == name))
}
