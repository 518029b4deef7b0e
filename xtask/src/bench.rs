//! `cargo xtask bench <name>`: prepares the host, runs a bench program, and makes a report of what it says.
//!
//! ```text
//! target/bench/programs/       our programs as they are measured
//! target/bench/peers/<package> the files of a peer's package, for peers that must not start by being installed
//! target/cache/peer-crates/    peers that are published as crates, by `cargo install`
//! target/bench/<name>.json     rows of name, ours, peer, ratio, goal, met
//! target/bench/<name>.svg      the same as a plot
//! ```
//!
//! A new bench is a `[[bench]]` with `harness = false` in its crate and a [`Recipe`] here; see [`leaseboot_tests::bench`] for what it says.

use crate::prepare::{self, cargo};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use leaseboot_image::debian::{Lists, Package};
use leaseboot_image::{Workspace, host_packages};
use leaseboot_tests::bench::{Measurement, Report};
use leaseboot_tests::folders::Folders;
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
    /// Every way in, from power-on to the second kernel, against Debian's installer and a reboot through the firmware; about 15 minutes
    Paths,
    /// A download by each data plane of stage 2, on an emulated server; needs `cargo xtask image` and the boot image of `cargo xtask test`
    Planes,
    /// TCP and 500 peers through our data plane, gotatun, boringtun-cli and wireguard-go; in a virtual machine the kernel's
    Tunnel,
}

/// What a bench needs.
struct Recipe {
    name: &'static str,
    /// The crate, and its `[[bench]]`.
    of: (&'static str, &'static str),
    /// Our programs that it runs (`LEASEBOOT_BIN_DIR` names their folder).
    programs: &'static [Program],
    /// Packages to be installed.
    installed: &'static [&'static str],
    /// Packages to be unpacked below `LEASEBOOT_PEERS`: servers that installing would start, or that exclude each other.
    unpacked: &'static [&'static str],
    /// Crates of peers and their versions, to be installed below `LEASEBOOT_PEER_CRATES`.
    crates: &'static [(&'static str, &'static str)],
    /// Whether it boots virtual machines: then the laboratory's packages and the stage-1 image are made as well.
    laboratory: bool,
}

/// One of our programs.
enum Program {
    /// Of the crate of this name.
    Shipped(&'static str),
    /// An example of a crate.
    Example(&'static str, &'static str),
}

const MANAGERS: &[Program] = &[Program::Shipped("leaseboot-lm"), Program::Shipped("leaseboot-po")];

impl Recipe {
    /// A bench of a crate that needs nothing.
    fn of(package: &'static str, name: &'static str) -> Self {
        Self {
            name,
            of: (package, name),
            programs: &[],
            installed: &[],
            unpacked: &[],
            crates: &[],
            laboratory: false,
        }
    }
}

impl Which {
    fn recipe(self) -> Recipe {
        match self {
            Which::Boot => Recipe {
                programs: MANAGERS,
                installed: &["dnsmasq-base", "iproute2", "kea-admin", "kea-common"],
                unpacked: &["atftpd", "kea-dhcp4-server", "nginx", "tftpd-hpa"],
                ..Recipe::of("leaseboot-tests", "boot")
            },
            Which::Fleet => Recipe {
                programs: MANAGERS,
                installed: &["iproute2", "postgresql"],
                ..Recipe::of("leaseboot-tests", "fleet")
            },
            Which::Merge => Recipe::of("leaseboot-lm", "merge"),
            Which::Paths => Recipe {
                programs: MANAGERS,
                unpacked: &["debian-installer-12-netboot-amd64"],
                laboratory: true,
                ..Recipe::of("leaseboot-tests", "paths")
            },
            Which::Planes => Recipe {
                programs: MANAGERS,
                installed: &["zstd"],
                laboratory: true,
                ..Recipe::of("leaseboot-tests", "planes")
            },
            Which::Tunnel => Recipe {
                programs: &[
                    Program::Example("leaseboot-tunnel", "plane"),
                    Program::Example("leaseboot-tunnel", "swarm"),
                ],
                installed: &[
                    "busybox-static",
                    "iperf3",
                    "iproute2",
                    "iputils-ping",
                    "qemu-system-x86",
                    "wireguard-go",
                    "wireguard-tools",
                ],
                crates: &[("boringtun-cli", "0.7.1"), ("gotatun-cli", "0.10.2")],
                ..Recipe::of("leaseboot-tests", "tunnel")
            },
            Which::Search => Recipe::of("leaseboot-lm", "search"),
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
        if recipe.laboratory {
            prepare::packages(&Folders::find()?)?;
            prepare::image()?;
        }
        let peers = unpack(&workspace, &folder, recipe.unpacked)?;
        let programs = folder.join("programs");
        build_programs(recipe.programs, &workspace, &programs)?;
        let crates = install(recipe.crates, &workspace)?;
        let variables = [
            ("LEASEBOOT_BIN_DIR", &programs),
            ("LEASEBOOT_PEERS", &peers),
            ("LEASEBOOT_PEER_CRATES", &crates),
        ];
        let report = Report::new(recipe.name, &measure(&recipe, &self.parts, &variables)?);
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
        let files = Package::candidate(&Lists::default(), name)?.unpacked(workspace, |_| Ok(()))?;
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

fn build_programs(wanted: &[Program], workspace: &Workspace, programs: &Path) -> Result<()> {
    std::fs::create_dir_all(programs).with_context(|| format!("cannot make {}", programs.display()))?;
    let target = workspace.root().join("target");
    for program in wanted {
        let mut build = cargo();
        let from = match program {
            Program::Shipped(name) => {
                optimised(build.args(["build", "-p", name]));
                target.join("debug").join(name)
            }
            // Few dependencies, so they can be compiled as they are shipped, which is how the peers are.
            Program::Example(package, name) => {
                build.args(["build", "--release", "-p", package, "--example", name]);
                target.join("release/examples").join(name)
            }
        };
        prepare::run(&mut build)?;
        let to = programs.join(from.file_name().context("a program has no name")?);
        // A running program cannot be written over, but it can be replaced.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// Gives the folder of the installed crates' programs. They are built as their authors ship them; cargo does nothing for a version that is there.
fn install(crates: &[(&str, &str)], workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.root().join("target/cache/peer-crates");
    for (name, version) in crates {
        let mut command = cargo();
        command
            .args(["install", "--quiet", "--locked", "--version", version, name])
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("target"));
        prepare::run(&mut command)?;
    }
    Ok(root.join("bin"))
}

fn measure(recipe: &Recipe, parts: &[String], variables: &[(&str, &PathBuf)]) -> Result<Vec<Measurement>> {
    let (package, bench) = recipe.of;
    let mut command = cargo();
    command
        .args(["bench", "--profile", "dev", "-p", package, "--bench", bench, "--"])
        .args(parts)
        .stdout(Stdio::piped());
    let mut child = optimised(&mut command)
        .envs(variables.iter().copied())
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
