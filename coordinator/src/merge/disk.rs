//! The disk that is installed on: the first of those that were asked for on which everything has room.

use super::Lender;
use super::problems::Problems;
use crate::search;
use leaseboot_protocol::hardware::Disk;

const MIB: u64 = 1 << 20;
/// Partition tables and the gap for the boot loader, in MiB.
const TABLES_MIB: u64 = 2;

/// What the partitions need.
#[derive(Clone, Debug, Default)]
pub(super) struct Need<'a> {
    mib: u64,
    largest: Option<(u64, usize, &'a str)>,
}

impl<'a> Need<'a> {
    /// That of a whole image, which no line tells.
    pub(super) fn of_image(bytes: u64) -> Self {
        let mib = bytes.div_ceil(MIB);
        Self { mib, largest: None }
    }

    /// Adds a partition of `mib` that is said in this line.
    pub(super) fn add(&mut self, mib: u64, number: usize, text: &'a str) {
        self.mib = self.mib.saturating_add(mib);
        if self.largest.is_none_or(|(most, ..)| mib > most) {
            self.largest = Some((mib, number, text));
        }
    }
}

/// The disk, or `None` after a problem.
pub(super) fn choose<'a>(
    lender: &Lender<'a>,
    need: &Need<'_>,
    problems: &mut Problems<'_>,
) -> Option<&'a Disk> {
    let needed = need.mib.saturating_add(TABLES_MIB);
    let disks = search::disks_asked_for(lender.requirements, &lender.hardware.disks);
    let Some(disk) = disks.iter().find(|disk| disk.size_bytes / MIB >= needed) else {
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
        match need.largest.filter(|_| most.is_some()) {
            Some((_, number, text)) => problems.line(number, text, message),
            None => problems.general(message),
        }
        return None;
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b);
    if disk.by_id.is_empty() || !disk.by_id.bytes().all(plain) {
        problems.general(format!(
            "the disk {} of the server {} has no name below /dev/disk/by-id that an installer can use: the lender must check its serial number",
            disk.name, lender.server
        ));
        return None;
    }
    Some(disk)
}
