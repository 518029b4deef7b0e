//! Where an autoinstall text can hold a secret: under these keys, wherever they stand.

use super::Document;
use crate::merge::problems::Problems;
use crate::merge::sealing;
use leaseboot_protocol::yaml::Node;

const KEYS: [&str; 10] = [
    "password",
    "passwd",
    "hashed_passwd",
    "plain_text_passwd",
    "hashed-passwd",
    "plain-text-passwd",
    "token",
    "key",
    "secret",
    "admin-password",
];

pub(super) fn check(document: &Document<'_>, problems: &mut Problems<'_>) {
    check_tree(&document.root, problems);
}

/// The same for a tree that is no autoinstall: cloud-init knows secrets by the same keys.
pub(super) fn check_tree(root: &Node, problems: &mut Problems<'_>) {
    let mut waiting = vec![root];
    while let Some(node) = waiting.pop() {
        waiting.extend(node.items());
        for (key, value) in node.entries() {
            match (key.text(), value.text()) {
                (Some(name), Some(text)) if KEYS.contains(&name) => {
                    sealing::demand(text, name, value.line, problems)
                }
                (Some(name @ ("chpasswd" | "password")), None) if value.get("list").is_some() => {
                    let list = value.get("list").and_then(Node::text).unwrap_or("a list");
                    sealing::demand(list, &format!("{name}.list"), value.line, problems);
                }
                _ => waiting.push(value),
            }
        }
    }
}
