//! Profiles, images and keys: what a borrowing reads when it begins, and what the daemon reads when it starts.

use super::Finding;
use crate::config::{Image, PoConfig, Profile};
use crate::error_chain;
use crate::gateway;
use std::collections::BTreeSet;
use std::path::Path;

/// The gateway's key, every profile, and every image that a profile names, read to its end.
pub(super) fn examine(config: &PoConfig) -> Vec<Finding> {
    let mut findings = vec![key(&config.gateway.private_key)];
    let names = profiles(&config.folder);
    if names.is_empty() {
        let remedy = "make profiles/NAME with profile.toml and a kickstart, and images/NAME with image.toml";
        findings.push(Finding::warning("profiles", "there are none", remedy));
    }
    let mut images: BTreeSet<_> = BTreeSet::new();
    for name in names {
        match Profile::load(&config.folder, &name) {
            Ok(profile) => {
                findings.push(Finding::ok("profile", name));
                if images.insert(profile.image.kernel.clone()) {
                    findings.push(image(&profile.image));
                }
            }
            Err(error) => {
                let remedy = format!("nothing can be borrowed by {name:?} before that is corrected");
                findings.push(Finding::problem("profile", error_chain(&error), remedy));
            }
        }
    }
    findings
}

fn profiles(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder.join("profiles"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

fn key(path: &Path) -> Finding {
    match gateway::read_key(path) {
        Ok(key) => Finding::ok("gateway key", format!("the public key is {}", key.public())),
        Err(error) => {
            let remedy = "put the key back from its backup, or make a new folder with `leaseboot-po init`";
            Finding::problem("gateway key", error_chain(&error), remedy)
        }
    }
}

fn image(image: &Image) -> Finding {
    match image.measure() {
        Ok(measured) if measured.kernel.size == 0 || measured.initrd.size == 0 => {
            let found = format!("{} or its initrd is empty", image.kernel.display());
            Finding::problem("image", found, "put the boot image's files there again")
        }
        Ok(measured) => {
            let short = |digest: String| digest.chars().take(12).collect::<String>();
            let found = format!(
                "{}: sha256 {}…, initrd {}…",
                image.kernel.display(),
                short(measured.kernel.sha256.to_string()),
                short(measured.initrd.sha256.to_string())
            );
            Finding::ok("image", found)
        }
        Err(error) => Finding::problem("image", error_chain(&error), "put the boot image's files there"),
    }
}
