//! Which servers a tenant gets: the smallest that are sufficient, so that large ones stay free for those who need them.
//!
//! Pure and deterministic: the same servers and requirements give the same answer. Servers are parsed once, when they change, into an
//! [`Index`] that is kept in the order of their size; requirements are parsed once, into a [`Query`]. A search then goes through the servers
//! from the smallest on:
//!
//! ```text
//! HardwareReport ─► Shape ─┐ interned: servers of one model share it ──► Columns ──┐        Requirements ─► Query, a list of checks
//! labels ──────► Labels ───┤ interned: servers of one rack share them ─► Postings ─┤                            │
//!                          └─► Index, sorted ───────────────────────────────── Judge: a set of bits for each check
//! ```
//!
//! A check is answered for all shapes, or all sets of labels, at once, so it does not matter much whether a fleet is of forty models or has no two servers
//! alike. Only that several disks, cards or devices are there *together* is found out one by one, of the shapes that meet all else. What "better" means: first the
//! weight of the tenant's preferences, then the size (accelerators, memory, cores, disks, Ethernet cards), then the name. For several servers
//! see [`Index::choose`].
//!
//! When nothing fits, the answer says what is in the way, counted over the free servers, without naming any of them.

mod answer;
mod bits;
mod check;
mod choose;
mod columns;
mod index;
mod intern;
mod judge;
mod matching;
mod postings;
mod query;
mod shape;

pub use index::{Candidate, Index};
pub use query::Query;

use leaseboot_protocol::hardware::Disk;
use leaseboot_protocol::requirements::{DiskRequirement, Requirements};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Memory that is plugged in, in MiB, from what the kernel manages of it: kernels keep two to five percent for themselves, so a server sold
/// as 2048 MiB reports some 1960. A sixteenth is added.
pub fn plugged_in_mib(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_add(memory_bytes / 16) / MIB
}

/// The disks of a server that the first requirement asks for, or all when there is none.
pub fn disks_asked_for<'a>(requirements: &Requirements, disks: &'a [Disk]) -> Vec<&'a Disk> {
    let asked = |disk: &&Disk| match requirements.disks.first() {
        Some(wanted) => suits(wanted, disk.size_bytes, disk.kind),
        None => true,
    };
    disks.iter().filter(asked).collect()
}

fn suits(wanted: &DiskRequirement, size_bytes: u64, kind: leaseboot_protocol::hardware::DiskKind) -> bool {
    size_bytes >= wanted.min_size_gib.saturating_mul(GIB) && wanted.kind.is_none_or(|asked| asked == kind)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
