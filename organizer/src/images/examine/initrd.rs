//! What is in an initrd, as the kernel would unpack it: archives one after the other, each plain or compressed (init/initramfs.c, `unpack_to_rootfs`).
//!
//! Of each entry only the name is looked at, and of a few lists the content: whether there is an init, what kind of installer it belongs to, and
//! what the wrapper needs, which loads drivers by the lists that depmod makes. All is bounded; see [`Budget`].

use super::archive::{self, ArchiveError, Budget, Entry, Kind, Visitor};
use super::compression::Compression;
use super::kernel::is_release;
use super::source::Source;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};

/// No kernel's list is as long.
const LONGEST_LIST: u64 = 8 << 20;
const MOST_RELEASES: usize = 16;
const MOST_ARCHIVES: usize = 64;

/// An initrd cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// Neither an archive nor a compressed one.
    #[error(
        "at byte {at} begins neither a cpio archive nor a compression that the kernel knows; an initrd that is a disk image has no place for leaseboot's wrapper"
    )]
    Foreign {
        /// Where.
        at: u64,
    },
    /// A plain archive off its boundary.
    #[error("the archive at byte {at} is not on a 4-byte boundary, where the kernel would not take it")]
    Boundary {
        /// Where.
        at: u64,
    },
    /// A compression that is not looked into.
    #[error(
        "the archive at byte {at} is packed with {compression}, which leaseboot does not look into; pack it with zstd, xz or gzip"
    )]
    Compression {
        /// Where.
        at: u64,
        /// Which.
        compression: Compression,
    },
    /// An archive in it is broken.
    #[error("the {compression} archive at byte {at} cannot be read")]
    Archive {
        /// Where.
        at: u64,
        /// How it is packed.
        compression: Compression,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// More archives than anybody joins.
    #[error("it has more than {MOST_ARCHIVES} archives")]
    TooManyArchives,
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// Whose initrd it is, known by files that only its makers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallerKind {
    /// Anaconda: Fedora, RHEL and their kin.
    Anaconda,
    /// Debian's installer.
    DebianInstaller,
    /// Ubuntu's live system, which subiquity runs in.
    Casper,
    /// Debian's live system.
    LiveBoot,
    /// dracut with another purpose.
    Dracut,
    /// initramfs-tools with another purpose.
    InitramfsTools,
    /// busybox with an init of its own.
    Busybox,
    /// None of these.
    #[serde(other)]
    Other,
}

impl fmt::Display for InstallerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Anaconda => "anaconda",
            Self::DebianInstaller => "debian-installer",
            Self::Casper => "casper",
            Self::LiveBoot => "live-boot",
            Self::Dracut => "dracut",
            Self::InitramfsTools => "initramfs-tools",
            Self::Busybox => "busybox",
            Self::Other => "other",
        })
    }
}

/// One archive of an initrd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How it is packed.
    pub compression: Compression,
    /// Its entries.
    pub entries: u64,
    /// Whether it is microcode for the early kernel, and nothing else.
    pub microcode: bool,
}

/// How a kernel's driver is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Not at all, as far as the lists say.
    #[default]
    Absent,
    /// In the kernel itself.
    BuiltIn,
    /// As a module.
    Module,
    /// As a compressed module.
    CompressedModule,
}

/// The modules of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// How many module files there are.
    pub files: u64,
    /// Whether depmod's `modules.dep` and `modules.alias` are there.
    pub lists: bool,
    /// `tun`.
    pub tun: Driver,
    /// `wireguard`.
    pub wireguard: Driver,
}

/// What an initrd holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initrd {
    /// Its archives, in order.
    pub parts: Vec<Part>,
    /// Its length when unpacked, in bytes.
    pub unpacked: u64,
    /// Whether the program is there that the kernel is to run.
    pub has_init: bool,
    /// Whose it is.
    pub kind: InstallerKind,
    /// Modules, by the release of their kernel.
    pub modules: BTreeMap<String, Modules>,
}

