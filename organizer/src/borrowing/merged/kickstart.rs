//! The PO's look at a merged kickstart before it consents: the enterprise's own text is all there, in order, with its sections
//! untouched, and what came in between is of the lender's making by right.
//!
//! The lender may add, outside of the enterprise's sections:
//!
//! - comments and empty lines;
//! - commands about its hardware and its wire (`LENDER_COMMANDS`), with the options that such a command needs and no other;
//! - one `%post --nochroot` that does nothing but leave the member's tunnel in the installed system.
//!
//! One line may be written by both: see `is_shared_boot_loader`.
//!
//! Everything else is refused by name: a `%pre`, a user, a repository, an `init=` on the installed system's command line.

use super::MergeObjection;
use crate::borrowing::kickstart::{self, Item};
use leaseboot_protocol::MEMBER_INSTALL;
use leaseboot_protocol::ids::Hostname;

/// Commands that are the lender's, each with the options that it may use.
const LENDER_COMMANDS: [(&str, &[&str]); 6] = [
    (
        "network",
        &[
            "--device",
            "--bootproto",
            "--ip",
            "--netmask",
            "--gateway",
            "--mtu",
            "--vlanid",
            "--onboot",
            "--activate",
            "--no-activate",
            "--noipv4",
            "--noipv6",
            "--ipv6",
            "--ipv6gateway",
            "--nodefroute",
            "--nodns",
            "--hostname",
        ],
    ),
    ("ignoredisk", &["--only-use", "--drives"]),
    (
        "clearpart",
        &["--all", "--none", "--initlabel", "--drives", "--disklabel"],
    ),
    ("zerombr", &[]),
    ("reboot", &[]),
    (
        "bootloader",
        &[
            "--location",
            "--boot-drive",
            "--driveorder",
            "--timeout",
            "--append",
        ],
    ),
];
/// Options of the lender's `%post`.
const POST_OPTIONS: [&str; 4] = ["--nochroot", "--erroronfail", "--log", "--interpreter"];
/// Kernel parameters that are about the lender's hardware.
const KERNEL_PARAMETERS: [&str; 2] = ["console", "panic"];

/// Compares a merged kickstart with the enterprise's; tells how many lines the lender added.
pub(super) fn check(ours: &str, merged: &str, hostname: &Hostname) -> Result<usize, MergeObjection> {
    let ours = kickstart::parse(ours).map_err(MergeObjection::Ours)?;
    let merged = kickstart::parse(merged).map_err(MergeObjection::Theirs)?;
    let mut expected = ours.iter().filter(|item| !is_blank(item)).peekable();
    let mut added = 0;
    let mut continued = false;
    for item in merged.iter().filter(|item| !is_blank(item)) {
        if expected
            .next_if(|next| same(next, item) || is_shared_boot_loader(next, item, hostname))
            .is_some()
        {
            continued = text_of(item).ends_with('\\');
            continue;
        }
        if continued {
            return Err(objection(item, "it continues the enterprise's line before it"));
        }
        allowed(item, hostname).map_err(|reason| match expected.peek() {
            // What is neither ours nor allowed is most often ours, changed.
            Some(next) if first_word(next) == first_word(item) => lost(next),
            _ => objection(item, &reason),
        })?;
        added += match item {
            Item::Line { .. } => 1,
            Item::Section { body, .. } => body.len() + 2,
        };
    }
    match expected.next() {
        Some(missing) => Err(lost(missing)),
        None => Ok(added),
    }
}

fn lost(item: &Item<'_>) -> MergeObjection {
    MergeObjection::Lost {
        line: number_of(item),
        text: text_of(item).to_owned(),
    }
}

fn objection(item: &Item<'_>, reason: &str) -> MergeObjection {
    MergeObjection::Added {
        line: number_of(item),
        text: text_of(item).to_owned(),
        reason: reason.to_owned(),
    }
}

fn number_of(item: &Item<'_>) -> usize {
    let (Item::Line { number, .. } | Item::Section { number, .. }) = item;
    *number
}

fn text_of<'a>(item: &Item<'a>) -> &'a str {
    let (Item::Line { text, .. } | Item::Section { header: text, .. }) = item;
    text.trim()
}

fn first_word<'a>(item: &Item<'a>) -> Option<&'a str> {
    text_of(item).split_whitespace().next()
}

fn is_blank(item: &Item<'_>) -> bool {
    matches!(item, Item::Line { text, .. } if text.trim().is_empty())
}

fn same(ours: &Item<'_>, theirs: &Item<'_>) -> bool {
    match (ours, theirs) {
        (Item::Line { text: a, .. }, Item::Line { text: b, .. }) => a.trim_end() == b.trim_end(),
        (
            Item::Section {
                header: a, body: x, ..
            },
            Item::Section {
                header: b, body: y, ..
            },
        ) => a.trim_end() == b.trim_end() && x == y,
        _ => false,
    }
}

