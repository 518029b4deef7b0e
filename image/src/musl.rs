//! Static binaries (musl): for stage 1, where there is no libc, and for installed systems, whatever theirs is.
//!
//! Two ways, tried in this order:
//!
//! 1. **rustup** has the target `x86_64-unknown-linux-musl`, or gets it within [`TARGET_LIMIT`].
//! 2. **Debian's own compiler** (`rustc-web`) builds the standard library from Debian's source package. It comes without a
//!    musl target, so it needs help: linking is left to `musl-gcc`, and `libunwind.a` is gcc's unwinder plus the one symbol
//!    which that expects of glibc (`_dl_find_object`; -1 means "look it up the old way").
//!
//! The outer cargo's variables (`RUSTC`, `RUSTFLAGS`, `LD_LIBRARY_PATH` …) are cleared: they belong to another build. Paths
//! are remapped, so that a binary does not depend on where the work tree lies. Each way has its own target folder.

use crate::host_packages;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The target triple.
pub const TARGET: &str = "x86_64-unknown-linux-musl";
/// Cargo's profile for small binaries, in the workspace's Cargo.toml.
const PROFILE: &str = "agent";
/// How long `rustup target add` may take: some 40 MB.
const TARGET_LIMIT: Duration = Duration::from_secs(90);
/// What Debian's way needs.
const DEBIAN_PACKAGES: [&str; 6] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "musl-tools",
    "gcc",
    "binutils",
];

/// Which way to a static binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's toolchain with its musl target.
    Rustup,
    /// Debian's `rustc-web`, which builds the standard library first.
    Debian,
}

/// A static binary could not be built.
#[derive(Debug, thiserror::Error)]
pub enum MuslError {
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
    pub fn find() -> Self {
        if has_target() {
            return Self::Rustup;
        }
        if process::output(Command::new("rustup").arg("--version")).is_err() {
            return Self::Debian;
        }
        println!("musl: asking rustup for the target {TARGET}");
        let mut add = process::bounded(TARGET_LIMIT, "rustup");
        let added = process::output(add.args(["target", "add", TARGET]).env_remove("LD_LIBRARY_PATH"));
        if added.is_ok() && has_target() {
            return Self::Rustup;
        }
        println!(
            "musl: rustup cannot provide it; Debian's compiler will build the standard library from source"
        );
        Self::Debian
    }

    /// Builds a package's binary of the same name and gives its path. `target` is cargo's target folder.
    ///
    /// # Errors
    /// [`MuslError`]; cargo shows its own messages.
    pub fn build(self, workspace: &Workspace, target: &Path, package: &str) -> Result<PathBuf, MuslError> {
        let target = target.join(self.name());
        let mut cargo = self.cargo(workspace, &target)?;
        cargo.args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            PROFILE,
            "--target",
            TARGET,
            "--package",
            package,
        ]);
        if self == Self::Debian {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        process::run_shown(cargo.arg("--target-dir").arg(&target)).map_err(|source| MuslError::Build {
            package: package.to_owned(),
            source,
        })?;
        Ok(target.join(TARGET).join(PROFILE).join(package))
    }

    /// The compiler's name and version: it decides the bytes, so the manifest names it.
    ///
    /// # Errors
    /// When the compiler does not start.
    pub fn version(self) -> Result<String, ProcessError> {
        let mut rustc = Command::new(if self == Self::Debian {
            "/usr/bin/rustc"
        } else {
            "rustc"
        });
        clear_outer_build(&mut rustc);
        Ok(process::output(rustc.arg("--version"))?.trim().to_owned())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    fn cargo(self, workspace: &Workspace, target: &Path) -> Result<Command, MuslError> {
        let needed: &[&str] = if self == Self::Debian {
            &DEBIAN_PACKAGES
        } else {
            &["musl-tools"]
        };
        let own_musl =
            self == Self::Rustup && process::output(Command::new("musl-gcc").arg("--version")).is_ok();
        if !own_musl {
            host_packages::ensure(needed).map_err(MuslError::Host)?;
        }
        let mut cargo = Command::new(if self == Self::Debian {
            "/usr/bin/cargo"
        } else {
            "cargo"
        });
        clear_outer_build(&mut cargo);
        let mut flags = remapped_paths(workspace);
        if self == Self::Debian {
            let unwind = unwind_library(target)?;
            flags.extend(
                [
                    "-Clink-self-contained=no",
                    "-Clinker=musl-gcc",
                    "-Crelocation-model=static",
                ]
                .map(Into::into),
            );
            flags.push("-Ctarget-feature=+crt-static".into());
            flags.push(format!("-L{}", unwind.display()));
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
            .current_dir(workspace.root())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("CC_x86_64_unknown_linux_musl", "musl-gcc");
        Ok(cargo)
    }
}

fn has_target() -> bool {
    let mut list = Command::new("rustup");
    let installed = process::output(
        list.args(["target", "list", "--installed"])
            .env_remove("LD_LIBRARY_PATH"),
    );
    installed.is_ok_and(|targets| targets.lines().any(|line| line == TARGET))
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

/// Makes the folder with the `libunwind.a` that Debian's compiler has not got.
fn unwind_library(target: &Path) -> Result<PathBuf, MuslError> {
    const STUB: &str = "int _dl_find_object(void *address, void *result)\n\
                        { (void)address; (void)result; return -1; }\n";
    let folder = target.join("unwind");
    let library = folder.join("libunwind.a");
    if library.exists() {
        return Ok(folder);
    }
    let make = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        std::fs::create_dir_all(&folder)?;
        let (source, object) = (folder.join("stub.c"), folder.join("stub.o"));
        let unfinished = folder.join("libunwind.a.new");
        std::fs::write(&source, STUB)?;
        process::output(
            Command::new("musl-gcc")
                .args(["-O2", "-c", "-o"])
                .args([&object, &source]),
        )?;
        let of_gcc = process::output(Command::new("gcc").arg("-print-file-name=libgcc_eh.a"))?;
        std::fs::copy(of_gcc.trim(), &unfinished)?;
        // D: no times and owners; r: add; s: with an index.
        process::output(Command::new("ar").arg("rDs").args([&unfinished, &object]))?;
        Ok(std::fs::rename(&unfinished, &library)?)
    };
    make().map_err(|source| MuslError::Unwind {
        folder: folder.clone(),
        source,
    })?;
    Ok(folder)
}
