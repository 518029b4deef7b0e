//! Disk images: taken in, looked at, and checked again.
//!
//! ```text
//! a raw image ─ compressed ─┐
//!                           ├─► disk.raw.zst, hashed as a whole and by pieces ─► decoded to its end: length, partition table ─► disk.json, image.toml
//! one behind zstd ─ copied ─┘                     └─► disk.chunks
//! ```
//!
//! Raw and zstd, and nothing else: what other formats hold is found out by parsers that hostile images have broken again and again (Ironic's CVE-2024-44082), and
//! whoever has such an image has the program that makes it raw. Of the content only the partition table is looked at, by bounded reads.

use super::FileError;
use super::intake::{AddError, Copy, Nascent, check_name, make_folder, write};
use super::record::{Pinned, VerifyError, pin, unchanged};
use super::shelf;
use super::signature::{Kind, PublicKey};
use crate::config::{DiskFile, ImageFiles};
use leaseboot_protocol::disk_image::{CHUNK, HEAD, LARGEST, WINDOW_LOG};
use leaseboot_protocol::gpt::Gpt;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const STREAM: &str = "disk.raw.zst";
const CHUNKS: &str = "disk.chunks";
const SIGNATURE: &str = "disk.raw.zst.sig";
const SIGNER: &str = "signer.pub";
const RECORD: &str = "disk.json";
const LONGEST_RECORD: u64 = 1 << 20;
const ZSTD: &[u8; 4] = b"\x28\xb5\x2f\xfd";
/// What the compressor takes for images that come raw: its usual level is faster than any disk that it is written to.
const LEVEL: i32 = 3;
/// Stage 1, the pieces under way and the largest window of a decoder, in MiB.
const NEED_MIB: u64 = 512;
/// The beginnings of what people also call disk images.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "VMDK"),
    (b"conectix", "VHD"),
    (b"vhdxfile", "VHDX"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ", "xz"),
];

/// What is to be added.
#[derive(Clone, Debug)]
pub struct WantedDisk {
    /// The image's name.
    pub name: String,
    /// The image, raw or behind zstd.
    pub disk: PathBuf,
    /// The machine that it is built for, as uname(2) names it.
    pub architecture: Option<String>,
    /// Memory that a server needs to be written to, in MiB; absent for what suffices for every image.
    pub min_memory_mib: Option<u64>,
    /// Its maker's signature over the compressed file, and the key that made it.
    pub signature: Option<(PathBuf, PathBuf)>,
}

/// What was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// When.
    pub added: Timestamp,
    /// The compressed image.
    pub stream: Pinned,
    /// The digests of its pieces.
    pub chunks: Pinned,
    /// Length of the image when it is not compressed, in bytes.
    pub size: u64,
    /// How many partitions it has.
    pub partitions: usize,
    /// The kind of the signature that was good.
    #[serde(default)]
    pub signed: Option<Kind>,
}

