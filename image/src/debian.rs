//! Debian packages as raw material: downloaded and unpacked into `target/cache/packages/`, never installed.
//!
//! The folder's name carries package and version, so what it holds never changes and needs no check for freshness; it
//! appears by rename once it is complete. apt checks the archive's signatures and digests.
//!
//! Packages of another architecture come by the host's own sources and keys, but with lists in `target/cache/apt-<architecture>/`: the host's dpkg
//! need not know that architecture, and does not learn of it.

use crate::error::{ImageError, IoContext as _};
use crate::host_packages;
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;
use leaseboot_protocol::architecture::Architecture;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whose packages apt speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Debian's name of the architecture and what apt is told, where it is not the host's.
    foreign: Option<(&'static str, Vec<String>)>,
}

impl Lists {
    /// Those of an architecture. x86-64 is taken for the host's.
    ///
    /// # Errors
    /// [`ImageError::Io`] when there is no room for lists.
    pub fn of(workspace: &Workspace, architecture: Architecture) -> Result<Self, ImageError> {
        let name = match architecture {
            Architecture::X86_64 => return Ok(Self::default()),
            Architecture::Aarch64 => "arm64",
        };
        let folder = workspace.cache(&format!("apt-{architecture}"))?;
        for place in ["lists/partial", "archives/partial"] {
            workspace.cache(&format!("apt-{architecture}/{place}"))?;
        }
        let below = |place: &str| folder.join(place).display().to_string();
        let options = vec![
            format!("APT::Architecture={name}"),
            format!("APT::Architectures={name}"),
            format!("Dir::State::lists={}", below("lists")),
            format!("Dir::Cache={}", folder.display()),
            // Nothing is installed there.
            "Dir::State::status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Self {
            foreign: Some((name, options)),
        })
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let options = self.foreign.iter().flat_map(|(_, options)| options);
        command.args(options.flat_map(|option| ["-o", option]));
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    fn update(&self) -> Result<(), ProcessError> {
        match &self.foreign {
            None => host_packages::update(),
            Some(_) => process::output(self.apt("apt-get").args(["update", "-qq"])).map(drop),
        }
    }
}

/// A package in the version that apt would install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name, such as `linux-image-6.1.0-56-amd64`.
    pub name: String,
    /// Its version, such as `6.1.192-2`.
    pub version: String,
    depends: Vec<String>,
    lists: Lists,
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
    pub fn candidate(lists: &Lists, name: &str) -> Result<Self, ImageError> {
        if let Some(package) = Self::look_up(lists, name) {
            return Ok(package);
        }
        match &lists.foreign {
            None => println!("host: bringing apt's package lists up to date"),
            Some((architecture, _)) => println!("packages: fetching the lists of Debian's {architecture}"),
        }
        lists.update()?;
        Self::look_up(lists, name).ok_or_else(|| {
            PackageError::Unknown {
                name: name.to_owned(),
            }
            .into()
        })
    }

    fn look_up(lists: &Lists, name: &str) -> Option<Self> {
        let record =
            process::output(lists.apt("apt-cache").args(["show", "--no-all-versions", name])).ok()?;
        parse_record(lists, &record)
    }

    /// The dependency whose name begins with `prefix`: what a meta package stands for.
    ///
    /// # Errors
    /// [`PackageError::Dependency`] when there is none.
    pub fn dependency(&self, prefix: &str) -> Result<Self, ImageError> {
        match self.depends.iter().find(|name| name.starts_with(prefix)) {
            Some(name) => Self::candidate(&self.lists, name),
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
        let mut place = format!("{}_{}", self.name, self.version.replace(':', "%3a"));
        if let Some((architecture, _)) = &self.lists.foreign {
            place.extend(["_", *architecture]);
        }
        let folder = cache.join(place);
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
            let mut command = self.lists.apt("apt-get");
            command.args(["--quiet", "download", &wanted]);
            process::output(command.current_dir(folder))
        };
        // Lists that are older than the archive name files that are gone.
        let fetched = fetch().or_else(|_| self.lists.update().and_then(|()| fetch()));
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
fn parse_record(lists: &Lists, record: &str) -> Option<Package> {
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
        lists: lists.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_record() {
        let record = "Package: linux-image-amd64\nVersion: 6.1.192-2\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), kmod\n\n\
                      Package: linux-image-amd64\nVersion: 6.1.176-1\n";
        let package = parse_record(&Lists::default(), record).unwrap();
        assert_eq!(package.version, "6.1.192-2");
        assert_eq!(package.depends, ["linux-image-6.1.0-56-amd64", "kmod"]);
    }

    #[test]
    fn lists_of_another_architecture_are_none_of_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        let lists = Lists::of(&workspace, Architecture::Aarch64).unwrap();
        let command = format!("{:?}", lists.apt("apt-get"));
        let own = format!("Dir::State::lists={}", root.path().display());
        assert!(command.contains(&own), "{command}");
        assert!(command.contains("APT::Architectures=arm64"), "{command}");
        assert_eq!(
            Lists::of(&workspace, Architecture::X86_64).unwrap(),
            Lists::default()
        );
    }

    #[test]
    fn a_virtual_package_has_no_record() {
        assert_eq!(parse_record(&Lists::default(), ""), None);
    }
}
