//! The C compiler behind a static binary: it links, and it compiles the C in the agent's dependencies (zstd, ring) against musl.
//!
//! | architecture | compiler | musl | installed on the host |
//! |---|---|---|---|
//! | x86-64 | `musl-gcc` | its own | `musl-tools`, `gcc`, `binutils` |
//! | aarch64 | `aarch64-linux-gnu-gcc`, told where musl is | unpacked from `musl-dev` of arm64 | `gcc-aarch64-linux-gnu`, `binutils-aarch64-linux-gnu` |
//!
//! musl's own wrapper, `musl-gcc`, is gcc with a specs file (GCC manual, "Spec Files") that names musl's folders. The package for arm64 has that file too, for
//! the place in which the package would be installed. It is written anew for the place in which it is unpacked, and a script of two lines hands it to the
//! cross compiler, so that nothing of a foreign architecture is installed on the host.

use crate::debian::{Lists, Package};
use crate::error::{ImageError, IoContext as _};
use crate::musl::MuslError;
use crate::process;
use crate::workspace::{self, Workspace};
use leaseboot_protocol::architecture::Architecture;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's package has musl for arm64.
const FOREIGN_MUSL: &str = "usr/lib/aarch64-linux-musl";

/// Compiler and archiver of one architecture.
#[derive(Clone, Debug)]
pub(crate) struct CTools {
    /// Compiles and links with musl.
    pub(crate) cc: PathBuf,
    /// The compiler below it, which knows its own libraries.
    gcc: &'static str,
    /// The archiver.
    pub(crate) ar: &'static str,
}

/// What the host must have installed.
pub(crate) fn packages(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::X86_64 => &["musl-tools", "gcc", "binutils"],
        Architecture::Aarch64 => &["gcc-aarch64-linux-gnu", "binutils-aarch64-linux-gnu"],
    }
}

impl CTools {
    /// Those for `architecture`; `folder` takes what has to be made for them.
    ///
    /// # Errors
    /// [`MuslError::Library`] when Debian's musl cannot be had.
    pub(crate) fn prepare(
        workspace: &Workspace,
        architecture: Architecture,
        folder: &Path,
    ) -> Result<Self, MuslError> {
        match architecture {
            Architecture::X86_64 => Ok(Self {
                cc: "musl-gcc".into(),
                gcc: "gcc",
                ar: "ar",
            }),
            Architecture::Aarch64 => {
                let gcc = "aarch64-linux-gnu-gcc";
                let cc = wrapper(workspace, architecture, gcc, folder);
                Ok(Self {
                    cc: cc.map_err(|source| MuslError::Library {
                        architecture,
                        source: Box::new(source),
                    })?,
                    gcc,
                    ar: "aarch64-linux-gnu-ar",
                })
            }
        }
    }

    /// Makes the folder with the `libunwind.a` that Debian's Rust compiler has not got: gcc's unwinder, plus the one symbol which that expects of
    /// glibc (`_dl_find_object`; -1 means "look it up the old way").
    ///
    /// # Errors
    /// [`MuslError::Unwind`].
    pub(crate) fn unwind_library(&self, target: &Path) -> Result<PathBuf, MuslError> {
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
                Command::new(&self.cc)
                    .args(["-O2", "-c", "-o"])
                    .args([&object, &source]),
            )?;
            let of_gcc = process::output(Command::new(self.gcc).arg("-print-file-name=libgcc_eh.a"))?;
            std::fs::copy(of_gcc.trim(), &unfinished)?;
            // D: no times and owners; r: add; s: with an index.
            process::output(Command::new(self.ar).arg("rDs").args([&unfinished, &object]))?;
            Ok(std::fs::rename(&unfinished, &library)?)
        };
        make().map_err(|source| MuslError::Unwind {
            folder: folder.clone(),
            source,
        })?;
        Ok(folder)
    }
}

/// The script that runs `gcc` with musl.
fn wrapper(
    workspace: &Workspace,
    architecture: Architecture,
    gcc: &str,
    folder: &Path,
) -> Result<PathBuf, ImageError> {
    let lists = Lists::of(workspace, architecture)?;
    let musl = Package::candidate(&lists, "musl-dev")?.unpacked(workspace, |_| Ok(()))?;
    let specs = workspace::read_text(&musl.join(FOREIGN_MUSL).join("musl-gcc.specs"))?;
    let ours = folder.join("musl-gcc.specs");
    workspace::replace(&ours, moved(&specs, &musl).as_bytes())?;
    let script = folder.join("musl-cc");
    let text = format!("#!/bin/sh\nexec {gcc} \"$@\" -specs \"{}\"\n", ours.display());
    workspace::replace(&script, text.as_bytes())?;
    workspace::set_mode(&script, 0o755).doing("make executable", &script)?;
    Ok(script)
}

/// The specs of a musl whose `/usr` lies in `folder`.
fn moved(specs: &str, folder: &Path) -> String {
    let usr = format!("{}/usr/", folder.display());
    ["include", "lib"].iter().fold(specs.to_owned(), |text, place| {
        text.replace(&format!("/usr/{place}/"), &format!("{usr}{place}/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_name_the_folder_in_which_musl_is_unpacked() {
        let specs = "*cpp_options:\n-nostdinc -isystem /usr/include/aarch64-linux-musl -isystem include%s\n\
                     *startfile:\n%{!shared: /usr/lib/aarch64-linux-musl/Scrt1.o} crtbeginS.o%s\n\
                     *link:\n-dynamic-linker /lib/ld-musl-aarch64.so.1\n";
        let moved = moved(specs, Path::new("/work/musl"));
        assert!(
            moved.contains("-isystem /work/musl/usr/include/aarch64-linux-musl -isystem include%s"),
            "{moved}"
        );
        assert!(
            moved.contains(" /work/musl/usr/lib/aarch64-linux-musl/Scrt1.o}"),
            "{moved}"
        );
        assert!(
            moved.contains("-dynamic-linker /lib/ld-musl-aarch64.so.1"),
            "{moved}"
        );
    }
}
