//! Which installer reads the text that the merge makes, in which version of its language, and how it finds that text.
//!
//! Enterprise, lender and server all need the same answers: the LM to know the language, the PO to check it, the agent to put the
//! text where the installer looks. So they stand here, beside each other, and another installer is one more arm in each function.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The installer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Installer {
    /// Anaconda and what reads its language.
    Kickstart {
        /// The version of the language.
        #[serde(default)]
        #[cfg_attr(feature = "openapi", schema(value_type = String, example = "RHEL9"))]
        syntax: KickstartSyntax,
    },
    /// debian-installer: answers to debconf's questions.
    Preseed {},
    /// Ubuntu's subiquity: YAML inside of cloud-init's user data, version 1.
    Autoinstall {},
    /// FAI: class variables, which its own class scripts read.
    Fai {},
    /// None: a disk image that the agent writes. The text is cloud-init's user data, or empty.
    DiskImage {},
}

impl Default for Installer {
    fn default() -> Self {
        Installer::Kickstart {
            syntax: KickstartSyntax::default(),
        }
    }
}

impl fmt::Display for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Installer::Kickstart { syntax } => write!(f, "kickstart of {syntax}"),
            Installer::Preseed {} => f.write_str("preseed"),
            Installer::Autoinstall {} => f.write_str("autoinstall"),
            Installer::Fai {} => f.write_str("FAI's class variables"),
            Installer::DiskImage {} => f.write_str("disk image"),
        }
    }
}

/// Where the archive puts autoinstall's seed: cloud-init's NoCloud data source reads `user-data` and `meta-data` in one folder.
pub const SEED_FOLDER: &str = "/leaseboot/seed";
/// Where the wrapper leaves the seed for the live system, which no longer sees the archive: `/run` outlives the change of root.
pub const LIVE_SEED_FOLDER: &str = "/run/leaseboot/seed";

/// Where the archive puts FAI's class variables.
pub const FAI_VARIABLES: &str = "/leaseboot/fai.var";
/// Where the wrapper leaves them for FAI, whose live system no longer sees the archive.
pub const LIVE_FAI_VARIABLES: &str = "/run/leaseboot/fai.var";

impl Installer {
    /// Where the appended archive puts the merged text with its sealed values filled in.
    pub fn text_path(self) -> &'static str {
        match self {
            Installer::Kickstart { .. } => "/leaseboot/ks.cfg",
            Installer::Preseed {} => "/leaseboot/preseed.cfg",
            Installer::Autoinstall {} => "/leaseboot/seed/user-data",
            Installer::Fai {} => FAI_VARIABLES,
            // In the written system, where cloud-init's NoCloud data source looks first.
            Installer::DiskImage {} => "/var/lib/cloud/seed/nocloud/user-data",
        }
    }

    /// What the kernel command line must say so that the installer reads the text and asks nothing.
    ///
    /// Sources: Anaconda's boot options (`inst.ks`), the Debian installation guide's appendix B.2 (`auto`, `priority`,
    /// `preseed/file`), cloud-init's NoCloud data source (`ds=`), subiquity's introduction (`autoinstall`).
    pub fn kernel_arguments(self) -> &'static [&'static str] {
        match self {
            Installer::Kickstart { .. } => &["inst.ks=file:/leaseboot/ks.cfg"],
            Installer::Preseed {} => &[
                "auto=true",
                "priority=critical",
                "preseed/file=/leaseboot/preseed.cfg",
            ],
            Installer::Autoinstall {} => &["autoinstall", "ds=nocloud;s=file:///run/leaseboot/seed/"],
            // FAI's own words (`FAI_CONFIG_SRC`, `FAI_FLAGS`) are the image's; a class script of the enterprise reads the variables.
            Installer::Fai {} => &[],
            Installer::DiskImage {} => &[],
        }
    }

    /// Beginnings of words on the command line by which an image would look for another text than the merged one.
    pub fn foreign_arguments(self) -> &'static [&'static str] {
        match self {
            Installer::Kickstart { .. } => &["inst.ks=", "ks=", "inst.ks.all"],
            Installer::Preseed {} => &["preseed/", "file=", "url=", "auto=", "auto-install/"],
            Installer::Autoinstall {} => &[
                "ds=",
                "autoinstall",
                "subiquity.autoinstallpath=",
                "cloud-config-url=",
            ],
            Installer::Fai {} => &[],
            Installer::DiskImage {} => &[],
        }
    }

    /// Whether the words after `---` are kept for the installed system. debian-installer and subiquity do that, so the lender's
    /// console goes there; in a kickstart it stands in the `bootloader` line.
    pub fn keeps_words_after_dashes(self) -> bool {
        matches!(self, Installer::Preseed {} | Installer::Autoinstall {})
    }

    /// The one command that the LM's merge adds, to run when the system is installed and still mounted: it makes the member's key and leaves its tunnel in the installed system. LM and
    /// PO share the text, so that the PO can refuse anything else. To FAI the merge adds none: a class script of the enterprise runs it.
    pub fn member_install(self) -> &'static str {
        match self {
            // Anaconda sets the variable.
            Installer::Kickstart { .. } => crate::MEMBER_INSTALL,
            // debian-installer never leaves the initramfs, and mounts a /run of its own over the wrapper's.
            Installer::Preseed {} => "/leaseboot/init member install --root /target",
            Installer::Autoinstall {} | Installer::Fai {} => {
                "/run/leaseboot/agent member install --root /target"
            }
            // Nothing in the text: the agent leaves it in the disk that it wrote.
            Installer::DiskImage {} => "",
        }
    }
}

