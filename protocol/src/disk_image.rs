//! A whole disk as an image: raw bytes behind zstd, pinned piece by piece.
//!
//! ```text
//! stream   |--- CHUNK ---|--- CHUNK ---|- rest -|      zstd (RFC 8878), one frame or several
//! chunks     SHA-256       SHA-256       SHA-256        32 bytes each; its own digest stands in DiskImage::chunks
//! ```
//!
//! Nothing that came from a network is parsed before it was checked, and a decoder is a parser; a digest over the whole stream would be known only when
//! everything had been decoded and written. So the stream is cut into pieces that fit into memory, each has its digest, and the list of them is pinned. The
//! first megabyte of the disk, which alone makes it bootable, is written after the last piece agreed.

use crate::digest::Sha256;
use crate::settings::Blob;
use serde::{Deserialize, Serialize};

/// Length of a piece of the stream, in bytes; the last may be shorter.
pub const CHUNK: usize = 4 << 20;
/// What is held back until everything agreed, in bytes from the disk's beginning: boot sector and partition table.
pub const HEAD: usize = 1 << 20;
/// The largest window that a decoder keeps, as a power of two in bytes: what `zstd --long` makes, and what `zstd -d` takes without being asked.
pub const WINDOW_LOG: u32 = 27;
/// More disk than anybody lends, in bytes: it bounds the list of digests.
pub const LARGEST: u64 = 1 << 44;

const DIGEST: usize = 32;

/// A raw disk image, compressed by zstd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskImage {
    /// The compressed image.
    pub stream: Blob,
    /// The SHA-256 of each [`CHUNK`] bytes of the stream, one after the other.
    pub chunks: Blob,
    /// Length of the image when it is not compressed, in bytes.
    pub size: u64,
}

/// The digests of the pieces of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkList(Vec<[u8; DIGEST]>);

/// A list of digests does not fit its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list of digests has {found} bytes, and a stream of {size} bytes needs {needed}")]
pub struct ChunkListError {
    found: usize,
    size: u64,
    needed: u64,
}

/// How long the list for a stream of `size` bytes is, in bytes.
pub fn list_length(size: u64) -> u64 {
    size.div_ceil(CHUNK as u64) * DIGEST as u64
}

impl ChunkList {
    /// Reads the list for a stream of `size` bytes.
    ///
    /// # Errors
    /// [`ChunkListError`].
    pub fn read(bytes: &[u8], size: u64) -> Result<Self, ChunkListError> {
        let needed = list_length(size);
        let (digests, rest) = bytes.as_chunks::<DIGEST>();
        if bytes.len() as u64 != needed || !rest.is_empty() {
            let found = bytes.len();
            return Err(ChunkListError { found, size, needed });
        }
        Ok(Self(digests.to_vec()))
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the stream is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `chunk` is the piece of this number, counted from 0.
    pub fn agrees(&self, number: usize, chunk: &[u8]) -> bool {
        self.0.get(number) == Some(Sha256::of(chunk).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_long_as_its_stream_demands() {
        assert_eq!(list_length(0), 0);
        assert_eq!(list_length(1), 32);
        assert_eq!(list_length(CHUNK as u64), 32);
        assert_eq!(list_length(CHUNK as u64 + 1), 64);
        for wrong in [0, 31, 33, 64] {
            assert!(ChunkList::read(&vec![0; wrong], 7).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_piece_is_known_by_its_place_and_its_bytes() {
        let digests = [Sha256::of(b"one"), Sha256::of(b"two")];
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
        let list = ChunkList::read(&bytes, CHUNK as u64 + 3).unwrap();
        assert!(list.agrees(0, b"one") && list.agrees(1, b"two"));
        assert!(!list.agrees(1, b"one") && !list.agrees(0, b"onf") && !list.agrees(2, b"two"));
    }
}
