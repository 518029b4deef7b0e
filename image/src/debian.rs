//! Debian packages as raw material: downloaded and unpacked into `target/cache/packages/`, never installed.
//!
//! The folder's name carries package and version, so what it holds never changes and needs no check for freshness; it
//! appears by rename once it is complete. apt checks the archive's signatures and digests.

use crate::error::{ImageError, IoContext as _};
use crate::host_packages;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package in the version that apt would install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name, such as `linux-image-6.1.0-56-amd64`.
    pub name: String,
    /// Its version, such as `6.1.192-2`.
    pub version: String,
    depends: Vec<String>,
}

/// A package cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// apt does not know it.
    #[error("apt knows no package {name}: check the name, and that apt's sources have Debian's main archive")]
    Unknown {
        /// The package's name.
        name: String,
    },
    /// It could not be downloaded.
    #[error("cannot download the Debian package {name} {version}: check the network and apt's sources")]
    Download {
        /// The package's name.
        name: String,
        /// The version that apt's lists name.
        version: String,
        /// What apt-get said.
        source: ProcessError,
    },
    /// A meta package does not depend on what it stands for.
    #[error(
        "the Debian package {name} {version} depends on no package whose name begins with {prefix:?}: name another one in the recipe"
    )]
    Dependency {
        /// The meta package.
        name: String,
        /// Its version.
        version: String,
        /// What was looked for.
        prefix: String,
    },
}

impl Package {
    /// The version of `name` that apt would install now.
    ///
    /// # Errors
    /// [`PackageError::Unknown`] when apt does not know the name even with fresh lists.
    pub fn candidate(name: &str) -> Result<Self, ImageError> {
        if let Some(package) = Self::look_up(name) {
            return Ok(package);
        }
        println!("host: bringing apt's package lists up to date");
        host_packages::update()?;
        Self::look_up(name).ok_or_else(|| {
            PackageError::Unknown {
                name: name.to_owned(),
            }
            .into()
        })
    }

    fn look_up(name: &str) -> Option<Self> {
        let record =
            process::output(Command::new("apt-cache").args(["show", "--no-all-versions", name])).ok()?;
        parse_record(&record)
    }

    /// The dependency whose name begins with `prefix`: what a meta package stands for.
    ///
    /// # Errors
    /// [`PackageError::Dependency`] when there is none.
    pub fn dependency(&self, prefix: &str) -> Result<Self, ImageError> {
        match self.depends.iter().find(|name| name.starts_with(prefix)) {
            Some(name) => Self::candidate(name),
            None => Err(PackageError::Dependency {
                name: self.name.clone(),
                version: self.version.clone(),
                prefix: prefix.to_owned(),
            }
            .into()),
        }
    }

    /// The folder with the package's files; downloads and unpacks it the first time. `finish` completes the new folder before
    /// it counts as there.
    ///
    /// # Errors
    /// [`PackageError::Download`], or what unpacking met.
    pub fn unpacked(
        &self,
        workspace: &Workspace,
        finish: impl FnOnce(&Path) -> Result<(), ImageError>,
    ) -> Result<PathBuf, ImageError> {
        let cache = workspace.cache("packages")?;
        let folder = cache.join(format!("{}_{}", self.name, self.version.replace(':', "%3a")));
        if folder.is_dir() {
            return Ok(folder);
        }
        println!("packages: downloading {} {}", self.name, self.version);
        let scratch = tempfile::tempdir_in(&cache).doing("make a temporary folder in", &cache)?;
        let deb = self.download(scratch.path())?;
        let files = scratch.path().join("files");
        process::output(Command::new("dpkg-deb").arg("--extract").args([&deb, &files]))?;
        finish(&files)?;
        match std::fs::rename(&files, &folder) {
            // Another build was faster; its files are the same.
            Err(_) if folder.is_dir() => Ok(folder),
            result => result
                .doing("put in place the package folder", &folder)
                .map(|()| folder),
        }
    }

    fn download(&self, folder: &Path) -> Result<PathBuf, ImageError> {
        let wanted = format!("{}={}", self.name, self.version);
        let fetch = || {
            let mut command = Command::new("apt-get");
            command.args(["-o", "APT::Sandbox::User=root", "--quiet", "download", &wanted]);
            process::output(command.current_dir(folder))
        };
        // Lists that are older than the archive name files that are gone.
        let fetched = fetch().or_else(|_| host_packages::update().and_then(|()| fetch()));
        fetched.map_err(|source| PackageError::Download {
            name: self.name.clone(),
            version: self.version.clone(),
            source,
        })?;
        let entries = std::fs::read_dir(folder).doing("list", folder)?;
        let deb = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"));
        deb.ok_or_else(|| {
            PackageError::Unknown {
                name: self.name.clone(),
            }
            .into()
        })
    }
}

/// Reads the first record of `apt-cache show` (format: deb-control(5)).
fn parse_record(record: &str) -> Option<Package> {
    let record = record.split("\n\n").next()?;
    let field = |name: &str| {
        record
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    let depends = field("Depends").unwrap_or_default();
    let depends = depends
        .split(',')
        .filter_map(|item| item.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    Some(Package {
        name: field("Package")?,
        version: field("Version")?,
        depends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_record() {
        let record = "Package: linux-image-amd64\nVersion: 6.1.192-2\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), kmod\n\n\
                      Package: linux-image-amd64\nVersion: 6.1.176-1\n";
        let package = parse_record(record).unwrap();
        assert_eq!(package.version, "6.1.192-2");
        assert_eq!(package.depends, ["linux-image-6.1.0-56-amd64", "kmod"]);
    }

    #[test]
    fn a_virtual_package_has_no_record() {
        assert_eq!(parse_record(""), None);
    }
}
