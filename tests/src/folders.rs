//! Where the laboratory finds what it needs and leaves what it made.
//!
//! ```text
//! target/debug/                 the programs                  (or LEASEBOOT_BIN_DIR)
//! target/image/                 the lender's boot files       (or LEASEBOOT_IMAGE_DIR)
//! target/lab/assets/            the enterprise's packages and boot image (or LEASEBOOT_LAB_ASSETS)
//! target/lab/<scenario>/        logs, serial lines, captures and settings of the latest run
//! target/cache/                 downloads
//! ```

use anyhow::{Context as _, Result, ensure};
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
    pub fn scenario(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join("target/lab").join(name);
        empty_folder(&folder)?;
        Ok(folder)
    }
}

/// Makes `folder`, without whatever it had.
pub fn empty_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
