//! What the partitions need, and whether the logical volumes have room in their groups.

use super::reader::{Command, Script};
use crate::merge::Lender;
use crate::merge::disk::Need;
use crate::merge::problems::Problems;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

/// The sum of all `part` lines. A `--recommended` or `--hibernation` size is the installer's to find.
pub(super) fn need<'a>(script: &Script<'a>, problems: &mut Problems<'_>) -> Need<'a> {
    let mut need = Need::default();
    for command in partitions(script) {
        if let Some(mib) = size(command, problems) {
            need.add(mib, command.number, command.text);
        }
    }
    need
}

fn partitions<'s, 'a>(script: &'s Script<'a>) -> impl Iterator<Item = &'s Command<'a>> {
    let all = script.commands.iter();
    all.filter(|command| matches!(command.name(), "part" | "partition"))
}

/// `--size` in MiB; a problem when it is no number.
fn size(command: &Command<'_>, problems: &mut Problems<'_>) -> Option<u64> {
    let size = command.option("--size")?;
    let mib = size.parse().ok();
    if mib.is_none() {
        let message = format!("--size={size} is not a number of MiB");
        problems.line(command.number, command.text, message);
    }
    mib
}

/// Each volume group is made of physical volumes (`part pv.01`, `raid pv.01`); its volumes cannot be larger together.
pub(super) fn check_volumes(
    script: &Script<'_>,
    lender: &Lender<'_>,
    disk: Option<&str>,
    problems: &mut Problems<'_>,
) {
    let disks = lender.hardware.disks.iter();
    let whole = disks
        .filter(|known| Some(known.by_id.as_str()) == disk)
        .map(|disk| disk.size_bytes / MIB)
        .next();
    let (Some(whole), true) = (whole, script.named("volgroup").next().is_some()) else {
        return;
    };
    let volumes = physical_volumes(script, whole);
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for command in script.named("volgroup") {
        let mut names = command.words[1..].iter().filter(|word| !word.starts_with("--"));
        let Some(group) = names.next() else { continue };
        let room = names.map(|name| volumes.get(name.as_str()).copied().unwrap_or(whole));
        groups.insert(group, room.fold(0u64, u64::saturating_add));
    }
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for command in script.named("logvol") {
        let (Some(mib), Some(group)) = (size(command, problems), command.option("--vgname")) else {
            continue;
        };
        let Some(&room) = groups.get(group) else { continue };
        let sum = used.entry(group).or_default();
        *sum = sum.saturating_add(mib);
        if *sum > room {
            let message = format!(
                "the logical volumes of {group} need {sum} MiB up to this line, and its physical volumes have {room} MiB: make them smaller, or the pv larger"
            );
            problems.line(command.number, command.text, message);
        }
    }
}

/// The most that each physical volume can have: its size, or up to `--maxsize` or the whole disk when it grows.
fn physical_volumes<'s>(script: &'s Script<'_>, whole: u64) -> BTreeMap<&'s str, u64> {
    let number =
        |command: &Command<'_>, name: &str| command.option(name).and_then(|value| value.parse().ok());
    let room = |command: &'s Command<'_>| {
        let name = command.words.get(1)?.as_str();
        let grows = command
            .options()
            .any(|option| option == "--grow" || option == "--percent");
        let most = if grows {
            number(command, "--maxsize").unwrap_or(whole)
        } else {
            number(command, "--size")?
        };
        name.starts_with("pv.").then_some((name, most.min(whole)))
    };
    partitions(script).filter_map(room).collect()
}
