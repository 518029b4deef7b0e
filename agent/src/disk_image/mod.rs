//! A tenant's disk image on its way to the lender's disk.
//!
//! ```text
//! gateway ─ stream ─► pieces ─► writer (a thread of its own)
//!                               digest agrees? ─► zstd ─► blocks: zeros are made by the disk, the rest is written,
//!                                    │                            the first megabyte stays in memory
//!                                    └ no: refused                              │ all is there and agreed
//!                                                                               ▼
//!            partition table grown, in memory ─► root's partition shown to the kernel ─► mounted ─► member left in it ─► unmounted
//!                                                                               │
//!                                                    copy of the table, then the first megabyte ─► Bootable
//! ```
//!
//! The order is the point. Before the first byte comes, the disk's own beginning and end are zeroed; the image's beginning is the last thing written. So whatever
//! happens in between, a byte that is not the tenant's or a power cut, leaves a disk that no firmware boots.
//! [`Written`] and [`Bootable`] are the proofs: neither can be made but by the step before it.
//!
//! | module | does |
//! |---|---|
//! | [`stream`] | fetches the pieces, takes broken connections up again |
//! | [`writer`] | checks, decodes and writes them, within bounded memory |
//! | [`target`] | the disk: which one it is, zeros, writes |
//! | [`root`] | finds and mounts the image's root file system |
//! | [`system_calls`] | two ioctls |
//!
//! Why a tenant's own file system may be mounted here: decision 31.

mod root;
mod stream;
mod system_calls;
mod target;
mod writer;

use crate::blob::{self, BlobError};
use crate::console::say;
use crate::gateway::{Gateway, GatewayError};
use crate::report::Progress;
use leaseboot_protocol::disk_image::{ChunkList, ChunkListError, DiskImage, HEAD, LARGEST, list_length};
use leaseboot_protocol::gpt::{Gpt, GptError, Partition};
pub(crate) use root::{Root, RootError};
use std::io;
pub(crate) use target::{Target, TargetError};
use tokio::sync::mpsc;

/// Pieces between fetching and writing: one is written while the next ones come.
const PIECES_UNDER_WAY: usize = 2;

/// Why an image is not on the disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The numbers that came with it contradict each other.
    #[error("the enterprise's word about its disk image makes no sense: {what}")]
    Nonsense {
        /// What is wrong.
        what: &'static str,
    },
    /// The list of digests.
    #[error("the list of the disk image's digests is not here")]
    List(#[source] BlobError),
    /// The list, once it is here.
    #[error("cannot read the list of the disk image's digests back from memory")]
    Memory(#[source] io::Error),
    /// The list is another stream's.
    #[error("the list of the disk image's digests cannot be used")]
    Chunks(#[source] ChunkListError),
    /// The connection kept failing.
    #[error("the disk image stopped at byte {at} of {size}, and attempts to go on brought nothing")]
    Stuck {
        /// Bytes so far.
        at: u64,
        /// Bytes in all.
        size: u64,
        /// The last attempt's error.
        #[source]
        source: Box<GatewayError>,
    },
    /// A piece is not what was promised.
    #[error(
        "piece {number} of the disk image is not what the enterprise promised; it was not used, and the disk was not made bootable"
    )]
    Digest {
        /// Counted from 0, of 4 MiB each.
        number: usize,
    },
    /// Not zstd, or a window that is too large.
    #[error("the disk image cannot be decompressed")]
    Decode(#[source] io::Error),
    /// More or less than promised.
    #[error(
        "the disk image has {found} bytes where the enterprise promised {promised}; the disk was not made bootable"
    )]
    Length {
        /// What the PO told.
        promised: u64,
        /// What came at least.
        found: u64,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] TargetError),
    /// The table.
    #[error("the disk image's partitions cannot be used")]
    Table(#[from] GptError),
    /// The writer's thread broke.
    #[error("the disk's writer broke off")]
    Writer(#[source] tokio::task::JoinError),
}

impl ImageError {
    /// Whether another attempt is pointless.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            ImageError::Stuck { .. } | ImageError::Writer(_) => false,
            ImageError::List(error) => error.is_final(),
            ImageError::Disk(error) => error.is_final(),
            _ => true,
        }
    }
}

/// The image is on the disk and agreed, all but its first megabyte.
pub(crate) struct Written {
    target: Target,
    head: Box<[u8; HEAD]>,
    table: Gpt,
}

/// The partition table that the disk will have, and the disk that does not boot yet.
pub(crate) struct Grown {
    written: Written,
    last: Partition,
}

/// The disk boots into the image.
#[must_use = "the server has to be sent to its disk"]
pub(crate) struct Bootable(());

/// Fetches, checks and writes `image`.
pub(crate) async fn write(
    gateway: Gateway,
    image: &DiskImage,
    disk: &str,
    progress: &Progress,
) -> Result<Written, ImageError> {
    check_sizes(image)?;
    let list = blob::fetch(&[gateway], &image.chunks, progress).await;
    let list = list.map_err(ImageError::List)?.into_bytes();
    let list = list.map_err(ImageError::Memory)?;
    let list = ChunkList::read(&list, image.stream.size).map_err(ImageError::Chunks)?;
    let target = Target::open(disk)?;
    target.holds(image.size)?;
    say!("disk image: {} bytes go to {}", image.size, target.name());
    let size = image.size;
    let (pieces, received) = mpsc::channel(PIECES_UNDER_WAY);
    let writer = tokio::task::spawn_blocking(move || writer::run(target, &list, size, received));
    let fetched = stream::run(gateway, image, pieces, progress).await;
    // A writer that failed closes the channel, and its reason is the better one.
    let written = writer.await.map_err(ImageError::Writer)?;
    fetched?;
    let (target, head) = written?;
    let table = Gpt::read(&head[..], size)?;
    Ok(Written { target, head, table })
}

/// What bounds everything that follows.
fn check_sizes(image: &DiskImage) -> Result<(), ImageError> {
    let what = match image {
        _ if image.size > LARGEST || image.stream.size > LARGEST => "it is larger than any disk",
        _ if image.size < HEAD as u64 * 2 => "it is too small to hold a partition table and a partition",
        _ if !image.size.is_multiple_of(512) => "its length is not one of whole sectors",
        _ if image.chunks.size != list_length(image.stream.size) => {
            "its list of digests has the wrong length"
        }
        _ => return Ok(()),
    };
    Err(ImageError::Nonsense { what })
}

impl Written {
    /// Lets the last partition take the rest of the disk. The disk does not know it yet.
    pub(crate) fn grow(mut self) -> Result<Grown, ImageError> {
        let last = self.table.grow(self.target.size())?;
        Ok(Grown { written: self, last })
    }
}

impl Grown {
    /// The image's root file system, mounted.
    pub(crate) fn mount_root(&self) -> Result<Root, RootError> {
        root::mount(
            &self.written.target,
            &self.written.table.partitions(),
            self.last.number,
        )
    }

    /// Writes what was held back: the table's copy at the disk's end, then the first megabyte.
    pub(crate) fn make_bootable(self) -> Result<Bootable, TargetError> {
        let Written {
            target,
            mut head,
            table,
        } = self.written;
        let (at, copy) = table.backup();
        target.write(at, &copy)?;
        target.sync()?;
        table.write_primary(&mut head);
        target.write(0, &head[..])?;
        target.sync()?;
        Ok(Bootable(()))
    }
}

#[cfg(test)]
mod tests;
