//! Profiles, images and keys: what a borrowing reads when it begins, and what the daemon reads when it starts.

use super::Finding;
use crate::config::{Image, PoConfig, Profile};
use crate::error_chain;
use crate::gateway;
use crate::images::arguments;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::settings::{Blob, TenantImage};
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
                findings.push(Finding::ok("profile", &name));
                findings.extend(doubtful_arguments(&name, &profile));
                if images.insert(profile.image.files.clone()) {
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

/// Words of which nothing is known are no error: releases add some.
fn doubtful_arguments(name: &str, profile: &Profile) -> Vec<Finding> {
    let Installer::Kickstart { syntax } = profile.installer else {
        return Vec::new();
    };
    let objections = arguments::examine(syntax, profile.image.command_line().unwrap_or_default());
    let warning = |objection: arguments::Objection| {
        let found = format!("the command line of {name}'s image has {objection}");
        Finding::warning(
            "command line",
            found,
            "look it up in docs/installers.md, or leave it",
        )
    };
    objections.into_iter().map(warning).collect()
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
    let folder = image.files.folder().unwrap_or(Path::new("")).display();
    let short = |blob: &Blob| blob.sha256.to_string().chars().take(12).collect::<String>();
    let parts = match image.measure() {
        Ok(TenantImage::Installer(image)) => [image.kernel, image.initrd],
        Ok(TenantImage::Disk(image)) => [image.stream, image.chunks],
        Err(error) => {
            return Finding::problem("image", error_chain(&error), "put the boot image's files there");
        }
    };
    if parts.iter().any(|part| part.size == 0) {
        let found = format!("a file in {folder} is empty");
        return Finding::problem("image", found, "put the boot image's files there again");
    }
    let found = format!("{folder}: sha256 {}…, {}…", short(&parts[0]), short(&parts[1]));
    Finding::ok("image", found)
}
