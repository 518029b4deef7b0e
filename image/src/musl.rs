//! Static binaries (musl): for stage 1, where there is no libc, and for installed systems, whatever theirs is.
//!
//! Two ways, tried in this order:
//!
//! 1. **rustup** has the target `x86_64-unknown-linux-musl`, or gets it within [`TARGET_LIMIT`].
//! 2. **Debian's own compiler** (`rustc-web`) builds the standard library from Debian's source package. It comes without a
//!    musl target, so it needs help: linking is left to a C compiler that knows musl, and `libunwind.a` is made of gcc's (see [`crate::c_tools`]).
//!
//! For aarch64 there is only the second: rustup's target would spare the standard library, but the C in the dependencies needs a cross compiler with musl
//! all the same, and then Debian's compiler gives everything from one archive (docs/decisions/0051-arm64-by-debians-compiler.md).
//!
//! The outer cargo's variables (`RUSTC`, `RUSTFLAGS`, `LD_LIBRARY_PATH` …) are cleared: they belong to another build. Paths
//! are remapped, so that a binary does not depend on where the work tree lies. Each way has its own target folder.

use crate::c_tools::{self, CTools};
use crate::error::ImageError;
use crate::host_packages;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;
use leaseboot_protocol::architecture::Architecture;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Cargo's profile for small binaries, in the workspace's Cargo.toml.
const PROFILE: &str = "agent";
/// How long `rustup target add` may take: some 40 MB.
const TARGET_LIMIT: Duration = Duration::from_secs(90);
/// What Debian's way needs beside the C compiler.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The target triple of an architecture.
fn triple(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64-unknown-linux-musl",
        Architecture::Aarch64 => "aarch64-unknown-linux-musl",
    }
}

/// Which way to a static binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's toolchain with its musl target.
    Rustup,
    /// Debian's `rustc-web`, which builds the standard library first.
    Debian,
}

/// A way to static binaries of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toolchain {
    architecture: Architecture,
    compiler: Compiler,
}

