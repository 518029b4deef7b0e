//! Takes an image in. See the chart in [`super`]; a step that fails leaves nothing but a hidden folder, which goes with the guard or with the next intake.

use super::FileError;
use super::examine::archive::Budget;
use super::examine::init_of;
use super::examine::initrd::{self, InitrdError};
use super::examine::kernel::{self, KernelError};
use super::examine::ways::{self, Obstacle, Ways};
use super::record::{INITRD, INITRD_SIGNATURE, KERNEL, KERNEL_SIGNATURE, Pinned, Record, SIGNER};
use super::shelf::{self, is_name};
use super::signature::{Kind, PublicKey, SignatureError};
use leaseboot_protocol::digest::Hasher;
use leaseboot_protocol::gpt::GptError;
use nix::fcntl::OFlag;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No distribution's kernel is as long, in bytes.
const LONGEST_KERNEL: u64 = 256 << 20;
/// Nor its initrd: the agent keeps it in memory.
const LONGEST_INITRD: u64 = 2 << 30;
const MIB: u64 = 1 << 20;
/// What an installer needs beside its unpacked initrd, when nobody says better, in MiB.
const USUAL_NEED_MIB: u64 = 512;

/// Signatures of the image's maker over its files.
#[derive(Clone, Debug)]
pub struct Signatures {
    /// That of the kernel.
    pub kernel: PathBuf,
    /// That of the initrd, without further modules.
    pub initrd: PathBuf,
    /// The key that made both.
    pub public_key: PathBuf,
}

/// What is to be added.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The image's name.
    pub name: String,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initrd's file.
    pub initrd: PathBuf,
    /// An archive with further modules and their lists, to go behind the initrd.
    pub modules: Option<PathBuf>,
    /// The command line that the image's makers want.
    pub command_line: String,
    /// Memory that it needs in MiB; absent for an estimate.
    pub min_memory_mib: Option<u64>,
    /// Its maker's word.
    pub signatures: Option<Signatures>,
    /// Whether it is added although this version cannot use it.
    pub anyway: bool,
}

/// What was added.
#[derive(Debug)]
pub struct Added {
    /// What is kept about it.
    pub record: Record,
    /// How it will be used.
    pub ways: Ways,
    /// What `image.toml` says of memory, in MiB.
    pub min_memory_mib: u64,
}

/// An image was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Not a name.
    #[error("{0:?} cannot be an image's name: 1 to 64 letters, digits, '-', '_' and '.', no '.' first")]
    Name(String),
    /// There is one.
    #[error(
        "there is an image {0:?} already; remove it first, or choose another name: borrowings go on with the one that they began with"
    )]
    Taken(String),
    /// More than one line.
    #[error("the command line has more than one line; the kernel takes one")]
    CommandLine,
    /// A file cannot be copied.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not an ordinary file.
    #[error("{} is no ordinary file", .0.display())]
    NotAFile(PathBuf),
    /// Too long.
    #[error("{} is longer than {limit} bytes, which no image needs", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The signature is not good.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Not a kernel.
    #[error("the kernel {} cannot be used", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// Not an initrd.
    #[error("the initrd {} cannot be used", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: InitrdError,
    },
    /// Another format.
    #[error("{} is {format}, and only raw disk images are taken, as they are or behind zstd: make it raw (qemu-img convert -O raw, or decompress it)", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
    },
    /// A signature over what is not kept.
    #[error("the signature must be over the file that is kept: compress the raw image (zstd), and sign that")]
    SignedRaw,
    /// Not zstd.
    #[error("the disk image {} cannot be decompressed: give it raw, or behind zstd with a window of at most 128 MiB", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No partitions, or none that can be believed.
    #[error("the disk image {} cannot be used", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: GptError,
    },
    /// This version has no way for it.
    #[error("this version of leaseboot cannot use the image, and it was not added (--anyway adds it): {}", list(.0))]
    Unusable(Vec<Obstacle>),
}

fn list(obstacles: &[Obstacle]) -> String {
    let words: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    words.join("; ")
}

#[derive(Serialize)]
struct ImageToml<'a> {
    command_line: &'a str,
    min_memory_mib: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
}

/// The folder of an image in the making; it disappears unless it is kept. The folder of images must be locked.
pub(super) struct Nascent {
    fresh: PathBuf,
    folder: PathBuf,
    kept: bool,
}

