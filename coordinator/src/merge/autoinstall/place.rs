//! Where the lender's lines go, and the look at the result.

use super::lender::{LenderKeys, Topic};
use super::{DISK_ID, Document};
use crate::merge::problems::Problems;
use crate::merge::provenance::{LineOwner, MergedLine, Sheet, text_of};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::yaml::{self, Node};

/// Lines that go before one of the enterprise's.
struct Insertion {
    /// The enterprise's line, counted from 1; one more than there are means the end.
    before: usize,
    owner: LineOwner,
    /// Of the lender's lines.
    number: usize,
    text: String,
    why: &'static str,
}

/// The merged lines; `None` after a problem.
pub(super) fn join(
    document: &Document<'_>,
    settings: &InstallSettings,
    keys: &LenderKeys<'_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<MergedLine>> {
    let insertions = insertions(document, keys);
    let mut sheet = Sheet::new(&settings.kickstart_origin, keys.origin, document.lines.len());
    let mut waiting = insertions.iter().peekable();
    for number in 1..=document.lines.len() + 1 {
        while let Some(insertion) = waiting.next_if(|insertion| insertion.before == number) {
            match insertion.owner {
                LineOwner::Lender => sheet.lender(insertion.number, insertion.text.as_str(), insertion.why),
                _ => sheet.agreed(insertion.text.as_str()),
            }
        }
        if let Some(line) = document.lines.get(number - 1) {
            sheet.enterprise(number, line);
        }
    }
    let lines = sheet.finish();
    if reads_well(document, &lines) {
        return Some(lines);
    }
    problems.general(
        "the lender's lines cannot be put between the lines of the text without changing it: write autoinstall, storage and late-commands in plain block style"
            .to_owned(),
    );
    None
}

/// In the order of their lines.
fn insertions(document: &Document<'_>, keys: &LenderKeys<'_>) -> Vec<Insertion> {
    let autoinstall = document.autoinstall();
    let (first, column) = (autoinstall.line, autoinstall.column);
    let mut found = Vec::new();
    lenders(&mut found, keys, Topic::Network, first, column);
    let storage = autoinstall.get("storage");
    if let Some(layout) = storage.and_then(|storage| storage.get("layout")) {
        lenders(&mut found, keys, Topic::Match, layout.line, layout.column);
    }
    if let Some((key, _)) = storage.and_then(|storage| storage.entry("config")) {
        let (line, column) = first_dash(document, key.line);
        lenders(&mut found, keys, Topic::Disk, line, column);
    }
    match autoinstall.entry("late-commands") {
        Some((key, _)) => {
            let (_, column) = first_dash(document, key.line);
            agreed(
                &mut found,
                end_of(document, key),
                column,
                format!("- {}", member_install()),
            );
        }
        None => {
            agreed(&mut found, first, column, "late-commands:".to_owned());
            agreed(&mut found, first, column, format!("- {}", member_install()));
        }
    }
    found.sort_by_key(|insertion| insertion.before);
    found
}

fn member_install() -> &'static str {
    Installer::Autoinstall {}.member_install()
}

fn lenders(found: &mut Vec<Insertion>, keys: &LenderKeys<'_>, topic: Topic, before: usize, column: usize) {
    let (number, text, why) = keys.key(topic);
    let indent = " ".repeat(column);
    for text in [format!("{indent}# lender: {why}"), format!("{indent}{text}")] {
        found.push(Insertion {
            before,
            owner: LineOwner::Lender,
            number,
            text,
            why,
        });
    }
}

fn agreed(found: &mut Vec<Insertion>, before: usize, column: usize, text: String) {
    found.push(Insertion {
        before,
        owner: LineOwner::Agreed,
        number: 1,
        text: format!("{}{text}", " ".repeat(column)),
        why: "",
    });
}

/// Line and column of the first `-` below a key: comments may stand between.
fn first_dash(document: &Document<'_>, key: usize) -> (usize, usize) {
    let below = (key + 1..).zip(&document.lines[key.min(document.lines.len())..]);
    let mut dashes = below.filter(|(_, line)| line.trim_start().starts_with('-'));
    dashes.next().map_or((key, 0), |(number, line)| {
        (number, line.len() - line.trim_start().len())
    })
}

/// The line before which the value of a key below `autoinstall` is over: that of the next key, here or above.
fn end_of(document: &Document<'_>, key: &Node) -> usize {
    let later = |(other, _): &&(Node, Node)| other.line > key.line;
    let next = document.autoinstall().entries().iter().find(later);
    let next = next.or_else(|| document.root.entries().iter().find(later));
    next.map_or(document.lines.len() + 1, |(next, _)| next.line)
}

/// Whether the merged text is the enterprise's tree with nothing but the lender's keys in it.
fn reads_well(document: &Document<'_>, lines: &[MergedLine]) -> bool {
    let Ok(mut merged) = yaml::parse(&text_of(lines)) else {
        return false;
    };
    let Some(autoinstall) = merged.get_mut("autoinstall") else {
        return false;
    };
    autoinstall.remove("network");
    if let Some(storage) = autoinstall.get_mut("storage") {
        storage.get_mut("layout").map(|layout| layout.remove("match"));
        storage.get_mut("config").map(|config| {
            config.remove_item(|action| action.get("id").and_then(Node::text) == Some(DISK_ID))
        });
    }
    if document.autoinstall().get("late-commands").is_none() {
        autoinstall.remove("late-commands");
    } else if let Some(late) = autoinstall.get_mut("late-commands") {
        late.remove_item(|command| command.text() == Some(member_install()));
    }
    merged.means_the_same(&document.root)
}
