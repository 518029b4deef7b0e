//! `manifest.json`: what was made, of what.
//!
//! The LM serves the files that it names and no others, after checking their digests. No times and no paths of the building
//! host: the manifest is as reproducible as the rest.

use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The file's name in `target/image/`.
pub const FILE: &str = "manifest.json";

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What runs it.
    pub architecture: Architecture,
    /// Every file made, sorted by name.
    pub files: Vec<MadeFile>,
    /// The kernel's release, such as `6.1.0-56-amd64`.
    pub kernel: String,
    /// The agent before compression.
    pub agent: MadeFile,
    /// Number of kernel modules in the image.
    pub modules: usize,
    /// What it was made of: Debian packages with their versions, and `rustc`.
    pub inputs: BTreeMap<String, String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFile {
    /// Path relative to the manifest, such as `grub/core.efi`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Sha256,
}

impl MadeFile {
    /// Describes a content.
    pub fn of(name: impl Into<String>, content: &[u8]) -> Self {
        Self {
            name: name.into(),
            size: content.len() as u64,
            sha256: Sha256::of(content),
        }
    }
}

impl Manifest {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<&MadeFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The text for the file, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers are always valid JSON");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        let manifest = Manifest {
            architecture: Architecture::X86_64,
            files: vec![
                MadeFile::of("grub/core.0", b"core"),
                MadeFile::of("vmlinuz", b"kernel"),
            ],
            kernel: "6.1.0-56-amd64".to_owned(),
            agent: MadeFile::of("leaseboot-agent", b"agent"),
            modules: 7,
            inputs: [("rustc".to_owned(), "rustc 1.95.0".to_owned())].into(),
        };
        let text = manifest.to_json();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        assert_eq!(manifest.file("vmlinuz").unwrap().size, 6);
        assert!(text.contains(&Sha256::of(b"kernel").to_string()));
    }
}