impl Nascent {
    /// Makes the hidden folder for an image that there is not yet.
    pub(super) fn begin(images: &Path, name: &str) -> Result<Self, AddError> {
        let (folder, fresh) = shelf::folder_of(images, name);
        if folder.exists() {
            return Err(AddError::Taken(name.to_owned()));
        }
        fs::create_dir(&fresh).map_err(FileError::of("make", &fresh))?;
        let kept = false;
        Ok(Self { fresh, folder, kept })
    }

    /// The hidden folder.
    pub(super) fn fresh(&self) -> &Path {
        &self.fresh
    }

    /// Brings it to the disk and gives it its name.
    pub(super) fn keep(mut self, images: &Path) -> Result<(), FileError> {
        shelf::sync(&self.fresh)?;
        fs::rename(&self.fresh, &self.folder).map_err(FileError::of("make", &self.folder))?;
        self.kept = true;
        shelf::sync(images)
    }
}

impl Drop for Nascent {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is swept by the next intake.
            let _ = fs::remove_dir_all(&self.fresh);
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), AddError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(AddError::Name(name.to_owned())),
    }
}

pub(super) fn make_folder(images: &Path) -> Result<(), FileError> {
    fs::create_dir_all(images).map_err(FileError::of("make", images))
}

/// Adds an image to the folder `images`. Blocks for as long as copying and reading take.
///
/// # Errors
/// [`AddError`]; there is no image of this name then.
pub fn add(images: &Path, wanted: &Wanted) -> Result<Added, AddError> {
    check_name(&wanted.name)?;
    if wanted.command_line.contains(['\n', '\0']) {
        return Err(AddError::CommandLine);
    }
    make_folder(images)?;
    let _lock = shelf::lock(images)?;
    let nascent = Nascent::begin(images, &wanted.name)?;
    let added = fill(nascent.fresh(), wanted)?;
    nascent.keep(images)?;
    Ok(added)
}

fn fill(fresh: &Path, wanted: &Wanted) -> Result<Added, AddError> {
    let kernel_path = fresh.join(KERNEL);
    let mut copy = Copy::begin(&kernel_path)?;
    copy.append(&wanted.kernel, LONGEST_KERNEL)?;
    let kernel = copy.finish()?;
    let mut copy = Copy::begin(&fresh.join(INITRD))?;
    copy.append(&wanted.initrd, LONGEST_INITRD)?;
    let makers_initrd_bytes = copy.size;
    let signed = check_signatures(fresh, wanted, kernel.size, makers_initrd_bytes)?;
    if let Some(modules) = &wanted.modules {
        copy.pad()?;
        copy.append(modules, LONGEST_INITRD - copy.size)?;
    }
    let initrd = copy.finish()?;
    let (found_kernel, found_initrd, ways) = examine(fresh, wanted)?;
    if !ways.obstacles.is_empty() && !wanted.anyway {
        return Err(AddError::Unusable(ways.obstacles));
    }
    let estimate = (found_initrd.unpacked + initrd.size).div_ceil(MIB) + USUAL_NEED_MIB;
    let min_memory_mib = wanted.min_memory_mib.unwrap_or(estimate.next_multiple_of(256));
    let toml = toml::to_string(&ImageToml {
        command_line: wanted.command_line.trim(),
        min_memory_mib,
        architecture: found_kernel.architecture.as_deref(),
    });
    let toml = toml.expect("text and a number are TOML");
    write(&fresh.join("image.toml"), toml.as_bytes())?;
    let record = Record {
        added: crate::now(),
        kernel,
        initrd,
        makers_initrd_bytes,
        signed,
        found_kernel,
        found_initrd,
        plane: ways.plane,
    };
    write(&Record::path(fresh), &record.to_json())?;
    Ok(Added {
        record,
        ways,
        min_memory_mib,
    })
}

/// Before anything is looked at. The signatures and the key are kept with the image.
fn check_signatures(
    fresh: &Path,
    wanted: &Wanted,
    kernel_size: u64,
    initrd_size: u64,
) -> Result<Option<Kind>, AddError> {
    let Some(signatures) = &wanted.signatures else {
        return Ok(None);
    };
    let key = PublicKey::read(&signatures.public_key)?;
    key.check(&fresh.join(KERNEL), kernel_size, &signatures.kernel)?;
    key.check(&fresh.join(INITRD), initrd_size, &signatures.initrd)?;
    for (from, name) in [
        (&signatures.kernel, KERNEL_SIGNATURE),
        (&signatures.initrd, INITRD_SIGNATURE),
        (&signatures.public_key, SIGNER),
    ] {
        let mut copy = Copy::begin(&fresh.join(name))?;
        copy.append(from, MIB)?;
        copy.finish()?;
    }
    Ok(Some(key.kind()))
}

