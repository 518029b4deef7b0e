//! `cargo xtask dist`: Debian packages of the two managers, in `target/dist/`.
//!
//! What is in a package stands in `[package.metadata.deb]` of its crate, in cargo-deb's words; cargo-deb is installed below `target/`
//! where it is missing. Manual pages and completions come from the program itself. What was made is then looked at by Debian's
//! own tools, with the programs run as unpacked.

use crate::prepare::{self, cargo, run};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use leaseboot_image::{Workspace, host_packages};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const CARGO_DEB: &str = "3.8.0";
/// Each manager's crate, which is also its program's name.
const PROGRAMS: [&str; 2] = ["leaseboot-lm", "leaseboot-po"];
/// The shells, with the name of the file that each looks for.
const SHELLS: [(&str, &str, &str); 3] = [("bash", "", ".bash"), ("zsh", "_", ""), ("fish", "", ".fish")];
/// What Debian asks of packages in its own archive: a mail address, and a bug to close.
const NOT_FOR_US: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs,description-synopsis-starts-with-article";
const CHECKERS: [&str; 3] = ["lintian", "dpkg-dev", "systemd"];

/// Make Debian packages of the managers in target/dist/.
#[derive(Args)]
pub(crate) struct Dist {
    /// Package the programs of the debug build: quick, for trying the packaging
    #[arg(long)]
    debug: bool,
    /// Use the cargo-deb in this folder instead of installing one
    #[arg(long, value_name = "DIR")]
    cargo_deb: Option<PathBuf>,
}

impl Dist {
    pub(crate) fn run(self) -> Result<()> {
        prepare::require_root("dist")?;
        host_packages::ensure(&CHECKERS).context("cannot prepare this host")?;
        let workspace = Workspace::of_this_crate();
        let target = workspace.root().join("target");
        let output = target.join("dist");
        let tool = match &self.cargo_deb {
            Some(folder) => folder.join("cargo-deb"),
            None => cargo_deb(&target)?,
        };
        let profile = if self.debug { "dev" } else { "release" };
        let programs = target.join(if self.debug { "debug" } else { "release" });
        run(cargo()
            .args(["build", "--profile", profile])
            .args(PROGRAMS.iter().flat_map(|name| ["-p", name])))?;
        for name in PROGRAMS {
            documents(&programs.join(name), &output.join(name))?;
            let package = output.join(format!("{name}.deb"));
            run(Command::new(&tool)
                .args(["-p", name, "--no-build", "--profile", profile, "--output"])
                .arg(&package)
                .current_dir(workspace.root()))?;
            check(name, &package, &output.join(name))?;
            println!("dist: {} is complete", package.display());
        }
        Ok(())
    }
}

/// cargo-deb of the version that we know, made once.
fn cargo_deb(target: &Path) -> Result<PathBuf> {
    let root = target.join("tools");
    let tool = root.join("bin/cargo-deb");
    if !tool.exists() {
        println!("dist: installing cargo-deb {CARGO_DEB} into {}", root.display());
        run(cargo()
            .args([
                "install",
                "--quiet",
                "--locked",
                "cargo-deb",
                "--version",
                CARGO_DEB,
                "--root",
            ])
            .arg(&root))?;
    }
    Ok(tool)
}

/// Manual pages and completions, by the program's own word.
fn documents(program: &Path, folder: &Path) -> Result<()> {
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    run(Command::new(program).arg("man").arg(folder.join("man")))?;
    for (shell, before, after) in SHELLS {
        let path = folder.join(format!("{before}{name}{after}"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        run(Command::new(program).args(["completions", shell]).stdout(file))?;
    }
    Ok(())
}

/// What Debian's tools say of a package, and whether its program runs and its unit is understood.
fn check(name: &str, package: &Path, scratch: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("--info").arg(package))?;
    let unpacked = scratch.join("unpacked");
    if unpacked.exists() {
        std::fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))?;
    }
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .args([package, &unpacked]))?;
    run(Command::new(unpacked.join("usr/bin").join(name)).arg("--version"))?;
    let unit = [
        format!("lib/systemd/system/{name}.service"),
        format!("usr/lib/systemd/system/{name}.service"),
    ]
    .map(|place| unpacked.join(place))
    .into_iter()
    .find(|unit| unit.exists());
    let unit = unit.with_context(|| format!("{} has no unit of systemd", package.display()))?;
    // With a root, the program that the unit names is looked for in the package.
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(format!("--root={}", unpacked.display()))
        .arg(
            unit.strip_prefix(&unpacked)
                .map(|unit| Path::new("/").join(unit))?,
        )
        .output()
        .context("cannot run systemd-analyze")?;
    let said = String::from_utf8_lossy(&verify.stderr);
    ensure!(
        verify.status.success() && !said.contains(name),
        "systemd-analyze finds fault with {}: {said}",
        unit.display()
    );
    run(Command::new("lintian")
        .args([
            "--fail-on",
            "error",
            "--allow-root",
            "--suppress-tags",
            NOT_FOR_US,
        ])
        .arg(package))
}