/// Reads an initrd to its end. `init` is the program that the image's own command line names, such as `/init`.
///
/// # Errors
/// [`InitrdError`].
pub fn read(file: impl Read, init: &str, mut budget: Budget) -> Result<Initrd, InitrdError> {
    let whole = budget.bytes;
    let mut source = Source::new(file);
    let mut finds = Finds::new(init);
    let mut parts = Vec::new();
    loop {
        source.skip_zeros().map_err(InitrdError::Read)?;
        let at = source.position();
        let ahead = source.peek(8).map_err(InitrdError::Read)?;
        if ahead.is_empty() {
            break;
        }
        let compression = Compression::of(ahead).ok_or(InitrdError::Foreign { at })?;
        if compression == Compression::None && !at.is_multiple_of(4) {
            return Err(InitrdError::Boundary { at });
        }
        if parts.len() == MOST_ARCHIVES {
            return Err(InitrdError::TooManyArchives);
        }
        finds.begin_part();
        let entries = match compression {
            Compression::None => archive::read(&mut source, &mut budget, &mut finds),
            packed => match packed.decoder(&mut source) {
                Ok(Some(stream)) => stream_of_archives(stream, &mut budget, &mut finds),
                Ok(None) => return Err(InitrdError::Compression { at, compression }),
                Err(error) => Err(ArchiveError::Stream(error)),
            },
        };
        let entries = entries.map_err(|source| InitrdError::Archive {
            at,
            compression,
            source,
        })?;
        parts.push(Part {
            compression,
            entries,
            microcode: finds.only_microcode,
        });
    }
    if parts.is_empty() {
        return Err(InitrdError::Foreign { at: 0 });
    }
    Ok(finds.finish(parts, whole - budget.bytes))
}

/// What comes out of one decompression: archives with zeros between them.
fn stream_of_archives(
    stream: Box<dyn Read + '_>,
    budget: &mut Budget,
    finds: &mut Finds,
) -> Result<u64, ArchiveError> {
    let mut stream = Source::new(stream);
    let mut entries = 0;
    loop {
        entries += archive::read(&mut stream, budget, finds)?;
        let before = stream.position();
        stream.skip_zeros().map_err(ArchiveError::Stream)?;
        let zeros = stream.position() - before;
        budget.bytes = budget.bytes.checked_sub(zeros).ok_or(ArchiveError::TooLarge)?;
        if stream.peek(1).map_err(ArchiveError::Stream)?.is_empty() {
            return Ok(entries);
        }
    }
}

/// Files that one maker's images have, and whose they are. The first that is found decides.
const MARKS: [(InstallerKind, &[&str]); 7] = [
    (
        InstallerKind::Anaconda,
        &[
            "sbin/parse-kickstart",
            "sbin/anaconda-lib.sh",
            "lib/anaconda-lib.sh",
        ],
    ),
    (
        InstallerKind::DebianInstaller,
        &["lib/debian-installer-startup.d/", "sbin/debian-installer"],
    ),
    (InstallerKind::Casper, &["scripts/casper"]),
    (InstallerKind::LiveBoot, &["scripts/live", "lib/live/boot/"]),
    (
        InstallerKind::Dracut,
        &["lib/dracut/", "lib/dracut-lib.sh", "bin/dracut-cmdline"],
    ),
    (
        InstallerKind::InitramfsTools,
        &["scripts/functions", "conf/initramfs.conf"],
    ),
    (InstallerKind::Busybox, &["bin/busybox", "sbin/busybox"]),
];

/// What was found so far.
struct Finds {
    init: String,
    has_init: bool,
    only_microcode: bool,
    kinds: BTreeSet<InstallerKind>,
    releases: BTreeMap<String, Release>,
}

impl Finds {
    fn new(init: &str) -> Self {
        Self {
            init: merged_usr(init.trim_start_matches('/')).to_owned(),
            has_init: false,
            only_microcode: false,
            kinds: BTreeSet::new(),
            releases: BTreeMap::new(),
        }
    }

    fn begin_part(&mut self) {
        self.only_microcode = true;
    }

    fn finish(self, parts: Vec<Part>, unpacked: u64) -> Initrd {
        Initrd {
            parts,
            unpacked,
            has_init: self.has_init,
            kind: self.kinds.first().copied().unwrap_or(InstallerKind::Other),
            modules: self
                .releases
                .iter()
                .map(|(name, found)| (name.clone(), found.modules()))
                .collect(),
        }
    }