fn examine(fresh: &Path, wanted: &Wanted) -> Result<(kernel::Kernel, initrd::Initrd, Ways), AddError> {
    let path = fresh.join(KERNEL);
    let open = |path: &Path| File::open(path).map_err(FileError::of("open", path));
    let mut prefix = Vec::new();
    let read = open(&path)?.take(kernel::PREFIX as u64).read_to_end(&mut prefix);
    read.map_err(FileError::of("read", &path))?;
    let kernel = kernel::read(&prefix).map_err(|source| AddError::Kernel {
        path: wanted.kernel.clone(),
        source,
    })?;
    let init = init_of(&wanted.command_line);
    let file = open(&fresh.join(INITRD))?;
    let initrd = initrd::read(file, init, Budget::default()).map_err(|source| AddError::Initrd {
        path: wanted.initrd.clone(),
        source,
    })?;
    let ways = ways::find(&kernel, &initrd, wanted.command_line.trim(), init);
    Ok((kernel, initrd, ways))
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut file = create(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(FileError::of("write", path))
}

fn create(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path);
    file.map_err(FileError::of("make", path))
}

/// A file in the making, hashed on its way.
pub(super) struct Copy {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    pieces: Option<Pieces>,
}

/// The digests of the pieces of a file in the making.
struct Pieces {
    length: usize,
    /// Of the present piece, in bytes.
    filled: usize,
    hasher: Hasher,
    digests: Vec<u8>,
}

impl Pieces {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.length - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.length {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let hasher = std::mem::take(&mut self.hasher);
        self.digests.extend(hasher.finish().as_bytes());
        self.filled = 0;
    }
}

impl Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        let written = &bytes[..length];
        self.hasher.update(written);
        if let Some(pieces) = &mut self.pieces {
            pieces.update(written);
        }
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Copy {
    pub(super) fn begin(path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            path: path.to_owned(),
            file: create(path)?,
            hasher: Hasher::new(),
            size: 0,
            pieces: None,
        })
    }

    /// Also makes the digests of its pieces of `length` bytes.
    pub(super) fn in_pieces(mut self, length: usize) -> Self {
        self.pieces = Some(Pieces {
            length,
            filled: 0,
            hasher: Hasher::new(),
            digests: Vec::new(),
        });
        self
    }

    /// An ordinary file to copy from.
    pub(super) fn source(from: &Path) -> Result<File, AddError> {
        // A FIFO would keep us waiting for its other end, and a device may have none.
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(from);
        let source = opened.map_err(FileError::of("open", from))?;
        let metadata = source.metadata().map_err(FileError::of("read", from))?;
        match metadata.is_file() {
            true => Ok(source),
            false => Err(AddError::NotAFile(from.to_owned())),
        }
    }

    pub(super) fn append(&mut self, from: &Path, limit: u64) -> Result<(), AddError> {
        let mut source = Self::source(from)?;
        let mut buffer = vec![0; 1 << 20];
        let mut left = limit;
        loop {
            let length = source.read(&mut buffer).map_err(FileError::of("read", from))?;
            if length == 0 {
                return Ok(());
            }
            left = left.checked_sub(length as u64).ok_or_else(|| AddError::TooLong {
                path: from.to_owned(),
                limit,
            })?;
            self.put(&buffer[..length])?;
        }
    }

    /// Up to the boundary on which the kernel looks for the next archive.
    fn pad(&mut self) -> Result<(), FileError> {
        let padding = usize::try_from(self.size.next_multiple_of(4) - self.size).unwrap_or(0);
        self.put(&[0; 3][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.write_all(bytes).map_err(FileError::of("write", &self.path))
    }

    pub(super) fn finish_with_pieces(mut self) -> Result<(Pinned, Vec<u8>), FileError> {
        let digests = self.pieces.take().map(|mut pieces| {
            if pieces.filled > 0 {
                pieces.close();
            }
            pieces.digests
        });
        Ok((self.finish()?, digests.unwrap_or_default()))
    }

    pub(super) fn finish(self) -> Result<Pinned, FileError> {
        self.file.sync_all().map_err(FileError::of("write", &self.path))?;
        Ok(Pinned {
            size: self.size,
            sha256: self.hasher.finish(),
        })
    }
}
