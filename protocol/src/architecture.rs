//! The processors that stage 1 is made for.
//!
//! A hardware report names a server's architecture as uname(2) does, and may name one that nobody here has heard of. This is the short list of those that
//! the image builder makes a kernel, an agent and boot loaders for. Both it and the LM know where an architecture's files lie: see [`Architecture::folder`].

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An architecture with an image. Where none is named, it is the one that was there first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// x86 of 64 bits, with BIOS or UEFI.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// ARM of 64 bits, with UEFI.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// There is no image for an architecture of this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no stage 1 for {text:?}: x86_64 and aarch64 are known")]
pub struct ArchitectureError {
    text: String,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Its name, as uname(2) tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Where its files lie below the folder of boot files, and its boot scripts below those of x86-64, which was there first and has no folder of
    /// its own.
    pub fn folder(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => None,
            Self::Aarch64 => Some(self.name()),
        }
    }

    /// The folder of its boot files, where those of all architectures lie in `images`.
    pub fn within(self, images: &Path) -> PathBuf {
        match self.folder() {
            None => images.to_owned(),
            Some(name) => images.join(name),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, ArchitectureError> {
        let found = Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == text);
        found.ok_or_else(|| ArchitectureError {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_in_texts_and_in_json() {
        for architecture in Architecture::ALL {
            assert_eq!(architecture.name().parse::<Architecture>().unwrap(), architecture);
            assert_eq!(
                serde_json::to_string(&architecture).unwrap(),
                format!("\"{architecture}\"")
            );
        }
        assert!("arm64".parse::<Architecture>().is_err());
    }
}
