//! Kernel modules by modalias, without udev: what sysfs says is there, `modules.alias` says which module, `modules.dep` says what
//! that module needs (modules.alias(5), modules.dep(5)).
//!
//! Used twice: in stage 1 on our own image, in stage 2 on the enterprise's, whose modules may be compressed.

use crate::console::say;
use crate::errors::chain;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kernel decompresses the module itself (`MODULE_INIT_COMPRESSED_FILE`, Linux 5.17).
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
const NO_PARAMETERS: &CStr = c"";
/// A bus may bring another bus: this many layers at most.
const ROUNDS: usize = 8;

/// Modules could not be found or loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// The image has no list.
    #[error("cannot read {path}: the image was built without its module lists")]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module that is needed by name is not in the image.
    #[error("the image has no kernel module {name:?} for its kernel {release}")]
    Missing {
        /// The module.
        name: String,
        /// The running kernel.
        release: String,
    },
    /// The kernel refused a module.
    #[error("the kernel refused the module {path}")]
    Refused {
        /// The module.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Which devices are wanted now. Storage controllers take long to probe, and the network need not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything but storage.
    Network,
    /// Everything.
    Everything,
}

/// Where kernels keep the drivers of storage controllers.
const STORAGE: [&str; 5] = ["/ata/", "/scsi/", "/nvme/", "/message/", "/block/"];

/// The modules of one image for the running kernel.
#[derive(Clone)]
pub(crate) struct Drivers {
    lists: Arc<Lists>,
    loaded: BTreeSet<String>,
    /// Modules that were loaded, or tried, because another one likes them.
    asked: BTreeSet<String>,
}

#[derive(Default)]
struct Lists {
    folder: PathBuf,
    release: String,
    /// Patterns and modules by the bus that the pattern begins with.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    modules: BTreeMap<String, ModuleFile>,
    /// What a module likes to find loaded, such as the driver of a card's PHY. Nobody else answers the kernel's requests.
    likes: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct ModuleFile {
    path: String,
    /// Nearest first, as depmod writes them: load from the end.
    needs: Vec<String>,
}

impl Drivers {
    /// Reads the lists below `/lib/modules` for the running kernel.
    pub(crate) fn open() -> Result<Self, DriverError> {
        let release = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::open_at(&Path::new("/lib/modules").join(&release), release)
    }

    /// As [`Drivers::open`]; an image without lists has no modules that could be loaded, and then its kernel has to bring all that is needed.
    pub(crate) fn of_image() -> Self {
        Self::open().unwrap_or_else(|error| {
            say!(
                "drivers: {}; the kernel's own have to do",
                chain(&error).join(": ")
            );
            Self {
                lists: Arc::default(),
                loaded: BTreeSet::new(),
                asked: BTreeSet::new(),
            }
        })
    }

    fn open_at(folder: &Path, release: String) -> Result<Self, DriverError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| DriverError::List { path, source })
        };
        let builtin = read("modules.builtin").unwrap_or_default();
        let lists = Lists {
            aliases: parse_aliases(&read("modules.alias")?),
            modules: parse_dependencies(&read("modules.dep")?),
            likes: parse_soft_dependencies(&read("modules.softdep").unwrap_or_default()),
            builtin: builtin.lines().map(module_name).collect(),
            folder: folder.to_owned(),
            release,
        };
        Ok(Self {
            lists: Arc::new(lists),
            loaded: BTreeSet::new(),
            asked: BTreeSet::new(),
        })
    }

    /// Loads what every device that sysfs shows asks for, until no new device appears. A device without a module, or whose
    /// module refuses, is none of a transfer's business; returns the names of the modules that were loaded.
    pub(crate) fn load_for_hardware(&mut self, wanted: Wanted) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut loaded = Vec::new();
        for _ in 0..ROUNDS {
            let mut fresh = modaliases(Path::new("/sys/bus"));
            fresh.retain(|modalias| seen.insert(modalias.clone()));
            if fresh.is_empty() {
                break;
            }
            for name in self.lists.wanted_by(&fresh, wanted) {
                if !self.loaded.contains(&name) && self.load(&name).is_ok() {
                    loaded.push(name);
                }
            }
        }
        loaded
    }

    /// Loads one module by name, with what it needs; done already when it is built into the kernel.
    pub(crate) fn load(&mut self, name: &str) -> Result<(), DriverError> {
        let name = normal(name);
        let lists = Arc::clone(&self.lists);
        if lists.builtin.contains(&name) || self.loaded.contains(&name) {
            return Ok(());
        }
        let Some(module) = lists.modules.get(&name) else {
            return Err(DriverError::Missing {
                name,
                release: lists.release.clone(),
            });
        };
        for liked in lists.likes.get(&name).into_iter().flatten() {
            // Best effort, as modprobe(8) does it. The list may name a module that names this one back.
            if lists.modules.contains_key(liked) && self.asked.insert(liked.clone()) {
                let _ = self.load(liked);
            }
        }
        for path in module.needs.iter().rev().chain([&module.path]) {
            if self.loaded.insert(module_name(path)) {
                insert(&lists.folder.join(path))?;
            }
        }
        Ok(())
    }
}

impl Lists {
    fn wanted_by(&self, modaliases: &BTreeSet<String>, wanted: Wanted) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for modalias in modaliases {
            let patterns = self.aliases.get(bus(modalias)).into_iter().flatten();
            let fitting = patterns.filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()));
            names.extend(fitting.map(|(_, module)| module.clone()));
        }
        names.retain(|name| wanted == Wanted::Everything || !self.is_storage(name));
        names
    }

    fn is_storage(&self, name: &str) -> bool {
        let path = self.modules.get(name).map_or("", |module| &module.path);
        STORAGE.iter().any(|folder| path.contains(folder))
    }
}

