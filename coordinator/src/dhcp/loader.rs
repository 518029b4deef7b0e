//! What the lender decides about first loaders: for all, for an architecture, for the servers that a rule means, for one server.
//!
//! | where in the configuration | goes before |
//! |---|---|
//! | `first_loader` of a `[[server]]` | all others |
//! | the first `[[dhcp.loader]]` whose `where` fits the server's labels | the two below |
//! | `[dhcp.architecture]`, by what option 93 says | the last |
//! | `dhcp.first_loader` | |
//!
//! A lender's models differ in what their firmware can do, and lenders keep models as labels (`model = "r640"`), so a rule is an expression over labels.

use super::request::Platform;
use leaseboot_protocol::labels::{LabelExpression, Labels};
use serde::{Deserialize, Serialize};

/// The boot program that firmware is sent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstLoader {
    /// Our GRUB, such as `grub/core.0` or `grub/core.efi`.
    #[default]
    Grub,
    /// iPXE on the firmware's own driver of the card, such as `ipxe/undionly.kpxe` or `ipxe/snponly.efi`, which then asks again as iPXE.
    Ipxe,
    /// iPXE with its own drivers, for cards whose firmware is worse: `ipxe/ipxe.pxe` or `ipxe/ipxe.efi`.
    IpxeDrivers,
    /// The shim and the GRUB that Debian signed, for UEFI with Secure Boot: `shim/shimx64.efi`. BIOS, which checks nothing, is sent our GRUB.
    Shim,
}

/// What iPXE is sent, whether it came from a card's ROM or was loaded by [`FirstLoader::Ipxe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpxeChain {
    /// The server's own script over HTTP.
    #[default]
    Script,
    /// GRUB from TFTP, as other firmware.
    Grub,
}

/// The `[dhcp.architecture]` table: first loaders by architecture (option 93).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchitectureLoaders {
    /// x86 with BIOS.
    pub bios: Option<FirstLoader>,
    /// x86-64 with UEFI.
    pub efi64: Option<FirstLoader>,
    /// x86 with UEFI of 32 bits.
    pub efi32: Option<FirstLoader>,
    /// 64-bit ARM with UEFI.
    pub arm64: Option<FirstLoader>,
}

impl ArchitectureLoaders {
    pub(super) fn get(&self, platform: Platform) -> Option<FirstLoader> {
        match platform {
            Platform::Bios => self.bios,
            Platform::Efi64 => self.efi64,
            Platform::Efi32 => self.efi32,
            Platform::Arm64 => self.arm64,
            Platform::Other(_) => None,
        }
    }
}

/// A `[[dhcp.loader]]`: other loaders for the servers that it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderRule {
    /// Which servers, by their labels.
    #[serde(rename = "where")]
    pub servers: LabelExpression,
    /// What their firmware is sent.
    pub first_loader: Option<FirstLoader>,
    /// What their iPXE is sent.
    pub ipxe_chain: Option<IpxeChain>,
}

/// What was decided for one server; what is `None` is as for all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoaderChoice {
    /// What its firmware is sent.
    pub first_loader: Option<FirstLoader>,
    /// What its iPXE is sent.
    pub ipxe_chain: Option<IpxeChain>,
}

impl LoaderChoice {
    /// What `own`, the server's record, and the first rule that fits its labels decide.
    pub fn of(own: Self, rules: &[LoaderRule], labels: &Labels) -> Self {
        let rule = rules.iter().find(|rule| rule.servers.matches(labels));
        Self {
            first_loader: own.first_loader.or(rule.and_then(|rule| rule.first_loader)),
            ipxe_chain: own.ipxe_chain.or(rule.and_then(|rule| rule.ipxe_chain)),
        }
    }
}

impl FirstLoader {
    /// The boot file for a platform; `None` where there is no such loader.
    pub(super) fn program(self, platform: Platform) -> Option<&'static str> {
        Some(match (self, platform) {
            (_, Platform::Other(_)) => return None,
            (FirstLoader::Grub | FirstLoader::Shim, Platform::Bios) => "grub/core.0",
            (FirstLoader::Grub, Platform::Efi64) => "grub/core.efi",
            (FirstLoader::Grub, Platform::Efi32) => "grub/core-ia32.efi",
            (FirstLoader::Grub, Platform::Arm64) => "grub/core-arm64.efi",
            (FirstLoader::Ipxe, Platform::Bios) => "ipxe/undionly.kpxe",
            (FirstLoader::Ipxe, Platform::Efi64) => "ipxe/snponly.efi",
            (FirstLoader::Ipxe, Platform::Efi32) => "ipxe/snponly-ia32.efi",
            (FirstLoader::Ipxe, Platform::Arm64) => "ipxe/snponly-arm64.efi",
            (FirstLoader::IpxeDrivers, Platform::Bios) => "ipxe/ipxe.pxe",
            (FirstLoader::IpxeDrivers, Platform::Efi64) => "ipxe/ipxe.efi",
            (FirstLoader::IpxeDrivers, Platform::Efi32) => "ipxe/ipxe-ia32.efi",
            (FirstLoader::IpxeDrivers, Platform::Arm64) => "ipxe/ipxe-arm64.efi",
            (FirstLoader::Shim, Platform::Efi64) => "shim/shimx64.efi",
            (FirstLoader::Shim, Platform::Efi32) => "shim/shimia32.efi",
            (FirstLoader::Shim, Platform::Arm64) => "shim/shimaa64.efi",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> LoaderRule {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_servers_own_word_goes_before_the_first_rule_that_fits() {
        let rules = [
            rule("where = 'model = r640'\nfirst_loader = 'shim'"),
            rule("where = 'model'\nfirst_loader = 'ipxe'\nipxe_chain = 'grub'"),
        ];
        let labels = |model: &str| Labels::from([("model".to_owned(), model.to_owned())]);
        let none = LoaderChoice::default();
        let first = |labels: Labels| LoaderChoice::of(none, &rules, &labels);
        assert_eq!(first(labels("r640")).first_loader, Some(FirstLoader::Shim));
        assert_eq!(first(labels("r640")).ipxe_chain, None);
        assert_eq!(first(labels("x")).ipxe_chain, Some(IpxeChain::Grub));
        assert_eq!(first(Labels::new()), none);
        let own = LoaderChoice {
            first_loader: Some(FirstLoader::IpxeDrivers),
            ipxe_chain: None,
        };
        let chosen = LoaderChoice::of(own, &rules, &labels("x"));
        assert_eq!(chosen.first_loader, Some(FirstLoader::IpxeDrivers));
        assert_eq!(chosen.ipxe_chain, Some(IpxeChain::Grub));
    }

    #[test]
    fn a_rule_with_an_unknown_key_is_refused() {
        let wrong = toml::from_str::<LoaderRule>("where = 'model'\nfirst_laoder = 'ipxe'");
        assert!(wrong.is_err());
    }
}
