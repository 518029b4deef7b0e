//! Which kernel modules go into the image, and what the agent needs to know to load them.
//!
//! A pure function: the texts that depmod wrote and the recipe go in, a [`Selection`] comes out. It is closed: every module
//! that a chosen one needs (`modules.dep`) or likes to have (`modules.softdep`) is chosen too. What the recipe excludes stays
//! out; if something chosen needs it, that is an error and not a quiet exception.
//!
//! Formats: modules.dep(5), modprobe.d(5) for `alias` and `softdep` lines. Module names count `-` and `_` as the same.

use crate::recipe::{Line, Recipe};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

/// The texts that describe a kernel's modules, as depmod and the kernel package have them.
#[derive(Clone, Copy, Debug)]
pub struct ModuleTexts<'a> {
    /// `modules.dep`: each module's file and the files it needs, in the order in which they must *not* be loaded (last first).
    pub dep: &'a str,
    /// `modules.alias`: device patterns and names that stand for modules.
    pub alias: &'a str,
    /// `modules.softdep`: what a module likes to have loaded before or after it.
    pub softdep: &'a str,
    /// `modules.builtin`: what is in the kernel itself.
    pub builtin: &'a str,
}

/// Modules for the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Files below `lib/modules/<version>/`, sorted.
    pub files: BTreeSet<String>,
    /// `modules.dep` of these, sorted by line.
    pub dep: String,
    /// `modules.alias` of these, sorted by line.
    pub alias: String,
    /// `modules.softdep` of these, sorted by line.
    pub softdep: String,
    /// `modules.builtin`, sorted.
    pub builtin: String,
}

impl Selection {
    /// The texts, to be asked again.
    pub(crate) fn texts(&self) -> ModuleTexts<'_> {
        ModuleTexts {
            dep: &self.dep,
            alias: &self.alias,
            softdep: &self.softdep,
            builtin: &self.builtin,
        }
    }
}

/// The recipe and the kernel do not agree.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The recipe asks for something that this kernel does not have.
    #[error(
        "{path}:{line}: this kernel has no module or folder {name:?}: correct the name or remove the line"
    )]
    Unknown {
        /// The recipe.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// The recipe excludes what it needs.
    #[error(
        "{path}:{line}: {name:?} is excluded, but {needed_by} cannot do without: exclude these too, or remove the line"
    )]
    ExcludedButNeeded {
        /// The recipe.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is excluded.
        name: String,
        /// The modules that need it.
        needed_by: String,
    },
    /// depmod's file is not as it should be.
    #[error(
        "modules.dep names {file:?}, which is not on a line of its own: remove target/cache/packages and try again"
    )]
    Incomplete {
        /// The file.
        file: String,
    },
}

/// Chooses the modules that the recipe asks for.
///
/// # Errors
/// [`ModulesError`], with the recipe's line.
pub fn select(texts: ModuleTexts<'_>, recipe: &Recipe) -> Result<Selection, ModulesError> {
    let table = Table::parse(texts);
    let excluded = table.excluded(recipe)?;
    let mut wanted = BTreeSet::new();
    for line in &recipe.directories {
        wanted.extend(
            table
                .below(recipe, line)?
                .filter(|file| !excluded.contains_key(file)),
        );
    }
    for line in &recipe.modules {
        wanted.extend(table.named(recipe, line)?);
    }
    let files = table.closure(&wanted)?;
    table.refuse_excluded(recipe, &files, &excluded)?;
    Ok(table.restricted_to(&files))
}

/// The texts, ready to be asked.
pub(crate) struct Table<'a> {
    /// File to the files it needs.
    needs: BTreeMap<&'a str, Vec<&'a str>>,
    /// Name to file.
    files: BTreeMap<String, &'a str>,
    builtin: BTreeSet<String>,
    texts: ModuleTexts<'a>,
}