/// A version of the kickstart language, as pykickstart names it: `RHEL9`, `F42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KickstartSyntax {
    /// Whose line of versions.
    pub family: Family,
    /// The release.
    pub release: u8,
}

/// The two lines of versions of the kickstart language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Fedora, 30 to 46.
    Fedora,
    /// Red Hat Enterprise Linux and its kin, 7 to 11.
    Rhel,
}

/// A name that is no version of the kickstart language that a merge can check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no kickstart syntax that a merge can check: write RHEL7 to RHEL11 or F30 to F46")]
pub struct SyntaxError {
    text: String,
}

impl KickstartSyntax {
    const RHEL: std::ops::RangeInclusive<u8> = 7..=11;
    const FEDORA: std::ops::RangeInclusive<u8> = 30..=46;

    /// Every version that a merge can check.
    pub fn all() -> impl Iterator<Item = Self> {
        let rhel = Self::RHEL.map(|release| (Family::Rhel, release));
        let fedora = Self::FEDORA.map(|release| (Family::Fedora, release));
        rhel.chain(fedora)
            .map(|(family, release)| Self { family, release })
    }
}

impl Default for KickstartSyntax {
    /// RHEL 9, which profiles without a word meant before there was a choice.
    fn default() -> Self {
        Self {
            family: Family::Rhel,
            release: 9,
        }
    }
}

impl fmt::Display for KickstartSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Fedora => write!(f, "F{}", self.release),
            Family::Rhel => write!(f, "RHEL{}", self.release),
        }
    }
}

impl FromStr for KickstartSyntax {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let all = &mut Self::all();
        all.find(|syntax| syntax.to_string() == text)
            .ok_or_else(|| SyntaxError {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<String> for KickstartSyntax {
    type Error = SyntaxError;

    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

impl From<KickstartSyntax> for String {
    fn from(syntax: KickstartSyntax) -> String {
        syntax.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_people_write_it() {
        let read = |text: &str| serde_json::from_str::<Installer>(text);
        assert_eq!(read(r#"{"kind":"kickstart"}"#).unwrap(), Installer::default());
        let fedora = read(r#"{"kind":"kickstart","syntax":"F42"}"#).unwrap();
        assert_eq!(fedora.to_string(), "kickstart of F42");
        assert_eq!(
            serde_json::to_string(&fedora).unwrap(),
            r#"{"kind":"kickstart","syntax":"F42"}"#
        );
        assert_eq!(read(r#"{"kind":"preseed"}"#).unwrap(), Installer::Preseed {});
        for wrong in [
            r#"{"kind":"kickstart","syntax":"RHEL6"}"#,
            r#"{"kind":"kickstart","syntax":"RHEL09"}"#,
            r#"{"kind":"preseed","syntax":"RHEL9"}"#,
            r#"{"kind":"yast"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_version_reads_its_own_name() {
        for syntax in KickstartSyntax::all() {
            assert_eq!(syntax.to_string().parse(), Ok(syntax));
        }
        assert_eq!(KickstartSyntax::all().count(), 22);
    }

    #[test]
    fn the_command_line_names_the_place_of_the_text() {
        for installer in [Installer::default(), Installer::Preseed {}] {
            let arguments = installer.kernel_arguments().join(" ");
            assert!(arguments.contains(installer.text_path()), "{arguments}");
        }
        let seed = Installer::Autoinstall {};
        assert!(seed.text_path().starts_with(SEED_FOLDER));
        assert!(seed.kernel_arguments().join(" ").contains(LIVE_SEED_FOLDER));
        let fai: Installer = serde_json::from_str(r#"{"kind":"fai"}"#).unwrap();
        assert_eq!(
            (fai.text_path(), fai.keeps_words_after_dashes()),
            (FAI_VARIABLES, false)
        );
    }
}
