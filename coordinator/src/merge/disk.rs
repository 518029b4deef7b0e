//! The disk that is installed on: the first of those that were asked for on which all partitions have room.

use super::reader::{Command, Script};
use super::{Lender, Problems};
use crate::search;

const MIB: u64 = 1 << 20;
/// Partition tables and the gap for the boot loader, in MiB.
const TABLES_MIB: u64 = 2;

/// The name below `/dev/disk/by-id`, or `None` after a problem.
pub(super) fn choose<'a>(
    lender: &Lender<'a>,
    script: &Script<'_>,
    problems: &mut Problems<'_>,
) -> Option<&'a str> {
    let (needed, largest) = needed_mib(script, problems);
    let disks = search::disks_asked_for(lender.requirements, &lender.hardware.disks);
    let roomy = disks.iter().find(|disk| disk.size_bytes / MIB >= needed);
    let Some(disk) = roomy else {
        let most = disks.iter().map(|disk| disk.size_bytes / MIB).max();
        let message = match most {
            Some(most) => format!(
                "all partitions need {needed} MiB and the largest disk that was asked for has {most} MiB: make them smaller, or ask for a larger disk in the requirements"
            ),
            None => format!(
                "the server {} has no disk of the kind and size that was asked for",
                lender.server
            ),
        };
        match largest.filter(|_| most.is_some()) {
            Some(part) => problems.line(part.number, part.text, message),
            None => problems.general(message),
        }
        return None;
    };
    let plain = disk
        .by_id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b));
    if disk.by_id.is_empty() || !plain {
        problems.general(format!(
            "the disk {} of the server {} has no name below /dev/disk/by-id that a kickstart can use: the lender must check its serial number",
            disk.name, lender.server
        ));
        return None;
    }
    Some(&disk.by_id)
}

/// What all `part` lines need, and the one that needs most.
fn needed_mib<'s, 'a>(script: &'s Script<'a>, problems: &mut Problems<'_>) -> (u64, Option<&'s Command<'a>>) {
    let (mut needed, mut largest) = (TABLES_MIB, None);
    for command in script
        .commands
        .iter()
        .filter(|command| matches!(command.name(), "part" | "partition"))
    {
        let Some(size) = command.option("--size") else {
            continue;
        };
        match size.parse::<u64>() {
            Ok(size) => {
                needed = needed.saturating_add(size);
                if largest.is_none_or(|(most, _)| size > most) {
                    largest = Some((size, command));
                }
            }
            Err(_) => {
                let message = format!("--size={size} is not a number of MiB");
                problems.line(command.number, command.text, message);
            }
        }
    }
    (needed, largest.map(|(_, command)| command))
}
