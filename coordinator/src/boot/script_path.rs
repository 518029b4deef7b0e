//! Which script a boot loader asks for: what stands in the path.
//!
//! ```text
//! /boot/grub/<mac>.cfg            GRUB on x86
//! /boot/ipxe/<mac>.ipxe           iPXE on x86
//! /boot/grub/aarch64/<mac>.cfg    the same loaders on 64-bit ARM
//! /boot/ipxe/aarch64/<mac>.ipxe
//! ```
//!
//! The loader knows what processor it runs on, better than any record of the lender's, so it says so in the path: GRUB by the script inside of it
//! (`grub/embedded.cfg`), iPXE by the URL that DHCP gave it, after its firmware's own word (option 93).

use super::script::Language;
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::network::MacAddress;
use std::fmt;

/// A script that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptPath {
    /// For which loader.
    pub language: Language,
    /// For which processor.
    pub architecture: Architecture,
    /// For the server with this card.
    pub mac: MacAddress,
}

impl Language {
    fn folder_and_ending(self) -> (&'static str, &'static str) {
        match self {
            Language::Grub => ("grub", ".cfg"),
            Language::Ipxe => ("ipxe", ".ipxe"),
        }
    }
}

impl ScriptPath {
    /// Reads what follows `/boot/`, in its parts.
    pub(super) fn parse(parts: &[&str]) -> Option<Self> {
        let (folder, architecture, name) = match parts {
            [folder, name] => (folder, Architecture::X86_64, name),
            [folder, architecture, name] => {
                let architecture: Architecture = architecture.parse().ok()?;
                architecture.folder()?;
                (folder, architecture, name)
            }
            _ => return None,
        };
        let mut languages = [Language::Grub, Language::Ipxe].into_iter();
        languages.find_map(|language| {
            let (its_folder, ending) = language.folder_and_ending();
            let card = name.strip_suffix(ending).filter(|_| *folder == its_folder)?;
            Some(Self {
                language,
                architecture,
                mac: card.parse().ok()?,
            })
        })
    }
}

impl fmt::Display for ScriptPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, ending) = self.language.folder_and_ending();
        write!(f, "/boot/{folder}/")?;
        if let Some(architecture) = self.architecture.folder() {
            write!(f, "{architecture}/")?;
        }
        write!(f, "{}{ending}", self.mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for architecture in Architecture::ALL {
            for language in [Language::Grub, Language::Ipxe] {
                let mac = MacAddress([2, 0, 0, 0, 0, 1]);
                let path = ScriptPath {
                    language,
                    architecture,
                    mac,
                };
                let text = path.to_string();
                let parts: Vec<&str> = text.split('/').skip(2).collect();
                assert_eq!(ScriptPath::parse(&parts), Some(path), "{text}");
            }
        }
    }

    #[test]
    fn grub_asks_on_64_bit_arm_in_the_folder_that_is_served() {
        let embedded = include_str!("../../../grub/embedded.cfg");
        let folder = Architecture::Aarch64.folder().unwrap();
        assert!(embedded.contains(&format!("set folder=\"boot/grub/{folder}\"")));
    }

    #[test]
    fn other_paths_are_none() {
        for text in [
            "grub/02:00:00:00:00:01.ipxe",
            "grub/x86_64/02:00:00:00:00:01.cfg",
            "grub/arm64/02:00:00:00:00:01.cfg",
            "grub/aarch64/x/02:00:00:00:00:01.cfg",
            "site/02:00:00:00:00:01.cfg",
            "grub/02.cfg",
        ] {
            let parts: Vec<&str> = text.split('/').collect();
            assert_eq!(ScriptPath::parse(&parts), None, "{text}");
        }
    }
}