/// A static binary could not be built.
#[derive(Debug, thiserror::Error)]
pub enum MuslError {
    /// rustup's way is not there for every architecture.
    #[error(
        "static binaries for {architecture} are built by Debian's compiler only: leave the choice to the program"
    )]
    NotByRustup {
        /// The architecture.
        architecture: Architecture,
    },
    /// The C library for another architecture cannot be had.
    #[error("cannot prepare musl for {architecture}")]
    Library {
        /// The architecture.
        architecture: Architecture,
        /// What went wrong.
        source: Box<ImageError>,
    },
    /// Packages are missing.
    #[error("cannot prepare the compiler for static binaries")]
    Host(#[source] host_packages::HostError),
    /// The stand-in for libunwind could not be made.
    #[error("cannot make libunwind.a for Debian's compiler in {folder}")]
    Unwind {
        /// Where it was to be.
        folder: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The compiler failed; its messages have been shown.
    #[error("cannot build the static binary {package}: see the compiler's messages above")]
    Build {
        /// The cargo package.
        package: String,
        /// How cargo ended.
        source: ProcessError,
    },
}

impl Compiler {
    /// The first way that works here.
    fn find(architecture: Architecture) -> Self {
        if architecture != Architecture::X86_64 {
            return Self::Debian;
        }
        let target = triple(architecture);
        if has_target(target) {
            return Self::Rustup;
        }
        if process::output(Command::new("rustup").arg("--version")).is_err() {
            return Self::Debian;
        }
        println!("musl: asking rustup for the target {target}");
        let mut add = process::bounded(TARGET_LIMIT, "rustup");
        let added = process::output(add.args(["target", "add", target]).env_remove("LD_LIBRARY_PATH"));
        if added.is_ok() && has_target(target) {
            return Self::Rustup;
        }
        println!(
            "musl: rustup cannot provide it; Debian's compiler will build the standard library from source"
        );
        Self::Debian
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }
}

impl Toolchain {
    /// The first way that works here.
    pub fn find(architecture: Architecture) -> Self {
        Self {
            architecture,
            compiler: Compiler::find(architecture),
        }
    }

    /// A certain way.
    ///
    /// # Errors
    /// [`MuslError::NotByRustup`].
    pub fn with(architecture: Architecture, compiler: Compiler) -> Result<Self, MuslError> {
        match (architecture, compiler) {
            (Architecture::Aarch64, Compiler::Rustup) => Err(MuslError::NotByRustup { architecture }),
            _ => Ok(Self {
                architecture,
                compiler,
            }),
        }
    }

    /// What it builds for.
    pub fn architecture(self) -> Architecture {
        self.architecture
    }

    /// Builds a package's binary of the same name and gives its path. `target` is cargo's target folder.
    ///
    /// # Errors
    /// [`MuslError`]; cargo shows its own messages.
    pub fn build(self, workspace: &Workspace, target: &Path, package: &str) -> Result<PathBuf, MuslError> {
        let target = target.join(self.compiler.name());
        let triple = triple(self.architecture);
        let mut cargo = self.cargo(workspace, &target)?;
        cargo.args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            PROFILE,
            "--target",
            triple,
            "--package",
            package,
        ]);
        if self.compiler == Compiler::Debian {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        process::run_shown(cargo.arg("--target-dir").arg(&target)).map_err(|source| MuslError::Build {
            package: package.to_owned(),
            source,
        })?;
        Ok(target.join(triple).join(PROFILE).join(package))
    }

    /// The compiler's name and version: it decides the bytes, so the manifest names it.
    ///
    /// # Errors
    /// When the compiler does not start.
    pub fn version(self) -> Result<String, ProcessError> {
        let mut rustc = Command::new(self.program("rustc"));
        clear_outer_build(&mut rustc);
        Ok(process::output(rustc.arg("--version"))?.trim().to_owned())
    }

    /// Debian's program, or the one that rustup put in the way.
    fn program(self, name: &str) -> PathBuf {
        match self.compiler {
            Compiler::Debian => Path::new("/usr/bin").join(name),
            Compiler::Rustup => name.into(),
        }
    }

    fn cargo(self, workspace: &Workspace, target: &Path) -> Result<Command, MuslError> {
        self.ensure_packages()?;
        let own = target.join(triple(self.architecture)).join("c");
        let c = CTools::prepare(workspace, self.architecture, &own)?;
        let mut cargo = Command::new(self.program("cargo"));
        clear_outer_build(&mut cargo);
        let mut flags = remapped_paths(workspace);
        if self.compiler == Compiler::Debian {
            let unwind = c.unwind_library(&own)?;
            flags.extend(["-Clink-self-contained=no", "-Crelocation-model=static"].map(Into::into));
            flags.push(format!("-Clinker={}", c.cc.display()));
            flags.push("-Ctarget-feature=+crt-static".into());
            flags.push(format!("-L{}", unwind.display()));
            cargo
                .env("RUSTC", self.program("rustc"))
                .env("RUSTC_BOOTSTRAP", "1");
        }
        let variable = |tool: &str| format!("{tool}_{}", triple(self.architecture).replace('-', "_"));
        cargo
            .current_dir(workspace.root())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env(variable("CC"), &c.cc)
            .env(variable("AR"), c.ar);
        Ok(cargo)
    }

    fn ensure_packages(self) -> Result<(), MuslError> {
        let of_c = c_tools::packages(self.architecture);
        let needed = match self.compiler {
            // A musl-gcc that was not Debian's would do as well.
            Compiler::Rustup if process::output(Command::new("musl-gcc").arg("--version")).is_ok() => {
                return Ok(());
            }
            Compiler::Rustup => of_c.to_vec(),
            Compiler::Debian => [&DEBIAN_PACKAGES, of_c].concat(),
        };
        host_packages::ensure(&needed).map_err(MuslError::Host)
    }
}

fn has_target(target: &str) -> bool {
    let mut list = Command::new("rustup");
    let installed = process::output(
        list.args(["target", "list", "--installed"])
            .env_remove("LD_LIBRARY_PATH"),
    );
    installed.is_ok_and(|targets| targets.lines().any(|line| line == target))
}

/// Takes away what a surrounding `cargo run` or `cargo test` set for itself; keeps where cargo and rustup have their files,
/// which toolchain was chosen, and how the network is reached.
fn clear_outer_build(command: &mut Command) {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        let of_rustc = name.starts_with("RUST") && !name.starts_with("RUSTUP_");
        if of_cargo || of_rustc || name == "LD_LIBRARY_PATH" {
            command.env_remove(&*name);
        }
    }
}

fn remapped_paths(workspace: &Workspace) -> Vec<String> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    vec![
        remap(workspace.root(), "/leaseboot"),
        remap(&cargo_home, "/cargo"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_without_a_ready_library_is_left_to_debians_compiler() {
        let arm = Architecture::Aarch64;
        assert_eq!(Toolchain::find(arm).compiler, Compiler::Debian);
        let refused = Toolchain::with(arm, Compiler::Rustup).unwrap_err().to_string();
        assert!(refused.contains("aarch64"), "{refused}");
    }
}
