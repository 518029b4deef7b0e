//! `image/recipe.toml`: which kernel, which drivers.
//!
//! Strict: an unknown key is an error, and every name keeps its line, so that the room which finds out that the kernel has no
//! such driver can point at the line that asks for it.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A recipe whose text is well-formed; whether its names exist only the kernel can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The file it came from, for messages.
    pub path: PathBuf,
    /// Debian package of the kernel.
    pub kernel_package: String,
    /// Folders below `kernel/`, all of whose modules are wanted.
    pub directories: Vec<Line>,
    /// Modules by name.
    pub modules: Vec<Line>,
    /// Folders (with a `/`) and modules (without) that are not wanted.
    pub exclude: Vec<Line>,
    /// Folders and modules of the wanted ones that every server gets, also one that is given its own drivers only.
    pub base: Vec<Line>,
}

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The name.
    pub text: String,
    /// Line in the file, from 1.
    pub number: usize,
}

/// The recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It cannot be read.
    #[error("cannot read the image recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML of the right shape.
    #[error(
        "{path}:{line}: the image recipe cannot be understood: correct this line (the keys are explained in image/src/recipe.rs)"
    )]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A path that could leave the kernel's folder, or an empty name.
    #[error(
        "{path}:{line}: {name:?} is not a plain name: write a folder such as \"drivers/net/phy\" or a module such as \"tun\""
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeText {
    kernel: KernelText,
    drivers: DriversText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelText {
    package: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DriversText {
    #[serde(default)]
    directories: Vec<toml::Spanned<String>>,
    #[serde(default)]
    modules: Vec<toml::Spanned<String>>,
    #[serde(default)]
    exclude: Vec<toml::Spanned<String>>,
    #[serde(default)]
    base: Vec<toml::Spanned<String>>,
}

impl Recipe {
    /// Reads the recipe file.
    ///
    /// # Errors
    /// [`RecipeError`], with the file and the line.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Understands the recipe's text; `path` is only for messages.
    ///
    /// # Errors
    /// [`RecipeError`], with the file and the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        let RecipeText { kernel, drivers } = toml::from_str(text).map_err(|source| RecipeError::Parse {
            path: path.to_owned(),
            line: source.span().map_or(1, |span| line_at(text, span.start)),
            source: Box::new(source),
        })?;
        let lines = |names: Vec<toml::Spanned<String>>| {
            let line = |name: toml::Spanned<String>| {
                let number = line_at(text, name.span().start);
                plain(
                    path,
                    Line {
                        text: name.into_inner(),
                        number,
                    },
                )
            };
            names.into_iter().map(line).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            path: path.to_owned(),
            kernel_package: kernel.package,
            directories: lines(drivers.directories)?,
            modules: lines(drivers.modules)?,
            exclude: lines(drivers.exclude)?,
            base: lines(drivers.base)?,
        })
    }
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn plain(path: &Path, line: Line) -> Result<Line, RecipeError> {
    if line.text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(RecipeError::Name {
            path: path.to_owned(),
            line: line.number,
            name: line.text,
        });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn parse(text: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(Path::new("recipe.toml"), text)
    }

    #[test]
    fn names_keep_their_lines() {
        let text =
            "[kernel]\npackage = \"linux\"\n[drivers]\nmodules = [\n  \"tun\",\n\n  \"wireguard\",\n]\n";
        let modules = parse(text).unwrap().modules;
        assert_eq!(
            modules
                .iter()
                .map(|line| (line.text.as_str(), line.number))
                .collect::<Vec<_>>(),
            [("tun", 5), ("wireguard", 7)]
        );
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let error = parse("[kernel]\npackage = \"linux\"\n[drivers]\nmodule = [\"tun\"]\n").unwrap_err();
        assert!(error.to_string().starts_with("recipe.toml:4: "), "{error}");
        assert!(
            error.source().unwrap().to_string().contains("module"),
            "{error:?}"
        );
    }

    #[test]
    fn a_missing_section_is_an_error() {
        let error = parse("[drivers]\n").unwrap_err();
        assert!(
            error.source().unwrap().to_string().contains("kernel"),
            "{error:?}"
        );
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for name in ["", "/", "drivers/../..", "drivers//net", "drivers/net/"] {
            let error = parse(&format!(
                "[kernel]\npackage='x'\n[drivers]\ndirectories=['{name}']"
            ))
            .unwrap_err();
            assert!(
                matches!(error, RecipeError::Name { line: 4, .. }),
                "{name:?}: {error}"
            );
        }
    }

    #[test]
    fn the_recipe_of_this_repository_is_well_formed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipe.toml");
        assert!(!Recipe::load(&path).unwrap().modules.is_empty());
    }
}
