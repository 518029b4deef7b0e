//! `cargo xtask dist`: Debian packages of the two managers, in `target/dist/`.
//!
//! ```text
//! target/dist/<name>.deb       the package
//! target/dist/<name>/          what goes into it beside the unit: program, manual pages, completions
//! target/tools/                cargo-deb, where none was given
//! ```
//!
//! What is in a package stands in `[package.metadata.deb]` of its crate, in cargo-deb's words. Manual pages and completions come from the
//! program itself. A package gets into the folder only if [`check`] finds no fault with it, so what lies there can be handed out.

mod check;

use crate::prepare::{self, cargo, run};
use anyhow::{Context as _, Result};
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

/// Make Debian packages of the managers in target/dist/.
#[derive(Args, Default)]
pub(crate) struct Dist {
    /// Package the programs of this folder instead of building them, and compress less: for trying the packaging
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Use the cargo-deb in this folder instead of installing one
    #[arg(long, value_name = "DIR")]
    cargo_deb: Option<PathBuf>,
}

impl Dist {
    /// Of programs that were built for something else.
    pub(crate) fn of(programs: PathBuf) -> Self {
        Self {
            programs: Some(programs),
            ..Self::default()
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        prepare::require_root("dist")?;
        host_packages::ensure(&check::HOST_PACKAGES).context("cannot prepare this host")?;
        let workspace = Workspace::of_this_crate();
        let target = workspace.root().join("target");
        let tool = match &self.cargo_deb {
            Some(folder) => folder.join("cargo-deb"),
            None => cargo_deb(&target)?,
        };
        let programs = match &self.programs {
            Some(folder) => folder.clone(),
            None => {
                let packages = PROGRAMS.iter().flat_map(|name| ["-p", name]);
                run(cargo().args(["build", "--release"]).args(packages))?;
                target.join("release")
            }
        };
        for name in PROGRAMS {
            let parts = target.join("dist").join(name);
            gather(&programs.join(name), name, &parts)?;
            let file = format!("{name}.deb");
            let (made, package) = (parts.join(&file), target.join("dist").join(&file));
            let mut pack = Command::new(&tool);
            // Quiet: every part below target/ that cargo-deb has not built itself is a warning.
            pack.args(["--quiet", "--no-build", "-p", name, "--output"])
                .arg(&made)
                .current_dir(workspace.root());
            if self.programs.is_some() {
                pack.arg("--fast");
            }
            run(&mut pack)?;
            check::package(name, &made, &parts, &target.join("dist"))
                .with_context(|| format!("{} is not good", made.display()))?;
            std::fs::rename(&made, &package)
                .with_context(|| format!("cannot put in place {}", package.display()))?;
            println!("dist: {} is complete", package.display());
        }
        Ok(())
    }
}

/// cargo-deb of the version that we know, made once. It is built to be there soon, not to be fast, and compresses by the program `xz`.
fn cargo_deb(target: &Path) -> Result<PathBuf> {
    let root = target.join("tools");
    let tool = root.join("bin/cargo-deb");
    if !tool.exists() {
        println!("dist: installing cargo-deb {CARGO_DEB} into {}", root.display());
        run(cargo()
            .args([
                "install",
                "cargo-deb",
                "--version",
                CARGO_DEB,
                "--quiet",
                "--locked",
            ])
            .args(["--profile", "dev", "--no-default-features", "--root"])
            .arg(&root))?;
    }
    Ok(tool)
}

/// The program, and what it says about itself.
fn gather(program: &Path, name: &str, parts: &Path) -> Result<()> {
    if parts.exists() {
        // A page of a command that is no more must not go into a package.
        std::fs::remove_dir_all(parts).with_context(|| format!("cannot empty {}", parts.display()))?;
    }
    std::fs::create_dir_all(parts).with_context(|| format!("cannot make {}", parts.display()))?;
    let copy = parts.join(name);
    std::fs::copy(program, &copy)
        .with_context(|| format!("cannot copy {} to {}", program.display(), copy.display()))?;
    // cargo-deb strips only what it has built itself.
    run(Command::new("strip").arg(&copy))?;
    run(Command::new(&copy).arg("man").arg(parts.join("man")))?;
    for (shell, before, after) in SHELLS {
        let path = parts.join(format!("{before}{name}{after}"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        run(Command::new(&copy).args(["completions", shell]).stdout(file))?;
    }
    Ok(())
}
