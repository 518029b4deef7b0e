//! What Debian's own tools say of a package, and whether it works where it is installed: in a copy of this system that is gone afterwards.

use crate::prepare::run;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// What making and checking a package runs.
pub(super) const HOST_PACKAGES: [&str; 6] = [
    "binutils",
    "dpkg-dev",
    "init-system-helpers",
    "lintian",
    "systemd",
    "util-linux",
];
/// What Debian asks of packages in its own archive: a mail address, and a bug to close.
const NOT_FOR_US: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs";
const INSTALLED: &str = include_str!("installed.sh");

/// Looks at the package `name` in the file `package`; `scratch` is a folder for this.
pub(super) fn package(name: &str, package: &Path, scratch: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("--info").arg(package))?;
    run(Command::new("lintian")
        .args([
            "--allow-root",
            "--fail-on",
            "error,warning",
            "--suppress-tags",
            NOT_FOR_US,
        ])
        .arg(package))?;
    let root = scratch.join("installed");
    std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    // Whatever is mounted is mounted for this process only.
    run(Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--propagation",
            "private",
            "--",
            "sh",
            "-euc",
            INSTALLED,
        ])
        .args(["installed", name, version])
        .args([package, &root]))
}
