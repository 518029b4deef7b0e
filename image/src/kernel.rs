//! Debian's stock kernel: image, modules, and what depmod knows about them.

use crate::debian::{Lists, Package};
use crate::error::{ImageError, IoContext as _};
use crate::modules::{self, ModuleTexts, Selection};
use crate::process;
use crate::recipe::Recipe;
use crate::workspace::{self, Workspace, read, read_text};
use leaseboot_protocol::architecture::Architecture;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The package that it came in.
    pub package: Package,
    /// The release, such as `6.1.0-56-amd64`: the name of its folder below `lib/modules`.
    pub release: String,
    architecture: Architecture,
    folder: PathBuf,
}

impl Kernel {
    /// Fetches the kernel that the recipe names, for an architecture. A meta package is followed to the package that has the files.
    ///
    /// # Errors
    /// When apt has no such package, or it holds no kernel.
    pub fn fetch(
        workspace: &Workspace,
        architecture: Architecture,
        recipe: &Recipe,
    ) -> Result<Self, ImageError> {
        let lists = Lists::of(workspace, architecture)?;
        let named = Package::candidate(&lists, &recipe.kernel_package)?;
        let is_meta = !named
            .name
            .trim_start_matches("linux-image-")
            .starts_with(|first: char| first.is_ascii_digit());
        let package = if is_meta {
            named.dependency("linux-image-")?
        } else {
            named
        };
        let release = package
            .name
            .trim_start_matches("linux-image-")
            .trim_end_matches("-unsigned")
            .to_owned();
        let folder = package.unpacked(workspace, |files| depmod(files, &release))?;
        Ok(Self {
            package,
            release,
            architecture,
            folder,
        })
    }

    /// The kernel itself, as the boot loader takes it. On x86 it unpacks itself; on aarch64 Debian's is not packed at all, 33 MB, and GRUB unpacks what gzip
    /// has packed (its module `gzio`).
    ///
    /// # Errors
    /// When the file cannot be read, or packed.
    pub fn vmlinuz(&self) -> Result<Vec<u8>, ImageError> {
        let file = self.folder.join("boot").join(format!("vmlinuz-{}", self.release));
        match self.architecture {
            Architecture::X86_64 => read(&file),
            Architecture::Aarch64 => gzip(&file),
        }
    }

    /// The modules that the recipe asks for.
    ///
    /// # Errors
    /// When recipe and kernel do not agree.
    pub fn select(&self, recipe: &Recipe) -> Result<Selection, ImageError> {
        let text = |name: &str| read_text(&self.modules().join(name));
        let (dep, alias) = (text("modules.dep")?, text("modules.alias")?);
        let (softdep, builtin) = (text("modules.softdep")?, text("modules.builtin")?);
        let texts = ModuleTexts {
            dep: &dep,
            alias: &alias,
            softdep: &softdep,
            builtin: &builtin,
        };
        Ok(modules::select(texts, recipe)?)
    }

    /// One module's content, signature included: under Secure Boot's lockdown the kernel loads no other.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn module(&self, file: &str) -> Result<Vec<u8>, ImageError> {
        read(&self.modules().join(file))
    }

    fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }
}

/// Packs a file, without its name and time; the result stays beside it, so that a kernel is packed once.
fn gzip(file: &Path) -> Result<Vec<u8>, ImageError> {
    let packed = PathBuf::from(format!("{}.gz", file.display()));
    if !packed.exists() {
        let folder = file.parent().unwrap_or(file);
        let scratch = tempfile::tempdir_in(folder).doing("make a temporary folder in", folder)?;
        let copy = scratch.path().join("kernel");
        std::fs::copy(file, &copy).doing("copy", file)?;
        process::output(Command::new("gzip").args(["--no-name", "--best"]).arg(&copy))?;
        workspace::replace(&packed, &read(&copy.with_extension("gz"))?)?;
    }
    read(&packed)
}

/// Packages carry no `modules.dep`; it is made at installation, so we make it.
fn depmod(files: &Path, release: &str) -> Result<(), ImageError> {
    let modules = files.join("lib/modules").join(release);
    if !modules.is_dir() {
        let missing = io::Error::new(
            io::ErrorKind::NotFound,
            "the package holds no modules of that release",
        );
        return Err(missing).doing("find", &modules);
    }
    let depmod = if Path::new("/sbin/depmod").exists() {
        "/sbin/depmod"
    } else {
        "depmod"
    };
    process::output(Command::new(depmod).arg("--basedir").arg(files).arg(release))?;
    Ok(())
}
