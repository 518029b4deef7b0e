//! The selection in parts: what every server gets, and one part for each driver.
//!
//! ```text
//! selection ─► base: what the recipe names as such, with all that it needs
//!           └► a driver: a module that a PCI function or a paravirtual device asks for, with all that it needs and the base has not
//! ```
//!
//! Parts overlap where two drivers need the same library: a file that two archives bring is unpacked twice, with the same content. Which PHY stands on a board
//! is on no record, so a driver that reaches its PHY through `libphy` brings the drivers of all PHYs along. What belongs to neither kind of part (a device of
//! a board without PCI) is only in the whole image, which such a server gets, because its record has no PCI function.

use crate::modules::{ModulesError, Selection, Table, canonical, name_of};
use crate::recipe::Recipe;
use std::collections::BTreeSet;

/// The buses whose devices a record of PCI functions tells of.
const ON_RECORD: [&str; 2] = ["pci:", "virtio:"];
const PHY: &str = "mdio:";
const PHY_LIBRARY: &str = "libphy";

/// A selection in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Files that every server gets.
    pub base: BTreeSet<String>,
    /// The others that a server may ask for, by name.
    pub drivers: Vec<Driver>,
}

/// A driver that a server may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The module's name.
    pub name: String,
    /// Its file and those that it needs, without the base.
    pub files: BTreeSet<String>,
    /// The devices that it is for, sorted.
    pub aliases: Vec<String>,
}

impl Selection {
    /// Divides the selection. `recipe` is the one that it was chosen by.
    ///
    /// # Errors
    /// [`ModulesError::Unknown`] for a base that was not selected.
    pub fn split(&self, recipe: &Recipe) -> Result<Split, ModulesError> {
        let table = Table::parse(self.texts());
        let mut wanted = BTreeSet::new();
        for line in &recipe.base {
            match line.text.contains('/') {
                true => wanted.extend(table.below(recipe, line)?),
                false => wanted.extend(table.named(recipe, line)?),
            }
        }
        let base = table.closure(&wanted)?;
        let phys: BTreeSet<_> = self.files_for(|alias| alias.starts_with(PHY)).collect();
        let phys = table.closure(&phys)?;
        let on_record = |alias: &str| ON_RECORD.iter().any(|bus| alias.starts_with(bus));
        let mut drivers = Vec::new();
        for file in self.files_for(on_record).filter(|file| !base.contains(file)) {
            let mut files = table.closure(&BTreeSet::from([file]))?;
            if files.iter().any(|file| name_of(file) == PHY_LIBRARY) {
                files.extend(&phys);
            }
            let name = name_of(file);
            let aliases = self
                .aliases()
                .filter(|(alias, of)| *of == name && on_record(alias));
            drivers.push(Driver {
                aliases: aliases.map(|(alias, _)| alias.to_owned()).collect(),
                files: files.difference(&base).map(|file| (*file).to_owned()).collect(),
                name,
            });
        }
        drivers.sort_by(|a, b| a.name.cmp(&b.name));
        let base = base.into_iter().map(str::to_owned).collect();
        Ok(Split { base, drivers })
    }

    /// Alias and module.
    fn aliases(&self) -> impl Iterator<Item = (&str, String)> {
        let lines = self
            .alias
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
        lines.map(|(alias, module)| (alias, canonical(module)))
    }

    /// Files of modules that have such an alias.
    fn files_for(&self, fits: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        let names: BTreeSet<_> = self
            .aliases()
            .filter(|(alias, _)| fits(alias))
            .map(|(_, module)| module)
            .collect();
        let files = self.files.iter().map(String::as_str);
        files.filter(move |file| names.contains(&name_of(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::ModuleTexts;
    use std::path::Path;

    const TEXTS: ModuleTexts<'_> = ModuleTexts {
        dep: "kernel/net/tun.ko: kernel/lib/shared.ko\n\
              kernel/lib/shared.ko:\n\
              kernel/net/card.ko: kernel/net/phy/libphy.ko kernel/lib/shared.ko\n\
              kernel/net/other-card.ko: kernel/lib/other.ko\n\
              kernel/lib/other.ko:\n\
              kernel/net/phy/libphy.ko:\n\
              kernel/net/phy/marvell.ko: kernel/net/phy/libphy.ko\n\
              kernel/net/odd.ko:\n",
        alias: "alias pci:v1d1* card\nalias pci:v1d2* card\nalias virtio:d1v* other_card\nalias acpi*:X:* odd\nalias mdio:1 marvell\n",
        softdep: "",
        builtin: "",
    };

    fn split(base: &str) -> Result<Split, ModulesError> {
        let text =
            format!("[kernel]\npackage='linux'\n[drivers]\ndirectories=['net']\nmodules=['tun']\n{base}");
        let recipe = Recipe::parse(Path::new("recipe.toml"), &text).unwrap();
        crate::modules::select(TEXTS, &recipe)?.split(&recipe)
    }

    #[test]
    fn a_driver_brings_what_it_needs_and_the_base_has_not() {
        let split = split("base=['tun']").unwrap();
        assert_eq!(
            split.base,
            ["kernel/lib/shared.ko", "kernel/net/tun.ko"]
                .map(str::to_owned)
                .into()
        );
        let [card, other] = &split.drivers[..] else {
            panic!("{:?}", split.drivers);
        };
        assert_eq!(card.aliases, ["pci:v1d1*", "pci:v1d2*"]);
        let files: Vec<_> = other.files.iter().map(String::as_str).collect();
        assert_eq!(
            (other.name.as_str(), files),
            (
                "other_card",
                vec!["kernel/lib/other.ko", "kernel/net/other-card.ko"]
            )
        );
    }

    #[test]
    fn a_driver_with_a_phy_brings_those_of_all_phys() {
        let card = &split("base=['tun']").unwrap().drivers[0];
        let files: Vec<_> = card.files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "kernel/net/card.ko",
                "kernel/net/phy/libphy.ko",
                "kernel/net/phy/marvell.ko"
            ]
        );
    }

    #[test]
    fn a_base_that_was_not_selected_is_shown_with_its_line() {
        let error = split("base=['wireguard']").unwrap_err();
        assert!(error.to_string().starts_with("recipe.toml:6: "), "{error}");
    }
}