impl<'a> Table<'a> {
    pub(crate) fn parse(texts: ModuleTexts<'a>) -> Self {
        let needs: BTreeMap<_, Vec<_>> = texts
            .dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needs)| (file, needs.split_whitespace().collect()))
            .collect();
        let files = needs.keys().map(|file| (name_of(file), *file)).collect();
        let builtin = texts.builtin.lines().map(name_of).collect();
        Self {
            needs,
            files,
            builtin,
            texts,
        }
    }

    pub(crate) fn below(
        &self,
        recipe: &Recipe,
        line: &Line,
    ) -> Result<impl Iterator<Item = &'a str>, ModulesError> {
        let folder = format!("kernel/{}/", line.text);
        let found: Vec<_> = self
            .needs
            .keys()
            .copied()
            .filter(|file| file.starts_with(&folder))
            .collect();
        if found.is_empty() {
            return Err(unknown(recipe, line));
        }
        Ok(found.into_iter())
    }

    /// A module's file; nothing when it is built into the kernel, where it needs no file.
    pub(crate) fn named(&self, recipe: &Recipe, line: &Line) -> Result<Option<&'a str>, ModulesError> {
        let name = canonical(&line.text);
        match self.files.get(&name) {
            Some(file) => Ok(Some(file)),
            None if self.builtin.contains(&name) => Ok(None),
            None => Err(unknown(recipe, line)),
        }
    }

    fn excluded<'r>(&self, recipe: &'r Recipe) -> Result<BTreeMap<&'a str, &'r Line>, ModulesError> {
        let mut excluded = BTreeMap::new();
        for line in &recipe.exclude {
            if line.text.contains('/') {
                excluded.extend(self.below(recipe, line)?.map(|file| (file, line)));
            } else {
                excluded.extend(self.named(recipe, line)?.map(|file| (file, line)));
            }
        }
        Ok(excluded)
    }

    pub(crate) fn closure(&self, wanted: &BTreeSet<&'a str>) -> Result<BTreeSet<&'a str>, ModulesError> {
        let mut chosen = BTreeSet::new();
        let mut queue: VecDeque<_> = wanted.iter().copied().collect();
        while let Some(file) = queue.pop_front() {
            if !chosen.insert(file) {
                continue;
            }
            let needs = self.needs.get(file).ok_or_else(|| ModulesError::Incomplete {
                file: file.to_owned(),
            })?;
            queue.extend(needs);
            queue.extend(self.soft_needs(&name_of(file)));
        }
        Ok(chosen)
    }

    /// What `softdep` lines name for a module. They name modules, or exact aliases such as `crypto-crc32c`.
    fn soft_needs(&self, name: &str) -> Vec<&'a str> {
        let lines = self
            .texts
            .softdep
            .lines()
            .filter_map(|line| line.strip_prefix("softdep ")?.split_once(' '));
        let of_this = lines.filter(|(module, _)| canonical(module) == name);
        let words = of_this
            .flat_map(|(_, words)| words.split_whitespace())
            .filter(|word| !word.ends_with(':'));
        words.flat_map(|word| self.files_for(word)).collect()
    }

    fn files_for(&self, word: &str) -> Vec<&'a str> {
        let aliases = self
            .texts
            .alias
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
        let by_alias = aliases
            .filter(|(alias, _)| *alias == word)
            .map(|(_, module)| canonical(module));
        let names = std::iter::once(canonical(word)).chain(by_alias);
        names.filter_map(|name| self.files.get(&name).copied()).collect()
    }

    fn refuse_excluded(
        &self,
        recipe: &Recipe,
        files: &BTreeSet<&'a str>,
        excluded: &BTreeMap<&'a str, &Line>,
    ) -> Result<(), ModulesError> {
        let Some((file, line)) = files.iter().find_map(|file| Some((*file, excluded.get(file)?))) else {
            return Ok(());
        };
        let needing = files.iter().filter(|other| self.needs[*other].contains(&file));
        let mut needing: Vec<_> = needing.map(|file| name_of(file)).collect();
        if needing.is_empty() {
            needing.push("another line of the recipe, or a soft dependency,".to_owned());
        }
        Err(ModulesError::ExcludedButNeeded {
            path: recipe.path.clone(),
            line: line.number,
            name: name_of(file),
            needed_by: needing.join(", "),
        })
    }

    fn restricted_to(&self, files: &BTreeSet<&str>) -> Selection {
        let names: BTreeSet<_> = files.iter().map(|file| name_of(file)).collect();
        let chosen = |module: &str| names.contains(&canonical(module));
        let dep = |line: &&str| line.split_once(':').is_some_and(|(file, _)| files.contains(file));
        let alias = |line: &&str| {
            line.starts_with("alias ") && line.rsplit_once(' ').is_some_and(|(_, module)| chosen(module))
        };
        let softdep = |line: &&str| {
            let module = line
                .strip_prefix("softdep ")
                .and_then(|rest| rest.split_whitespace().next());
            module.is_some_and(chosen)
        };
        let aliases: Vec<_> = self.texts.alias.lines().filter(alias).collect();
        let companions = aliases.iter().filter_map(|line| {
            let (alias, module) = line.rsplit_once(' ')?;
            let (_, companion) = COMPANIONS.iter().find(|(of, _)| *of == canonical(module))?;
            chosen(companion).then(|| format!("{alias} {companion}"))
        });
        let companions: Vec<_> = companions.collect();
        let aliases = aliases.into_iter().chain(companions.iter().map(String::as_str));
        Selection {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            dep: sorted(self.texts.dep.lines().filter(dep)),
            alias: sorted(aliases),
            softdep: sorted(self.texts.softdep.lines().filter(softdep)),
            builtin: sorted(self.texts.builtin.lines()),
        }
    }
}

/// Modules that another asks the kernel for by name once it is loaded. Without modprobe nobody answers, so they stand for its devices as well.
const COMPANIONS: [(&str, &str); 1] = [("mlx4_core", "mlx4_en")];

fn unknown(recipe: &Recipe, line: &Line) -> ModulesError {
    ModulesError::Unknown {
        path: recipe.path.clone(),
        line: line.number,
        name: line.text.clone(),
    }
}

/// A module's name from its file: `kernel/drivers/scsi/3w-sas.ko` is `3w_sas`.
pub(crate) fn name_of(file: &str) -> String {
    let last = file.rsplit('/').next().unwrap_or(file);
    canonical(last.split(".ko").next().unwrap_or(last))
}

pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: BTreeSet<_> = lines.collect();
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TEXTS: ModuleTexts<'_> = ModuleTexts {
        dep: "kernel/drivers/net/ethernet/big/big.ko: kernel/lib/libcrc32c.ko kernel/drivers/net/mdio.ko\n\
              kernel/drivers/net/ethernet/old/old_cs.ko: kernel/drivers/pcmcia/pcmcia.ko\n\
              kernel/drivers/net/ethernet/small-card.ko:\n\
              kernel/drivers/net/mdio.ko:\n\
              kernel/drivers/pcmcia/pcmcia.ko:\n\
              kernel/lib/libcrc32c.ko:\n\
              kernel/crypto/crc32c_generic.ko:\n\
              kernel/arch/x86/crypto/crc32c-intel.ko:\n\
              kernel/drivers/net/tun.ko:\n",
        alias: "# comment\nalias pci:v1*d2* small_card\nalias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias devname:net/tun tun\n",
        softdep: "# comment\nsoftdep libcrc32c pre: crc32c\nsoftdep tun post: absent\n",
        builtin: "kernel/fs/ext9.ko\nkernel/drivers/char/console.ko\n",
    };

    fn selection(drivers: &str) -> Result<Selection, ModulesError> {
        let text = format!("[kernel]\npackage='linux'\n[drivers]\n{drivers}");
        select(TEXTS, &Recipe::parse(Path::new("recipe.toml"), &text).unwrap())
    }

    #[test]
    fn dependencies_and_soft_dependencies_come_along() {
        let chosen = selection("modules=['big']").unwrap();
        let files: Vec<_> = chosen.files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "kernel/arch/x86/crypto/crc32c-intel.ko",
                "kernel/crypto/crc32c_generic.ko",
                "kernel/drivers/net/ethernet/big/big.ko",
                "kernel/drivers/net/mdio.ko",
                "kernel/lib/libcrc32c.ko",
            ]
        );
        assert_eq!(chosen.softdep, "softdep libcrc32c pre: crc32c\n");
    }

    #[test]
    fn a_module_that_is_asked_for_by_name_stands_for_the_same_devices() {
        let texts = ModuleTexts {
            dep: "kernel/net/mlx4_en.ko: kernel/net/mlx4_core.ko\nkernel/net/mlx4_core.ko:\n",
            alias: "alias pci:v15B3d1003* mlx4_core\n",
            softdep: "",
            builtin: "",
        };
        let text = "[kernel]\npackage='linux'\n[drivers]\ndirectories=['net']";
        let recipe = Recipe::parse(Path::new("recipe.toml"), text).unwrap();
        assert_eq!(
            select(texts, &recipe).unwrap().alias,
            "alias pci:v15B3d1003* mlx4_core\nalias pci:v15B3d1003* mlx4_en\n"
        );
    }

    #[test]
    fn texts_are_restricted_and_sorted() {
        let chosen = selection("modules=['tun', 'small_card']").unwrap();
        assert_eq!(
            chosen.dep,
            "kernel/drivers/net/ethernet/small-card.ko:\nkernel/drivers/net/tun.ko:\n"
        );
        assert_eq!(
            chosen.alias,
            "alias devname:net/tun tun\nalias pci:v1*d2* small_card\n"
        );
        assert_eq!(
            chosen.builtin,
            "kernel/drivers/char/console.ko\nkernel/fs/ext9.ko\n"
        );
    }

    #[test]
    fn the_order_of_dependencies_on_a_line_is_kept() {
        let dep = selection("modules=['big']").unwrap().dep;
        assert!(
            dep.contains("big.ko: kernel/lib/libcrc32c.ko kernel/drivers/net/mdio.ko\n"),
            "{dep}"
        );
    }

    #[test]
    fn a_folder_without_what_is_excluded() {
        let chosen =
            selection("directories=['drivers/net/ethernet']\nexclude=['old_cs','drivers/pcmcia']").unwrap();
        assert!(chosen.files.contains("kernel/drivers/net/ethernet/small-card.ko"));
        assert!(
            !chosen
                .files
                .iter()
                .any(|file| file.contains("pcmcia") || file.contains("old_cs"))
        );
    }

    #[test]
    fn excluding_what_is_needed_names_who_needs_it() {
        let error = selection("directories=['drivers/net/ethernet']\nexclude=['pcmcia']").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("recipe.toml:5: \"pcmcia\" is excluded, but old_cs "),
            "{error}"
        );
    }

    #[test]
    fn unknown_names_are_shown_with_their_line() {
        for drivers in [
            "modules=['tunn']",
            "directories=['drivers/wifi']",
            "exclude=['tunn']",
            "exclude=['a/b']",
        ] {
            let error = selection(drivers).unwrap_err();
            assert!(
                error.to_string().starts_with("recipe.toml:4: this kernel has no"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_built_in_needs_no_file() {
        assert!(selection("modules=['ext9']").unwrap().files.is_empty());
    }
}