    /// A file below a kernel's module folder; answers how much of it is wanted.
    fn module_file(&mut self, release: &str, below: &str) -> Option<u64> {
        let known = self.releases.contains_key(release);
        if !is_release(release.as_bytes()) || (!known && self.releases.len() == MOST_RELEASES) {
            return None;
        }
        let found = self.releases.entry(release.to_owned()).or_default();
        match below {
            // A later list takes the place of an earlier one.
            "modules.dep" => found.listed = Some(Drivers::default()),
            "modules.alias" => found.alias = true,
            "modules.builtin" => found.builtin = Drivers::default(),
            _ => {
                if let Some((name, compressed)) = module_name(below) {
                    found.files += 1;
                    found.present.insert(&name);
                    found.compressed |= compressed;
                }
                return None;
            }
        }
        Some(LONGEST_LIST)
    }
}

/// The drivers that a tunnel may stand on.
#[derive(Clone, Copy, Debug, Default)]
struct Drivers {
    tun: bool,
    wireguard: bool,
}

impl Drivers {
    fn insert(&mut self, name: &str) {
        self.tun |= name == "tun";
        self.wireguard |= name == "wireguard";
    }

    /// Those of a list of files, such as `kernel/drivers/net/tun.ko: …`.
    fn of_list(content: &[u8]) -> Self {
        let mut drivers = Self::default();
        for line in String::from_utf8_lossy(content).lines() {
            let file = line.split(':').next().unwrap_or(line);
            if let Some((name, _)) = module_name(file.trim_end()) {
                drivers.insert(&name);
            }
        }
        drivers
    }
}

/// What was found of one kernel's modules.
#[derive(Default)]
struct Release {
    files: u64,
    alias: bool,
    listed: Option<Drivers>,
    builtin: Drivers,
    present: Drivers,
    compressed: bool,
}

impl Release {
    fn modules(&self) -> Modules {
        // The agent loads by modules.dep: a file that is not listed there does not exist for it. Where there is no list, that is its own obstacle.
        let listed = self.listed.unwrap_or(self.present);
        let driver = |builtin, loadable| match (builtin, loadable) {
            (true, _) => Driver::BuiltIn,
            (false, true) if self.compressed => Driver::CompressedModule,
            (false, true) => Driver::Module,
            (false, false) => Driver::Absent,
        };
        Modules {
            files: self.files,
            lists: self.alias && self.listed.is_some(),
            tun: driver(self.builtin.tun, self.present.tun && listed.tun),
            wireguard: driver(self.builtin.wireguard, self.present.wireguard && listed.wireguard),
        }
    }
}

impl Visitor for Finds {
    fn wants(&mut self, entry: &Entry) -> Option<u64> {
        if entry.kind != Kind::Other && !entry.name.starts_with("kernel/x86/") {
            self.only_microcode = false;
        }
        let name = merged_usr(&entry.name);
        if name == self.init && entry.kind != Kind::Other {
            self.has_init = true;
        }
        for (kind, marks) in MARKS {
            let meets = |mark: &&str| match mark.strip_suffix('/') {
                Some(folder) => name.starts_with(*mark) || name == folder,
                None => name == *mark,
            };
            if marks.iter().any(meets) {
                self.kinds.insert(kind);
            }
        }
        let (release, below) = name.strip_prefix("lib/modules/")?.split_once('/')?;
        match entry.kind {
            Kind::File => self.module_file(release, below),
            _ => None,
        }
    }

    fn content(&mut self, entry: &Entry, content: Vec<u8>) {
        let name = merged_usr(&entry.name);
        let Some((release, list)) = name
            .strip_prefix("lib/modules/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return;
        };
        let Some(found) = self.releases.get_mut(release) else {
            return;
        };
        match list {
            "modules.dep" => found.listed = Some(Drivers::of_list(&content)),
            "modules.builtin" => found.builtin = Drivers::of_list(&content),
            _ => {}
        }
    }
}

/// `/usr/lib` and `/lib` are one folder where the distribution has merged them, and an archive may name either.
fn merged_usr(name: &str) -> &str {
    name.strip_prefix("usr/").unwrap_or(name)
}

/// A module's name, as the kernel knows it, by its file's; and whether the file is compressed.
fn module_name(path: &str) -> Option<(String, bool)> {
    let file = path.rsplit('/').next()?;
    let (name, packed) = file.split_once(".ko")?;
    let compressed = match packed {
        "" => false,
        ".xz" | ".zst" | ".gz" => true,
        _ => return None,
    };
    Some((name.replace('-', "_"), compressed))
}
