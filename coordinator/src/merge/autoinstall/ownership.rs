//! Who may say which key.

use super::lender::{LenderKeys, Topic};
use super::{DISK_ID, Document};
use crate::merge::problems::Problems;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::yaml::Node;
use std::collections::BTreeSet;

/// Keys below `autoinstall` that subiquity's schema knows (autoinstall-schema.json of 24.04 and later).
const KNOWN: [&str; 34] = [
    "version",
    "early-commands",
    "reporting",
    "error-commands",
    "user-data",
    "packages",
    "debconf-selections",
    "locale",
    "refresh-installer",
    "kernel",
    "kernel-crash-dumps",
    "keyboard",
    "source",
    "network",
    "proxy",
    "apt",
    "storage",
    "identity",
    "ssh",
    "snaps",
    "active-directory",
    "ubuntu-advantage",
    "ubuntu-pro",
    "drivers",
    "oem",
    "codecs",
    "timezone",
    "updates",
    "shutdown",
    "late-commands",
    "interactive-sections",
    "zdevs",
    "install",
    "mirror",
];
/// Actions of `storage.config` that are disks.
const DISKS: [&str; 4] = ["disk", "dasd", "nvme_controller", "bcache"];

pub(super) fn check(
    document: &Document<'_>,
    settings: &InstallSettings,
    keys: &LenderKeys<'_>,
    problems: &mut Problems<'_>,
) {
    let autoinstall = document.autoinstall();
    for (key, value) in autoinstall.entries() {
        let name = key.text().unwrap_or_default();
        let mut line = |message: String| problems.line(key.line, document.line(key.line), message);
        match name {
            "version" if value.text() != Some("1") => {
                line("version must be 1, the only one there is".to_owned())
            }
            "interactive-sections" => {
                line("interactive-sections would stop and ask: leave it out".to_owned())
            }
            "network" => clash(document, key, keys, Topic::Network, "network", problems),
            "zdevs" => clash(document, key, keys, Topic::Disk, "zdevs", problems),
            "shutdown" if value.text() != Some("reboot") => {
                clash(document, key, keys, Topic::Shutdown, "shutdown", problems);
            }
            "late-commands" if !value.is_block_sequence() => {
                line("late-commands is written by both sides: give each command a line of its own that begins with -".to_owned());
            }
            name if !KNOWN.contains(&name) => line(format!("there is no autoinstall key {name:?}")),
            _ => {}
        }
    }
    if autoinstall.get("version").is_none() {
        problems.general("autoinstall has no version: write version: 1".to_owned());
    }
    check_identity(document, settings, problems);
    match autoinstall.entry("storage") {
        Some((key, storage)) => check_storage(document, key, storage, keys, problems),
        None => problems.general(
            "autoinstall has no storage, so the installer would choose a disk by itself: write storage with layout: and its name:".to_owned(),
        ),
    }
}

fn clash(
    document: &Document<'_>,
    key: &Node,
    keys: &LenderKeys<'_>,
    topic: Topic,
    what: &str,
    problems: &mut Problems<'_>,
) {
    let message = format!("{what} is the lender's to say: leave it out");
    problems.clash(key.line, document.line(key.line), keys.line(topic), message);
}

/// The server's name, in whichever of the two places it stands.
fn check_identity(document: &Document<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    let autoinstall = document.autoinstall();
    let sections = ["identity", "user-data"].map(|name| autoinstall.get(name));
    if sections.iter().all(Option::is_none) {
        problems.general(
            "autoinstall has neither identity nor user-data, so the installer would stop and ask for a user"
                .to_owned(),
        );
    }
    let names: Vec<&Node> = sections
        .into_iter()
        .flatten()
        .filter_map(|section| section.get("hostname"))
        .collect();
    if names.is_empty() {
        problems.general(format!(
            "autoinstall does not name the server: write hostname: {} below identity, or below user-data",
            settings.hostname
        ));
    }
    for name in names
        .iter()
        .filter(|name| name.text() != Some(settings.hostname.as_str()))
    {
        let message = format!(
            "the text names the server {:?}, the lease's settings name it {:?}: say the same",
            name.text().unwrap_or_default(),
            settings.hostname.as_str()
        );
        problems.line(name.line, document.line(name.line), message);
    }
}

fn check_storage(
    document: &Document<'_>,
    key: &Node,
    storage: &Node,
    keys: &LenderKeys<'_>,
    problems: &mut Problems<'_>,
) {
    let layout = storage.get("layout");
    let config = storage.get("config");
    let (shared, in_block, what) = match (layout, config) {
        (Some(layout), None) => (layout, layout.is_block_mapping(), "storage.layout"),
        (None, Some(config)) => (config, config.is_block_sequence(), "storage.config"),
        _ => {
            let message = "storage must have either layout or config, and neither empty".to_owned();
            return problems.line(key.line, document.line(key.line), message);
        }
    };
    if !storage.is_block_mapping() || !in_block {
        let message = format!(
            "{what} is written by both sides: give each key and each item a line of its own, without {{}} and []"
        );
        return problems.line(shared.line, document.line(shared.line), message);
    }
    if let Some((key, _)) = storage.entry("grub") {
        clash(document, key, keys, Topic::Disk, "storage.grub", problems);
    }
    if let Some(layout) = layout {
        for name in ["match", "install-media", "reset-partition"] {
            if let Some((key, _)) = layout.entry(name) {
                clash(
                    document,
                    key,
                    keys,
                    Topic::Match,
                    &format!("storage.layout.{name}"),
                    problems,
                );
            }
        }
        return;
    }
    check_actions(document, shared, keys, problems);
}

fn check_actions(document: &Document<'_>, config: &Node, keys: &LenderKeys<'_>, problems: &mut Problems<'_>) {
    let mut ids: BTreeSet<&str> = BTreeSet::from([DISK_ID]);
    for action in config.items() {
        let text = |name: &str| action.get(name).and_then(Node::text).unwrap_or_default();
        let line = action.entries().first().map_or(action.line, |(key, _)| key.line);
        if DISKS.contains(&text("type")) {
            let topic = keys.line(Topic::Disk);
            let message = format!(
                "disks are the lender's to say: leave this {} out, and let its partitions say device: {DISK_ID}",
                text("type")
            );
            problems.clash(line, document.line(line), topic, message);
        } else if text("type") == "partition" && !ids.contains(text("device")) {
            let message = format!(
                "there is no disk {:?}: the lender's is called {DISK_ID}",
                text("device")
            );
            problems.line(line, document.line(line), message);
        } else if !ids.insert(text("id")) {
            problems.line(
                line,
                document.line(line),
                format!("the id {:?} is there already", text("id")),
            );
        }
    }
}
