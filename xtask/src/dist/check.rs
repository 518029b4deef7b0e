//! What Debian's own tools say of a package, and whether its service starts where it is installed, under the unit's own restrictions: in a copy of
//! this system that is gone afterwards.

use crate::prepare::run;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// What making and checking a package runs.
pub(super) const HOST_PACKAGES: [&str; 9] = [
    "binutils",
    "curl",
    "dpkg-dev",
    "init-system-helpers",
    "iproute2",
    "lintian",
    "systemd",
    "util-linux",
    "xz-utils",
];
/// What Debian asks of packages in its own archive: a mail address, and a bug to close.
const NOT_FOR_US: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs";
const INSTALLED: &str = include_str!("installed.sh");

/// Looks at the package `name` in the file `package`; `parts` is its folder below `dist`.
pub(super) fn package(name: &str, package: &Path, parts: &Path, dist: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("--info").arg(package))?;
    run(Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .args(["--suppress-tags", NOT_FOR_US])
        .arg(package))?;
    let [memory, words] = ["memory", "words"].map(|folder| parts.join(folder));
    for folder in [&memory, &words] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let installed = run(Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--net",
            "--uts",
            "--ipc",
            "--cgroup",
        ])
        // systemd is the first process of a namespace, and ends with this one.
        .args(["--pid", "--fork", "--kill-child", "--", "sh", "-euc", INSTALLED])
        .args(["installed", name, env!("CARGO_PKG_VERSION")])
        .args([package, &memory, &words])
        .arg(dist.join("leaseboot-lm/leaseboot-lm")));
    installed.with_context(|| {
        let said = std::fs::read_to_string(words.join("probe")).unwrap_or_default();
        format!("the service does not start where its package is installed:\n{said}")
    })
}
