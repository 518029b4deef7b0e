//! What the host needs: Debian packages, installed when they are missing, and said aloud.
//!
//! Only tools that must run on the host are installed. What merely ends up in the image (kernel, GRUB's and iPXE's binaries)
//! is downloaded and unpacked by [`crate::debian`] and leaves the host as it was.

use crate::process::{self, ProcessError};
use std::process::Command;

/// Packages that are needed are not there and cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Not a Debian system.
    #[error(
        "the tools of the Debian packages {packages} are needed, and this system has no dpkg: install them by hand on \
         Debian 12, or run this in a Debian 12 container"
    )]
    NotDebian {
        /// The packages, separated by spaces.
        packages: String,
        /// What starting dpkg-query gave.
        source: ProcessError,
    },
    /// Only root installs packages.
    #[error(
        "missing Debian packages, and only root may install them: run `apt-get install {packages}` as root, then try again"
    )]
    NotRoot {
        /// The missing packages, separated by spaces.
        packages: String,
    },
    /// apt-get failed.
    #[error(
        "cannot install the Debian packages {packages}: see what apt-get says, put its sources in order, then try again"
    )]
    Install {
        /// The missing packages, separated by spaces.
        packages: String,
        /// What apt-get said.
        source: ProcessError,
    },
}

/// Makes sure that the packages are installed; installs what is missing and prints one line that names it.
///
/// # Errors
/// [`HostError`], with the command that would help.
pub fn ensure(packages: &[&str]) -> Result<(), HostError> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !is_root() {
        return Err(HostError::NotRoot { packages: names });
    }
    println!("host: installing the Debian packages {names}");
    let failed = |source| HostError::Install {
        packages: names.clone(),
        source,
    };
    if process::output(&mut install(&missing)).is_ok() {
        return Ok(());
    }
    // The usual reason of a first failure: package lists that are absent or older than the archive.
    update().map_err(failed)?;
    process::output(&mut install(&missing)).map_err(failed)?;
    Ok(())
}

/// Brings apt's package lists up to date.
///
/// # Errors
/// [`ProcessError`] with what apt-get said.
pub fn update() -> Result<(), ProcessError> {
    process::output(Command::new("apt-get").args(["update", "-qq"])).map(drop)
}

/// Whether we may install packages and make namespaces.
pub fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>, HostError> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]);
    // With patterns, dpkg-query fails as soon as one name is unknown; without, it lists all that are known.
    let known = process::output(&mut query).map_err(|source| HostError::NotDebian {
        packages: packages.join(" "),
        source,
    })?;
    Ok(not_installed(&known, packages))
}

fn not_installed<'a>(known: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &&str| {
        known
            .lines()
            .any(|line| line.split_once(' ') == Some((package, "installed")))
    };
    packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect()
}

fn install(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_installed_from_removed_and_unknown() {
        let known = "kmod installed\nzstd config-files\ncpio not-installed\nkmod-extra installed\n";
        assert_eq!(
            not_installed(known, &["kmod", "zstd", "cpio", "absent"]),
            ["zstd", "cpio", "absent"]
        );
    }
}
