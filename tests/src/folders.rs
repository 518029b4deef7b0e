//! Where the laboratory finds what it needs and leaves what it made.
//!
//! ```text
//! target/debug/                 the programs                  (or LEASEBOOT_BIN_DIR)
//! target/image/                 the lender's boot files       (or LEASEBOOT_IMAGE_DIR)
//! target/lab/assets/            the enterprise's packages and boot image (or LEASEBOOT_LAB_ASSETS)
//! target/lab/<scenario>/        logs, serial lines, captures and settings of the latest run
//! target/cache/                 downloads
//! ```

use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folders of this checkout.
#[derive(Clone, Debug)]
pub struct Folders {
    root: PathBuf,
    programs: PathBuf,
    image: PathBuf,
    assets: PathBuf,
}

impl Folders {
    /// As the environment says, or the customary places.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the tests have no workspace around them")?
            .to_owned();
        let place = |variable: &str, usual: &str| match std::env::var_os(variable) {
            Some(given) => PathBuf::from(given),
            None => root.join(usual),
        };
        Ok(Self {
            programs: place("LEASEBOOT_BIN_DIR", "target/debug"),
            image: place("LEASEBOOT_IMAGE_DIR", "target/image"),
            assets: place("LEASEBOOT_LAB_ASSETS", "target/lab/assets"),
            root,
        })
    }

    /// The laboratory's own files.
    pub fn sources(&self) -> PathBuf {
        self.root.join("tests")
    }

    /// Downloads that outlive a run.
    pub fn cache(&self) -> PathBuf {
        self.root.join("target/cache")
    }

    /// The lender's boot files with their manifest.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The enterprise's packages and boot image.
    pub fn assets(&self) -> &Path {
        &self.assets
    }

    /// The folder of the programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The program `name`.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        ensure!(
            path.is_file(),
            "there is no {}: build it with `cargo build -p {name}`, or run the scenarios by `cargo xtask test`",
            path.display()
        );
        Ok(path)
    }

    /// An empty folder for the scenario `name`.
    pub fn scenario(&self, name: &str) -> Result<RunFolder> {
        RunFolder::claim(&self.root.join("target/lab"), name)
    }

    /// An empty folder for the demo.
    pub fn demo(&self) -> Result<RunFolder> {
        RunFolder::claim(&self.root.join("target"), "demo")
    }
}

/// The folder of one run, which no other run uses as long as this handle lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Takes `parent/name`, or `parent/name-2` when another run is at work there, and so on; makes it empty.
    fn claim(parent: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        for number in 1..=16 {
            let name = if number == 1 {
                name.to_owned()
            } else {
                format!("{name}-{number}")
            };
            let path = parent.join(&name);
            let lock = parent.join(format!(".{name}.lock"));
            let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            if path.exists() {
                std::fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
            }
            std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
            return Ok(Self { path, _lock: lock });
        }
        bail!("sixteen runs are at work in {}/{name}…", parent.display())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_of_one_scenario_get_folders_of_their_own_and_a_later_one_the_first_again() {
        let parent = tempfile::tempdir().unwrap();
        let one = RunFolder::claim(parent.path(), "transfer").unwrap();
        std::fs::write(one.path().join("log"), "one").unwrap();
        let two = RunFolder::claim(parent.path(), "transfer").unwrap();
        assert!(two.path().ends_with("transfer-2") && one.path().join("log").exists());
        drop(one);
        let three = RunFolder::claim(parent.path(), "transfer").unwrap();
        assert!(three.path().ends_with("transfer") && !three.path().join("log").exists());
    }
}