fn insert(path: &Path) -> Result<(), DriverError> {
    let refused = |source| DriverError::Refused {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(refused)?;
    let flags = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => ModuleInitFlags::empty(),
        _ => COMPRESSED,
    };
    match finit_module(&file, NO_PARAMETERS, flags) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(error) => Err(refused(error.into())),
    }
}

/// What the devices of all buses say of themselves (`/sys/bus/*/devices/*/modalias`).
fn modaliases(buses: &Path) -> BTreeSet<String> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    entries(buses.to_owned())
        .flat_map(|bus| entries(bus.path().join("devices")))
        .filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok())
        .map(|text| text.trim().to_owned())
        .collect()
}

fn parse_aliases(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut by_bus: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
            by_bus
                .entry(bus(pattern).to_owned())
                .or_default()
                .push((pattern.to_owned(), normal(module)));
        }
    }
    by_bus
}

/// The first word of a modalias or a pattern: `pci` of `pci:v00001AF4…`, `acpi` of `acpi*:PNP0A03:*`.
fn bus(modalias: &str) -> &str {
    let end = modalias
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(modalias.len());
    &modalias[..end]
}

fn parse_dependencies(text: &str) -> BTreeMap<String, ModuleFile> {
    let module = |line: &str| {
        let (path, needs) = line.split_once(':')?;
        let needs = needs.split_whitespace().map(str::to_owned).collect();
        Some((
            module_name(path),
            ModuleFile {
                path: path.to_owned(),
                needs,
            },
        ))
    };
    text.lines().filter_map(module).collect()
}

/// `softdep r8169 pre: realtek post: other` (modprobe.d(5)): only what is to come before.
fn parse_soft_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("softdep ")?.split_whitespace();
        let name = normal(words.next()?);
        let before = words
            .skip_while(|word| *word != "pre:")
            .skip(1)
            .take_while(|word| *word != "post:");
        Some((name, before.map(normal).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// `kernel/drivers/net/tun.ko.xz` → `tun`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split(".ko").next().unwrap_or(file))
}

/// The kernel treats `-` and `_` in module names alike.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Shell patterns of modules.alias: `*`, `?` and `[…]` (fnmatch(3)).
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        Some((b'?', rest)) => text.split_first().is_some_and(|(_, text)| matches(rest, text)),
        Some((b'[', rest)) => match (rest.iter().position(|byte| *byte == b']'), text.split_first()) {
            (Some(end), Some((byte, text))) => {
                in_class(&rest[..end], *byte) && matches(&rest[end + 1..], text)
            }
            _ => false,
        },
        Some((byte, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| first == byte && matches(rest, text)),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_class(rest, byte),
        [one, rest @ ..] => *one == byte || in_class(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALIASES: &str = "# Aliases extracted from modules themselves.
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio-net
alias acpi*:PNP0[ABC]0?:* example
alias pci:v00008086d00007010sv* ata_piix
";
    const DEPENDENCIES: &str =
        "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/tun.ko.xz:
kernel/drivers/ata/ata_piix.ko: kernel/drivers/ata/libata.ko
";

    #[test]
    fn finds_modules_of_devices() {
        let lists = Lists {
            folder: PathBuf::new(),
            release: String::new(),
            aliases: parse_aliases(ALIASES),
            modules: parse_dependencies(DEPENDENCIES),
            likes: BTreeMap::new(),
            builtin: BTreeSet::new(),
        };
        let wanted =
            |modalias: &str| lists.wanted_by(&BTreeSet::from([modalias.to_owned()]), Wanted::Network);
        assert_eq!(
            wanted("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"),
            BTreeSet::from(["virtio_pci".into()])
        );
        assert_eq!(
            wanted("virtio:d00000001v00001AF4"),
            BTreeSet::from(["virtio_net".into()])
        );
        assert_eq!(wanted("acpi:PNP0B00:"), BTreeSet::from(["example".into()]));
        assert!(wanted("acpi:PNP0D00:").is_empty());
        assert!(wanted("pci:v00008086d00007010sv").is_empty(), "storage waits");
    }

    #[test]
    fn reads_what_a_module_needs() {
        let modules = parse_dependencies(DEPENDENCIES);
        assert_eq!(
            modules["virtio_net"].needs,
            [
                "kernel/drivers/net/net_failover.ko",
                "kernel/net/core/failover.ko"
            ]
        );
        assert_eq!(modules["tun"].path, "kernel/drivers/net/tun.ko.xz");
    }

    #[test]
    fn reads_what_a_module_likes() {
        let likes = parse_soft_dependencies(
            "# x\nsoftdep r8169 pre: realtek other-one post: late\nsoftdep a post: b\n",
        );
        assert_eq!(likes["r8169"], ["realtek", "other_one"]);
        assert!(likes["a"].is_empty());
    }

    #[test]
    fn a_missing_module_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("modules.alias"), ALIASES).unwrap();
        fs::write(folder.path().join("modules.dep"), DEPENDENCIES).unwrap();
        let mut drivers = Drivers::open_at(folder.path(), "6.1".into()).unwrap();
        let error = drivers.load("wireguard").unwrap_err().to_string();
        assert!(error.contains("wireguard") && error.contains("6.1"), "{error}");
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z0-9:]{0,30}") {
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            prop_assert!(matches(b"*", text.as_bytes()));
        }

        #[test]
        fn patterns_never_panic(pattern in "[a-c*?\\[\\]-]{0,12}", text in "[a-c]{0,12}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