impl DiskRecord {
    /// The record of the disk image in `folder`.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn read(folder: &Path) -> Result<Self, VerifyError> {
        let path = folder.join(RECORD);
        let mut text = Vec::new();
        let opened = File::open(&path).map_err(FileError::of("open", &path))?;
        let read = opened.take(LONGEST_RECORD).read_to_end(&mut text);
        read.map_err(FileError::of("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| VerifyError::Content { path, source })
    }

    /// Where the files of the disk image in `folder` are.
    pub fn files(folder: &Path) -> ImageFiles {
        ImageFiles::Disk {
            disk: folder.join(STREAM),
            chunks: folder.join(CHUNKS),
        }
    }
}

/// Adds a disk image to the folder `images`. Blocks for as long as copying, compressing and decoding take.
///
/// # Errors
/// [`AddError`]; there is no image of this name then.
pub fn add(images: &Path, wanted: &WantedDisk) -> Result<DiskRecord, AddError> {
    check_name(&wanted.name)?;
    make_folder(images)?;
    let _lock = shelf::lock(images)?;
    let nascent = Nascent::begin(images, &wanted.name)?;
    let record = fill(nascent.fresh(), wanted)?;
    nascent.keep(images)?;
    Ok(record)
}

fn fill(fresh: &Path, wanted: &WantedDisk) -> Result<DiskRecord, AddError> {
    let (stream, digests) = take(&fresh.join(STREAM), wanted)?;
    let signed = check_signature(fresh, wanted, stream.size)?;
    write(&fresh.join(CHUNKS), &digests)?;
    let chunks = pin(&fresh.join(CHUNKS))?;
    let (size, table) = examine(&fresh.join(STREAM), &wanted.disk)?;
    let toml = toml::to_string(&DiskFile {
        disk: true,
        min_memory_mib: wanted.min_memory_mib.unwrap_or(NEED_MIB),
        architecture: wanted.architecture.clone(),
    });
    write(
        &fresh.join("image.toml"),
        toml.expect("text and a number are TOML").as_bytes(),
    )?;
    let record = DiskRecord {
        added: crate::now(),
        stream,
        chunks,
        size,
        partitions: table.partitions().len(),
        signed,
    };
    let json = serde_json::to_vec_pretty(&record).expect("a record is JSON");
    write(&fresh.join(RECORD), &json)?;
    Ok(record)
}

/// Copies the image, compressing it on the way unless it is; gives the digests of the pieces of the result.
fn take(to: &Path, wanted: &WantedDisk) -> Result<(Pinned, Vec<u8>), AddError> {
    let from = &wanted.disk;
    let mut copy = Copy::begin(to)?.in_pieces(CHUNK);
    let mut source = Copy::source(from)?;
    let mut first = [0; 8];
    let length = read_up_to(&mut source, &mut first).map_err(FileError::of("read", from))?;
    let first = &first[..length];
    if let Some((_, format)) = FOREIGN.iter().find(|(magic, _)| first.starts_with(magic)) {
        let path = from.clone();
        return Err(AddError::Format { path, format });
    }
    let whole = first.chain(source).take(LARGEST + 1);
    let taken = match first.starts_with(ZSTD) {
        true => pour(whole, &mut copy),
        false if wanted.signature.is_some() => return Err(AddError::SignedRaw),
        false => compress(whole, &mut copy),
    };
    let taken = taken.map_err(FileError::of("copy", from))?;
    if taken > LARGEST {
        return Err(AddError::TooLong {
            path: from.clone(),
            limit: LARGEST,
        });
    }
    Ok(copy.finish_with_pieces()?)
}

fn read_up_to(source: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match source.read(&mut bytes[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn compress(from: impl Read, to: &mut Copy) -> io::Result<u64> {
    let mut encoder = zstd::stream::write::Encoder::new(to, LEVEL)?;
    encoder.include_checksum(true)?;
    let taken = pour(from, &mut encoder)?;
    encoder.finish()?;
    Ok(taken)
}

fn pour(mut from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    let (mut buffer, mut taken) = (vec![0; 1 << 20], 0);
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(taken);
        }
        to.write_all(&buffer[..length])?;
        taken += length as u64;
    }
}

/// Before anything is looked at. The signature and the key are kept with the image.
fn check_signature(fresh: &Path, wanted: &WantedDisk, size: u64) -> Result<Option<Kind>, AddError> {
    let Some((signature, public_key)) = &wanted.signature else {
        return Ok(None);
    };
    let key = PublicKey::read(public_key)?;
    key.check(&fresh.join(STREAM), size, signature)?;
    for (from, name) in [(signature, SIGNATURE), (public_key, SIGNER)] {
        let mut copy = Copy::begin(&fresh.join(name))?;
        copy.append(from, 1 << 20)?;
        copy.finish()?;
    }
    Ok(Some(key.kind()))
}

/// The length of the image, and its partition table.
fn examine(stream: &Path, named: &Path) -> Result<(u64, Gpt), AddError> {
    let file = File::open(stream).map_err(FileError::of("open", stream))?;
    let undecodable = |source| AddError::Decode {
        path: named.to_owned(),
        source,
    };
    let mut decoder = zstd::Decoder::new(file).map_err(undecodable)?;
    decoder.window_log_max(WINDOW_LOG).map_err(undecodable)?;
    let mut decoder = decoder.take(LARGEST + 512);
    let mut head = vec![0; HEAD];
    let length = read_up_to(&mut decoder, &mut head).map_err(undecodable)?;
    let rest = pour(decoder, &mut io::sink()).map_err(undecodable)?;
    let size = length as u64 + rest;
    if size > LARGEST {
        return Err(AddError::TooLong {
            path: named.to_owned(),
            limit: LARGEST,
        });
    }
    let table = match size.is_multiple_of(512) && size >= 2 * HEAD as u64 {
        true => Gpt::read(&head, size),
        false => Err(leaseboot_protocol::gpt::GptError::None),
    };
    let table = table.map_err(|source| AddError::Table {
        path: named.to_owned(),
        source,
    })?;
    Ok((size, table))
}

/// Reads the files of the disk image in `folder` to their ends, and checks digests and signature. `trusted` takes the place of the key that was
/// kept with the image.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(folder: &Path, trusted: Option<&Path>) -> Result<DiskRecord, VerifyError> {
    let record = DiskRecord::read(folder)?;
    for (name, pinned) in [(STREAM, record.stream), (CHUNKS, record.chunks)] {
        unchanged(folder.join(name), pinned)?;
    }
    if record.signed.is_some() || trusted.is_some() {
        let kept = folder.join(SIGNER);
        let key = PublicKey::read(trusted.unwrap_or(&kept))?;
        key.check(&folder.join(STREAM), record.stream.size, &folder.join(SIGNATURE))?;
    }
    Ok(record)
}