/// A `bootloader` line of the enterprise is the one line that both sides write: the enterprise's words stand in it as they were,
/// those before and after are the lender's, and the lender's kernel parameters follow the enterprise's.
fn is_shared_boot_loader(ours: &Item<'_>, theirs: &Item<'_>, hostname: &Hostname) -> bool {
    let read = |item: &Item<'_>| match item {
        Item::Line { text, .. } => split_append(words(text).ok()?),
        Item::Section { .. } => None,
    };
    let (Some((ours, our_append)), Some((theirs, their_append))) = (read(ours), read(theirs)) else {
        return false;
    };
    let (ours, theirs) = (strs(&ours), strs(&theirs));
    let (["bootloader", ours @ ..], ["bootloader", theirs @ ..]) = (ours.as_slice(), theirs.as_slice())
    else {
        return false;
    };
    let at = match ours.len() {
        0 => Some(0),
        length => theirs.windows(length).position(|window| window == ours),
    };
    let (Some(at), Some(append)) = (at, their_append.strip_prefix(&our_append)) else {
        return false;
    };
    if !(append.is_empty() || our_append.is_empty() || append.starts_with(' ')) {
        return false;
    }
    let mut rest = vec!["bootloader".to_owned()];
    rest.extend(
        theirs[..at]
            .iter()
            .chain(&theirs[at + ours.len()..])
            .map(|&word| word.to_owned()),
    );
    rest.push(format!("--append={append}"));
    allowed_command(&rest, hostname).is_ok()
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A command's words without `--append`, and its value; nothing when it stands there twice.
fn split_append(words: Vec<String>) -> Option<(Vec<String>, String)> {
    let mut rest = Vec::new();
    let mut append = None;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--append") {
            Some("") => words.next(),
            Some(value) if value.starts_with('=') => Some(value[1..].to_owned()),
            _ => {
                rest.push(word);
                continue;
            }
        };
        if append.replace(value?).is_some() {
            return None;
        }
    }
    Some((rest, append.unwrap_or_default()))
}

/// Whether the lender may add `item`; the error is the reason why not.
fn allowed(item: &Item<'_>, hostname: &Hostname) -> Result<(), String> {
    match item {
        Item::Line { text, .. } if text.trim_start().starts_with('#') => Ok(()),
        Item::Line { text, .. } => allowed_command(&words(text)?, hostname),
        Item::Section { header, body, .. } => allowed_post(header, body),
    }
}

fn allowed_command(words: &[String], hostname: &Hostname) -> Result<(), String> {
    let (command, arguments) = words.split_first().ok_or("it is empty")?;
    let (_, options) = LENDER_COMMANDS
        .iter()
        .find(|(name, _)| name == command)
        .ok_or_else(|| format!("{command} is the enterprise's to say"))?;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (argument.as_str(), None),
        };
        if !options.contains(&option) {
            return Err(format!("{option} is not the lender's to set"));
        }
        match option {
            "--append" => allowed_append(value.or_else(|| arguments.next().map(String::as_str)))?,
            "--hostname" if value != Some(hostname.as_str()) => {
                return Err(format!("the enterprise named the server {hostname}"));
            }
            // `--option value` is as good as `--option=value`; the value follows as a word of its own.
            _ if value.is_none() => {
                if let Some(next) = arguments.as_slice().first()
                    && !next.starts_with('-')
                {
                    arguments.next();
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn allowed_append(value: Option<&str>) -> Result<(), String> {
    let parameters = value.ok_or("--append has no value")?.split_whitespace();
    for parameter in parameters {
        let name = parameter.split('=').next().unwrap_or_default();
        if !KERNEL_PARAMETERS.contains(&name) {
            return Err(format!(
                "the kernel parameter {parameter} is not about the lender's hardware"
            ));
        }
    }
    Ok(())
}

/// The lender's `%post` runs the agent's `member install`, and nothing else.
fn allowed_post(header: &str, body: &[&str]) -> Result<(), String> {
    let header = words(header)?;
    let (section, options) = header.split_first().ok_or("it is empty")?;
    if section != "%post" {
        return Err(format!("{section} is the enterprise's to say"));
    }
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, "/bin/sh"));
        let shell = name != "--interpreter" || matches!(value, "/bin/sh" | "/bin/bash");
        if !POST_OPTIONS.contains(&name) || !shell {
            return Err(format!("{option} is not an option of the lender's %post"));
        }
    }
    let mut commands = body
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    match commands.find(|line| *line != MEMBER_INSTALL) {
        Some(line) => Err(format!("its line `{line}` is not `{MEMBER_INSTALL}`")),
        None => Ok(()),
    }
}

/// The words of a line as pykickstart's shlex sees them, without a comment at the end. Backslashes are refused: they could hide
/// where a line ends.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (_, '\\') => return Err("it has a backslash".to_owned()),
            (Some(open), close) if open == close => quote = None,
            (Some(_), inner) => word.get_or_insert_default().push(inner),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(character);
            }
            (None, '#') => break,
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (None, plain) => word.get_or_insert_default().push(plain),
        }
    }
    if quote.is_some() {
        return Err("it has a quotation mark that is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
#[path = "kickstart_tests.rs"]
mod tests;
