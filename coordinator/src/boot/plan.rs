//! What the boot services ask of the lease driver: the one narrow door between the two.
//!
//! DHCP, TFTP and HTTP answer anybody on the lender's wire, so they know nothing of leases. They ask a [`BootDirectory`] three
//! questions – what is on record about a card, which plan, which facts – and everything in the answers is already parsed: a [`KernelWord`] can
//! stand in a boot script without escaping, and a [`SiteArchiveId`] can stand in a path.

use crate::dhcp::Card;
use futures_util::future::BoxFuture;
use leaseboot_protocol::agent::BootFacts;
use leaseboot_protocol::handover::StagedFiles;
use leaseboot_protocol::hardware::PciDevice;
use leaseboot_protocol::network::MacAddress;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What a server that asks to boot is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootPlan {
    /// Run stage 1.
    Agent(Box<AgentBoot>),
    /// Enter what the agent of the boot before has staged on the server's own disk.
    Staged(Box<StagedFiles>),
    /// Go on with the installed system.
    LocalDisk,
}

/// One boot into stage 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentBoot {
    /// The site archive of this boot, and of no other.
    pub site: SiteArchiveId,
    /// The drivers that stage 1 brings.
    pub drivers: Drivers,
    /// The server's console as the kernel's `console=` wants it, such as `ttyS0,115200`.
    pub console: Option<KernelWord>,
    /// More words for the kernel command line. The kernel prints them: no secrets.
    pub kernel_words: Vec<KernelWord>,
}

/// Which drivers stage 1 brings.
#[derive(Clone, PartialEq, Eq)]
pub enum Drivers {
    /// Every one: the server is not known well enough, or everything in it is to be seen.
    All,
    /// Those of these PCI functions, if the image can be had in parts and has a driver for a network card among them.
    Own(Vec<PciDevice>),
}

/// The functions would fill a page of the log.
impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Own(functions) => write!(f, "Own({} functions)", functions.len()),
        }
    }
}

/// Implemented by the lease driver; asked by DHCP and the boot file services. Every method may be called by anybody on the wire, at any time and
/// any number of times, so it must be cheap and must not grow state without bound.
pub trait BootDirectory: Send + Sync + 'static {
    /// What the server with this card shall do. Called at each rendering of a script, so each answer that says
    /// [`BootPlan::Agent`] carries a new archive id; earlier ones of the same server may be forgotten.
    fn plan(&self, mac: MacAddress, from: IpAddr) -> BoxFuture<'_, Result<BootPlan, BootError>>;

    /// The content of a site archive, asked for once per id; the clock hint is taken now. `None` when the id is unknown or used up.
    fn site_facts(
        &self,
        id: &SiteArchiveId,
        from: IpAddr,
    ) -> BoxFuture<'_, Result<Option<BootFacts>, BootError>>;

    /// The card's fixed place on the lender's wire, and the loaders that were chosen for its server; `None` for a card that nobody wrote down.
    fn card(&self, mac: MacAddress) -> BoxFuture<'_, Result<Option<Card>, BootError>>;
}

/// The directory could not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempted}")]
pub struct BootError {
    /// What was attempted, on what, such as `find the boot plan of 52:54:00:12:34:56`.
    pub attempted: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Names one site archive: 128 random bits as 32 lower-case hexadecimal digits. Whoever knows it may fetch a boot token, so it is
/// shortened when it is printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteArchiveId(String);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not the name of a site archive: 32 lower-case hexadecimal digits are needed")]
pub struct SiteArchiveIdError;

impl SiteArchiveId {
    /// A new name from the system's random numbers.
    ///
    /// # Errors
    /// Those of getrandom(2).
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SiteArchiveId {
    type Err = SiteArchiveIdError;

    fn from_str(text: &str) -> Result<Self, SiteArchiveIdError> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == 32 {
            Ok(Self(text.to_owned()))
        } else {
            Err(SiteArchiveIdError)
        }
    }
}

impl fmt::Debug for SiteArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.0[..6])
    }
}

/// One word of a kernel command line, such as `ttyS0,115200` or `panic=30`: letters, digits and `. , : = / _ + @ -`. None of them means anything
/// to the script languages of GRUB and iPXE, so the word needs no quotes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelWord(String);

/// The text is not one plain word.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} cannot stand on a kernel command line: one word of letters, digits and .,:=/_+@- is needed"
)]
pub struct KernelWordError {
    text: String,
}

impl KernelWord {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KernelWord {
    type Error = KernelWordError;

    fn try_from(text: String) -> Result<Self, KernelWordError> {
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".,:=/_+@-".contains(&b));
        if plain && (1..=200).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(KernelWordError { text })
        }
    }
}

impl FromStr for KernelWord {
    type Err = KernelWordError;

    fn from_str(text: &str) -> Result<Self, KernelWordError> {
        Self::try_from(text.to_owned())
    }
}

impl From<KernelWord> for String {
    fn from(word: KernelWord) -> String {
        word.0
    }
}

impl fmt::Display for KernelWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_mean_something_to_a_script_are_refused() {
        for text in [
            "", "a b", "a;b", "${net0}", "a&&b", "a\nb", "\"a\"", "a'b", "a#b", "a|b", "ü",
        ] {
            assert!(text.parse::<KernelWord>().is_err(), "{text:?}");
        }
        assert_eq!(
            "ttyS0,115200".parse::<KernelWord>().unwrap().as_str(),
            "ttyS0,115200"
        );
    }

    #[test]
    fn archive_names_are_unlike_and_read_back() {
        let (a, b) = (SiteArchiveId::random().unwrap(), SiteArchiveId::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<SiteArchiveId>().unwrap(), a);
        assert!(!format!("{a:?}").contains(a.as_str()));
        assert!(
            "../../../../etc/passwd0000000000"
                .parse::<SiteArchiveId>()
                .is_err()
        );
    }
}
