//! Where things lie: the work tree, its caches and its output; and the one way in which files get there.

use crate::error::{ImageError, IoContext as _};
use leaseboot_protocol::architecture::Architecture;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The work tree that the image is made from and in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The work tree at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The work tree that this crate was compiled in.
    pub fn of_this_crate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Self::at(root.expect("the crate lies in a folder of the work tree"))
    }

    /// The top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `image/recipe.toml`, or `image/recipe-aarch64.toml`: kernels of different architectures have different drivers.
    pub fn recipe(&self, architecture: Architecture) -> PathBuf {
        let image = self.root.join("image");
        match architecture.folder() {
            None => image.join("recipe.toml"),
            Some(name) => image.join(format!("recipe-{name}.toml")),
        }
    }

    /// The folder of the GRUB and iPXE recipe.
    pub fn grub(&self) -> PathBuf {
        self.root.join("grub")
    }

    /// `target/image/`, or for another architecture a folder in it: the result.
    pub fn output(&self, architecture: Architecture) -> PathBuf {
        architecture.within(&self.root.join("target/image"))
    }

    /// `target/cache/<subject>/`, made when missing: results that depend on nothing but their file name.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the folder cannot be made.
    pub fn cache(&self, subject: &str) -> Result<PathBuf, ImageError> {
        let path = self.root.join("target/cache").join(subject);
        std::fs::create_dir_all(&path).doing("make the folder", &path)?;
        Ok(path)
    }

    /// Cargo's target folder for static binaries: not the usual one, so that two cargos never wait for each other's lock.
    pub fn musl_target(&self) -> PathBuf {
        self.root.join("target/musl")
    }
}

/// Reads a whole file.
///
/// # Errors
/// [`ImageError::Io`] with the path.
pub fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).doing("read", path)
}

/// Reads a whole text file.
///
/// # Errors
/// [`ImageError::Io`] with the path, also when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, ImageError> {
    std::fs::read_to_string(path).doing("read", path)
}

/// Replaces a file by rename, so that nobody ever sees half of it. Makes its folder when missing.
///
/// # Errors
/// [`ImageError::Io`] with the path.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).doing("make the folder", folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).doing("make a temporary file in", folder)?;
    file.write_all(content).doing("write", path)?;
    set_mode(file.path(), 0o644).doing("set the permissions of", path)?;
    file.persist(path)
        .map_err(|error| error.error)
        .doing("replace", path)?;
    Ok(())
}

/// Temporary files are private; results are for everybody.
pub(crate) fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
