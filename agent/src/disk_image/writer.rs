//! The writer: what agrees with its digest goes through the decoder to the disk. Blocks, and therefore nothing of it runs among the agent's tasks.
//!
//! Memory: the pieces under way (4 MiB each), the decoder's window (at most 128 MiB, as the image's maker chose it), one block.

use super::ImageError;
use super::target::Target;
use leaseboot_protocol::disk_image::{ChunkList, HEAD, WINDOW_LOG};
use std::io::{self, Write};
use tokio::sync::mpsc;

/// What is written, or found to be zeros, at once; the first block is the one that is held back.
const BLOCK: usize = HEAD;
/// Zeros are asked of the disk in runs of at most this many blocks, so that no single call takes minutes.
const LONGEST_RUN: u64 = 256;

/// Takes pieces until there are no more. Gives the disk back, and its beginning, which is not on it.
pub(super) fn run(
    target: Target,
    list: &ChunkList,
    size: u64,
    mut pieces: mpsc::Receiver<Vec<u8>>,
) -> Result<(Target, Box<[u8; HEAD]>), ImageError> {
    target.spoil()?;
    let blocks = Blocks::new(target, size);
    let mut decoder = zstd::stream::write::Decoder::new(blocks).map_err(ImageError::Decode)?;
    decoder.window_log_max(WINDOW_LOG).map_err(ImageError::Decode)?;
    let mut number = 0;
    while let Some(piece) = pieces.blocking_recv() {
        if !list.agrees(number, &piece) {
            return Err(ImageError::Digest { number });
        }
        let decoded = decoder.write_all(&piece);
        decoded.map_err(|error| decoder.get_mut().reason(error))?;
        number += 1;
    }
    let flushed = decoder.flush();
    flushed.map_err(|error| decoder.get_mut().reason(error))?;
    decoder.into_inner().finish()
}

/// The decoder's way out: bytes become blocks of the disk.
struct Blocks {
    target: Target,
    size: u64,
    block: Vec<u8>,
    /// Where the block begins.
    at: u64,
    /// Zeros before the block that are not on the disk yet, in bytes.
    zeros: u64,
    head: Option<Box<[u8; HEAD]>>,
    /// Why a write failed: the decoder hands on an `io::Error` only.
    failure: Option<ImageError>,
}

impl Blocks {
    fn new(target: Target, size: u64) -> Self {
        Self {
            target,
            size,
            block: Vec::with_capacity(BLOCK),
            at: 0,
            zeros: 0,
            head: None,
            failure: None,
        }
    }

    /// Our own reason where there is one; otherwise the decoder's.
    fn reason(&mut self, error: io::Error) -> ImageError {
        self.failure.take().unwrap_or(ImageError::Decode(error))
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        let found = self.at + (self.block.len() + bytes.len()) as u64;
        if found > self.size {
            return Err(ImageError::Length {
                promised: self.size,
                found,
            });
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.put_block()?;
            }
        }
        Ok(())
    }

    fn put_block(&mut self) -> Result<(), ImageError> {
        let length = self.block.len() as u64;
        if self.at == 0 {
            // From the heap to the heap: a thread's stack has no room for it.
            self.head = self.block.clone().into_boxed_slice().try_into().ok();
        } else if is_zero(&self.block) {
            self.zeros += length;
            if self.zeros >= LONGEST_RUN * BLOCK as u64 {
                self.at += length;
                self.block.clear();
                return self.put_zeros();
            }
        } else {
            self.put_zeros()?;
            self.target.write(self.at, &self.block)?;
        }
        self.at += length;
        self.block.clear();
        Ok(())
    }

    /// The zeros end where the present block begins.
    fn put_zeros(&mut self) -> Result<(), ImageError> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros > 0 {
            self.target.zero(self.at - zeros..self.at)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Target, Box<[u8; HEAD]>), ImageError> {
        if !self.block.is_empty() {
            self.put_block()?;
        }
        self.put_zeros()?;
        self.target.sync()?;
        match self.head {
            Some(head) if self.at == self.size => Ok((self.target, head)),
            _ => Err(ImageError::Length {
                promised: self.size,
                found: self.at,
            }),
        }
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::Error::other("the disk takes no more"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    // In pieces that the compiler compares as a whole.
    block
        .chunks(4096)
        .all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}
