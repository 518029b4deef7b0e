//! The compressions of an initrd, as streams of bounded memory.
//!
//! A window that a stranger's header asks for is granted up to what the kernel itself would use (lib/decompress_unzstd.c: 128 MiB), xz dictionaries up to
//! what `xz -9` makes. Each decoder ends with its stream and leaves what follows to the next reader. All but zstd's are safe Rust.

use super::source::Source;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read};

/// log2 of the largest zstd window in bytes.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for an xz stream in KiB: a dictionary of 64 MiB and the decoder's own.
const XZ_MEMORY_KIB: u32 = 66 << 10;
/// The blocks of lz4's legacy format, unpacked (lib/decompress_unlz4.c).
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
    /// lz4 in its legacy format, which is the kernel's.
    Lz4,
    /// bzip2, which is not looked into.
    Bzip2,
    /// LZMA, which is not looked into.
    Lzma,
    /// LZO, which is not looked into.
    Lzo,
    /// A compression that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Compression {
    /// What these first bytes announce (lib/decompress.c); `None` for bytes that begin no initrd.
    pub(super) fn of(ahead: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 10] = [
            (b"070701", Self::None),
            (b"070702", Self::None),
            (b"\x1f\x8b", Self::Gzip),
            (b"\x1f\x9e", Self::Gzip),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (&LZ4_MAGIC, Self::Lz4),
            (b"BZh", Self::Bzip2),
            (b"\x5d\0\0", Self::Lzma),
            (b"\x89LZO", Self::Lzo),
        ];
        let found = known.into_iter().find(|(magic, _)| ahead.starts_with(magic));
        found.map(|(_, compression)| compression)
    }

    /// The unpacked bytes of the stream that begins here; `None` for one that is not looked into.
    pub(super) fn decoder<'a, R: Read>(
        self,
        source: &'a mut Source<R>,
    ) -> io::Result<Option<Box<dyn Read + 'a>>> {
        Ok(match self {
            Self::None => Some(Box::new(source)),
            Self::Gzip => Some(Box::new(flate2::bufread::GzDecoder::new(source))),
            Self::Xz => Some(Box::new(lzma_rust2::XzReader::new_mem_limit(
                source,
                false,
                XZ_MEMORY_KIB,
            ))),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Some(Box::new(decoder))
            }
            Self::Lz4 => Some(Box::new(Lz4::new(source)?)),
            Self::Bzip2 | Self::Lzma | Self::Lzo | Self::Unknown => None,
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "not compressed",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Unknown => "unknown",
        })
    }
}

/// lz4's legacy format: the magic, and blocks, each after its length. It ends with the file, or where a length makes no sense: there the next archive,
/// or its padding, begins.
struct Lz4<'a, R> {
    source: &'a mut Source<R>,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
    end: usize,
}

impl<'a, R: Read> Lz4<'a, R> {
    fn new(source: &'a mut Source<R>) -> io::Result<Self> {
        let mut magic = [0; 4];
        source.read_exact(&mut magic)?;
        Ok(Self {
            source,
            packed: Vec::new(),
            block: vec![0; LZ4_BLOCK],
            at: 0,
            end: 0,
        })
    }

    fn next_block(&mut self) -> io::Result<()> {
        (self.at, self.end) = (0, 0);
        let Ok(length) = <[u8; 4]>::try_from(self.source.peek(4)?) else {
            return Ok(());
        };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        // A block that cannot be packed grows by less than this (lz4's LZ4_compressBound).
        if length == 0 || length > LZ4_BLOCK + LZ4_BLOCK / 255 + 16 {
            return Ok(());
        }
        let mut head = [0; 4];
        self.source.read_exact(&mut head)?;
        self.packed.resize(length, 0);
        self.source.read_exact(&mut self.packed)?;
        let unpacked = lz4_flex::block::decompress_into(&self.packed, &mut self.block);
        self.end = unpacked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(())
    }
}

impl<R: Read> Read for Lz4<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            self.next_block()?;
        }
        let length = (self.end - self.at).min(into.len());
        into[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
