//! `cargo xtask bench <name>`: prepares the host, runs a bench program, and makes a report of what it says.
//!
//! ```text
//! target/bench/programs/       leaseboot-lm and leaseboot-po as they are measured
//! target/bench/peers/<package> the files of a peer's package, for peers that must not start by being installed
//! target/bench/<name>.json     rows of name, ours, peer, ratio, goal, met
//! target/bench/<name>.svg      the same as a plot
//! ```
//!
//! A new bench is a `[[bench]]` with `harness = false` in its crate and a [`Recipe`] here; see [`leaseboot_tests::bench`] for what it says.

use crate::prepare::{self, cargo};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use leaseboot_image::debian::Package;
use leaseboot_image::{Workspace, host_packages};
use leaseboot_tests::bench::{Measurement, Report};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Measure ours and the peers side by side.
#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    which: Which,
    /// Parts of it, such as tftp and http of boot; without any, all
    parts: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// TFTP, DHCP and HTTP at storm size, against tftpd-hpa, atftpd, dnsmasq, Kea and nginx
    Boot,
    /// Searches among 10,000 servers, on one core
    Search,
    /// Merges in each language, on one core
    Merge,
    /// 10,000 simulated servers boot, report and are installed against one Lease Manager, on SQLite and on PostgreSQL; about 18 minutes
    Fleet,
}

/// What a bench needs.
struct Recipe {
    name: &'static str,
    /// The crate, and its `[[bench]]`.
    of: (&'static str, &'static str),
    /// Whether leaseboot-lm and leaseboot-po are run (`LEASEBOOT_BIN_DIR` names their folder).
    programs: bool,
    /// Packages to be installed.
    installed: &'static [&'static str],
    /// Packages to be unpacked below `LEASEBOOT_PEERS`: servers that installing would start, or that exclude each other.
    unpacked: &'static [&'static str],
}

impl Which {
    fn recipe(self) -> Recipe {
        match self {
            Which::Boot => Recipe {
                name: "boot",
                of: ("leaseboot-tests", "boot"),
                programs: true,
                installed: &["dnsmasq-base", "iproute2", "kea-admin", "kea-common"],
                unpacked: &["atftpd", "kea-dhcp4-server", "nginx", "tftpd-hpa"],
            },
            Which::Fleet => Recipe {
                name: "fleet",
                of: ("leaseboot-tests", "fleet"),
                programs: true,
                installed: &["iproute2", "postgresql"],
                unpacked: &[],
            },
            Which::Merge => Recipe {
                name: "merge",
                of: ("leaseboot-lm", "merge"),
                programs: false,
                installed: &[],
                unpacked: &[],
            },
            Which::Search => Recipe {
                name: "search",
                of: ("leaseboot-lm", "search"),
                programs: false,
                installed: &[],
                unpacked: &[],
            },
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        prepare::require_root("bench")?;
        let recipe = self.which.recipe();
        let workspace = Workspace::of_this_crate();
        let folder = workspace.root().join("target/bench");
        host_packages::ensure(recipe.installed).context("cannot prepare this host")?;
        let peers = unpack(&workspace, &folder, recipe.unpacked)?;
        let programs = folder.join("programs");
        if recipe.programs {
            build_programs(&workspace, &programs)?;
        }
        let report = Report::new(recipe.name, &measure(&recipe, &self.parts, &programs, &peers)?);
        report.write(&folder)?;
        println!("\n{}", report.table());
        println!(
            "{0}/{1}.json and {0}/{1}.svg hold the same",
            folder.display(),
            recipe.name
        );
        Ok(())
    }
}

fn unpack(workspace: &Workspace, folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let peers = folder.join("peers");
    std::fs::create_dir_all(&peers).with_context(|| format!("cannot make {}", peers.display()))?;
    for name in packages {
        let files = Package::candidate(name)?.unpacked(workspace, |_| Ok(()))?;
        let link = peers.join(name);
        // An older version's link gives way; a first one is not there.
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&files, &link)
            .with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(peers)
}

/// Dependencies are as in the development build, so only our own crates are compiled again.
fn optimised(command: &mut Command) -> &mut Command {
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "3")
}

fn build_programs(workspace: &Workspace, programs: &Path) -> Result<()> {
    prepare::run(optimised(cargo().args([
        "build",
        "-p",
        "leaseboot-lm",
        "-p",
        "leaseboot-po",
    ])))?;
    std::fs::create_dir_all(programs).with_context(|| format!("cannot make {}", programs.display()))?;
    for name in ["leaseboot-lm", "leaseboot-po"] {
        let (from, to) = (
            workspace.root().join("target/debug").join(name),
            programs.join(name),
        );
        // A running program cannot be written over, but it can be replaced.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

fn measure(recipe: &Recipe, parts: &[String], programs: &Path, peers: &Path) -> Result<Vec<Measurement>> {
    let (package, bench) = recipe.of;
    let mut command = cargo();
    command
        .args(["bench", "--profile", "dev", "-p", package, "--bench", bench, "--"])
        .args(parts)
        .stdout(Stdio::piped());
    if recipe.programs {
        command.env("LEASEBOOT_BIN_DIR", programs);
    }
    let mut child = optimised(&mut command)
        .env("LEASEBOOT_PEERS", peers)
        .spawn()
        .context("cannot run cargo")?;
    let out = child.stdout.take().context("cargo has no standard output")?;
    let mut rows = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line.context("cannot read what the bench says")?;
        match Measurement::heard(&line) {
            Some(row) => rows.push(row.with_context(|| format!("the bench said {line:?}"))?),
            None => println!("{line}"),
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(
        status.success(),
        "the bench {bench} of {package} ended with {status}"
    );
    ensure!(
        !rows.is_empty(),
        "the bench {bench} of {package} measured nothing"
    );
    Ok(rows)
}
