//! Autoinstall: the lender's lines are put into the enterprise's YAML where the keys of each mapping begin.
//!
//! | key below `autoinstall` | owner |
//! |---|---|
//! | `network`, `zdevs`, `storage.layout.match`, disks in `storage.config`, `storage.grub` | lender |
//! | `storage.layout` without `match`, partitions on `device: lender-disk`, volumes, formats, mounts | enterprise |
//! | `identity.hostname` | enterprise, and the lease's settings say the same |
//! | `late-commands` | both: the enterprise's commands, then the member's tunnel |
//! | `shutdown` | lender; the enterprise may say `reboot` |
//! | everything else, inside and beside `autoinstall` | enterprise |
//!
//! Lines can only be put between lines, so the mappings that both sides write must stand in block style. The result is read again and
//! must be the enterprise's tree with the lender's keys in it, or the merge is refused: the same look that the PO takes.

mod lender;
mod ownership;
mod place;
mod secrets;
mod sizes;

use super::problems::Problems;
use super::{Lender, Placed, disk};
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::yaml::{self, Node};
use lender::LenderKeys;

/// cloud-init takes a file for its own by this first line, and for a template by others.
const HEADER: &str = "#cloud-config";
/// What partitions name as their device, and the lender's disk is called.
pub(super) const DISK_ID: &str = "lender-disk";

/// The enterprise's text, read.
struct Document<'a> {
    lines: Vec<&'a str>,
    /// All of it.
    root: Node,
}

impl<'a> Document<'a> {
    fn read(text: &'a str, problems: &mut Problems<'_>) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let line = |number: usize| lines.get(number - 1).copied().unwrap_or_default();
        if line(1).trim_end() != HEADER {
            problems.line(
                1,
                line(1),
                format!("the first line must be {HEADER}, by which cloud-init knows the file"),
            );
            return None;
        }
        if let Some(index) = lines.iter().position(|line| line.contains(is_foreign)) {
            let message = "the line has a control character: take it out".to_owned();
            problems.line(index + 1, lines[index], message);
            return None;
        }
        match yaml::parse(text) {
            Err(error) => {
                problems.line(error.line, line(error.line), error.problem);
                None
            }
            Ok(root) if root.get("autoinstall").is_some_and(Node::is_block_mapping) => {
                Some(Self { lines, root })
            }
            Ok(root) => {
                let at = root.entry("autoinstall").map_or(1, |(key, _)| key.line);
                let message =
                    "the text must have a key autoinstall with its own keys on lines of their own below it"
                        .to_owned();
                problems.line(at, line(at), message);
                None
            }
        }
    }

    fn autoinstall(&self) -> &Node {
        self.root
            .get("autoinstall")
            .expect("looked at when the text was read")
    }

    fn line(&self, number: usize) -> &'a str {
        self.lines
            .get(number.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// What YAML of one version takes for a line's end and the other does not, and what a terminal would not show.
fn is_foreign(character: char) -> bool {
    (character.is_control() && character != '\t') || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

pub(super) fn merge(
    lender: &Lender<'_>,
    settings: &InstallSettings,
    origin: &str,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let document = Document::read(&settings.kickstart, problems)?;
    let need = sizes::need(&document, problems);
    let disk = disk::choose(lender, &need, problems).map(|disk| disk.by_id.as_str());
    let keys = LenderKeys::new(lender, origin, disk.unwrap_or("unknown"));
    ownership::check(&document, settings, &keys, problems);
    if lender.tenant.sealed_secrets {
        secrets::check(&document, problems);
    }
    if !problems.is_empty() {
        return None;
    }
    let lines = place::join(&document, settings, &keys, problems)?;
    disk.map(|disk| Placed {
        lines,
        disk: disk.to_owned(),
    })
}

/// Looks for secrets in the open in user data that belongs to no installer. What is not YAML cannot be looked at.
pub(super) fn demand_seals(text: &str, problems: &mut Problems<'_>) {
    let first = text.lines().next().unwrap_or_default();
    if first.trim_end() != HEADER {
        let message = format!(
            "the tenant's terms demand that secrets are sealed, and only a text that begins with {HEADER} can be looked at"
        );
        return problems.line(1, first, message);
    }
    match yaml::parse(text) {
        Ok(root) => secrets::check_tree(&root, problems),
        Err(error) => {
            let line = text.lines().nth(error.line.saturating_sub(1));
            problems.line(error.line, line.unwrap_or_default(), error.problem);
        }
    }
}

#[cfg(test)]
mod tests;
