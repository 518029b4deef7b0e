//! By which ways a lent server can use an image: who carries its tunnel, and how the wrapper gets in front of the installer.
//!
//! | data plane, best first | needs in the image |
//! |---|---|
//! | kernel | `wireguard`: the image's kernel carries it |
//! | tun | `tun`: the agent carries WireGuard itself, as in stage 1 |
//! | proxy | nothing: the agent takes connections on the loopback interface |
//!
//! This is a forecast for people: the wrapper looks again when the kernel runs, and tells what it has chosen. A plane that the command line names (`leaseboot.plane=`)
//! has to be there.
//!
//! One wrapper way: the agent is appended to the initrd as a further archive and named by `rdinit=` (docs/images.md). What stands in the way of
//! either is an [`Obstacle`], and each says what to do. Pure.

use super::initrd::{Driver, Initrd, InstallerKind, Modules};
use super::kernel::Kernel;
use leaseboot_protocol::architecture::Architecture;
use serde::{Deserialize, Serialize};
use std::fmt;

/// From this kernel on, finit_module(2) decompresses.
const DECOMPRESSES: (u32, u32) = (5, 17);

/// Who carries the tunnel's packets on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPlane {
    /// The kernel's WireGuard.
    Kernel,
    /// The agent, over a TUN device.
    Tun,
    /// The agent, as a proxy for HTTP.
    Proxy,
}

impl fmt::Display for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Tun => "tun",
            Self::Proxy => "proxy",
        })
    }
}

/// Why an image cannot be lent a server for, in this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Another machine.
    #[error(
        "the kernel is for {0}, and this version's agent, which becomes the installer's first program, is for x86_64 and aarch64 only"
    )]
    Architecture(String),
    /// The agent cannot start it.
    #[error("kexec cannot start the kernel: {0}")]
    Kexec(String),
    /// Nothing to hand over to.
    #[error("the initrd has no {0}, to which the wrapper would hand over; is it a whole initrd?")]
    Init(String),
    /// Modules of another kernel.
    #[error(
        "the initrd's modules are for {found}, and the kernel is {wanted}: they would not load; take both from the same release"
    )]
    OtherModules {
        /// The kernel's release.
        wanted: String,
        /// Those of the modules.
        found: String,
    },
    /// No lists.
    #[error(
        "the initrd has no modules.dep and modules.alias for {0}, by which the wrapper finds the network card's driver; add them with --modules ARCHIVE (`depmod -b` makes them)"
    )]
    Lists(String),
    /// The named plane has nothing to stand on.
    #[error(
        "the command line says {PLANE_WORD}{named}, and the image has no such thing for {release}: take the word away, or add the module and new lists with --modules ARCHIVE"
    )]
    DataPlane {
        /// The kernel's release.
        release: String,
        /// The plane.
        named: String,
    },
    /// Modules that this kernel cannot unpack.
    #[error(
        "the modules are compressed, and Linux {0} cannot unpack them on loading by itself (5.17 can); add uncompressed ones with --modules ARCHIVE"
    )]
    Compressed(String),
    /// More words than the kernel keeps.
    #[error(
        "the command line has {length} bytes, and with what leaseboot adds it passes the {limit} that the kernel keeps"
    )]
    CommandLine {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        limit: u32,
    },
}

/// The word by which a command line names a data plane, as the wrapper reads it.
const PLANE_WORD: &str = "leaseboot.plane=";

/// What leaseboot adds to a command line at most: `rdinit=`, the text's place, the card, the lender's console words.
const ADDED_WORDS: usize = 512;

/// What will be used, and what stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// What the image could use, best first; `proxy` needs nothing and is always among them.
    pub possible: Vec<DataPlane>,
    /// What will be used.
    pub plane: Option<DataPlane>,
    /// The `installer` of a profile that fits, when that is known.
    pub installer: Option<&'static str>,
    /// Why it cannot be used yet; nothing when it can.
    pub obstacles: Vec<Obstacle>,
}

/// The ways of an image with this kernel, initrd and command line.
pub fn find(kernel: &Kernel, initrd: &Initrd, command_line: &str, init: &str) -> Ways {
    let mut obstacles = Vec::new();
    let machine = kernel.architecture.as_deref().unwrap_or("an unknown machine");
    match (machine.parse::<Architecture>(), &kernel.kexec_obstacle) {
        (Ok(_), Some(reason)) => obstacles.push(Obstacle::Kexec(reason.clone())),
        (Ok(_), None) => {}
        (Err(_), _) => obstacles.push(Obstacle::Architecture(machine.to_owned())),
    }
    if let Some(limit) = kernel.command_line_limit
        && command_line.len() + ADDED_WORDS > usize::try_from(limit).unwrap_or(usize::MAX)
    {
        let length = command_line.len();
        obstacles.push(Obstacle::CommandLine { length, limit });
    }
    if !initrd.has_init {
        obstacles.push(Obstacle::Init(init.to_owned()));
    }
    let release = release(kernel, initrd);
    let modules = release.and_then(|release| initrd.modules.get(release));
    let possible = planes(modules);
    obstacles.extend(module_obstacles(release, modules, initrd));
    let plane = match named_plane(command_line) {
        None => possible.first().copied(),
        Some(named) => {
            let plane = possible.iter().copied().find(|plane| plane.to_string() == named);
            if plane.is_none() {
                let (release, named) = (release.unwrap_or("its kernel").to_owned(), named.to_owned());
                obstacles.push(Obstacle::DataPlane { release, named });
            }
            plane
        }
    };
    Ways {
        possible,
        plane,
        installer: installer(initrd.kind),
        obstacles,
    }
}

/// The kernel's own word, or, where it gives none, that of the only modules that there are.
fn release<'a>(kernel: &'a Kernel, initrd: &'a Initrd) -> Option<&'a str> {
    let only = || match initrd.modules.len() {
        1 => initrd.modules.keys().next().map(String::as_str),
        _ => None,
    };
    kernel.release.as_deref().or_else(only)
}

fn named_plane(command_line: &str) -> Option<&str> {
    let words = command_line.split_whitespace();
    words.filter_map(|word| word.strip_prefix(PLANE_WORD)).next_back()
}

fn planes(modules: Option<&Modules>) -> Vec<DataPlane> {
    let has = |driver: Driver| driver != Driver::Absent;
    let kernel = modules.is_some_and(|modules| has(modules.wireguard));
    let tun = modules.is_some_and(|modules| has(modules.tun));
    let mut possible = Vec::new();
    possible.extend(kernel.then_some(DataPlane::Kernel));
    possible.extend(tun.then_some(DataPlane::Tun));
    possible.push(DataPlane::Proxy);
    possible
}

fn module_obstacles(release: Option<&str>, modules: Option<&Modules>, initrd: &Initrd) -> Vec<Obstacle> {
    let named = release.unwrap_or("its kernel").to_owned();
    let Some(modules) = modules else {
        let found: Vec<_> = initrd.modules.keys().map(String::as_str).collect();
        return match (release, found.as_slice()) {
            (Some(wanted), [_, ..]) => vec![Obstacle::OtherModules {
                wanted: wanted.to_owned(),
                found: found.join(", "),
            }],
            _ => vec![Obstacle::Lists(named)],
        };
    };
    let mut obstacles = Vec::new();
    if !modules.lists {
        obstacles.push(Obstacle::Lists(named.clone()));
    }
    // All modules of an image are packed alike, the network card's too.
    if [modules.tun, modules.wireguard].contains(&Driver::CompressedModule)
        && version(&named).is_some_and(|known| known < DECOMPRESSES)
    {
        obstacles.push(Obstacle::Compressed(named));
    }
    obstacles
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release
        .split(['.', '-', '+', '~'])
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The word for `installer` of a profile (docs/merge.md).
fn installer(kind: InstallerKind) -> Option<&'static str> {
    match kind {
        InstallerKind::Anaconda => Some("kickstart"),
        InstallerKind::DebianInstaller => Some("preseed"),
        InstallerKind::Casper => Some("autoinstall"),
        _ => None,
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let possible: Vec<_> = self.possible.iter().map(ToString::to_string).collect();
        match self.plane {
            Some(plane) => write!(f, "data plane {plane} will be used")?,
            None => f.write_str("the named data plane is not there")?,
        }
        write!(f, " (the image could use: {})", possible.join(", "))?;
        f.write_str("; wrapper: an archive appended to the initrd, started by rdinit=")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::examine::kernel::Format;
    use std::collections::BTreeMap;

    fn kernel() -> Kernel {
        Kernel {
            format: Format::BzImage,
            architecture: Some("x86_64".to_owned()),
            release: Some("6.1.0-37-amd64".to_owned()),
            protocol: Some((2, 15)),
            efi_stub: true,
            command_line_limit: Some(2047),
            kexec_obstacle: None,
        }
    }

    fn initrd(release: &str, tun: Driver, wireguard: Driver) -> Initrd {
        let modules = Modules {
            files: 2,
            lists: true,
            tun,
            wireguard,
        };
        Initrd {
            parts: Vec::new(),
            unpacked: 0,
            has_init: true,
            kind: InstallerKind::DebianInstaller,
            modules: BTreeMap::from([(release.to_owned(), modules)]),
        }
    }

    const OURS: &str = "6.1.0-37-amd64";

    #[test]
    fn the_best_plane_is_used_or_the_one_that_is_named() {
        let (tun, wireguard, absent) = (Driver::Module, Driver::BuiltIn, Driver::Absent);
        for (initrd, words, expected) in [
            (initrd(OURS, tun, wireguard), "quiet", DataPlane::Kernel),
            (initrd(OURS, tun, absent), "quiet", DataPlane::Tun),
            (initrd(OURS, absent, absent), "quiet", DataPlane::Proxy),
            (
                initrd(OURS, tun, wireguard),
                "leaseboot.plane=proxy",
                DataPlane::Proxy,
            ),
        ] {
            let ways = find(&kernel(), &initrd, words, "/init");
            assert_eq!((ways.plane, ways.obstacles), (Some(expected), Vec::new()));
            assert_eq!(ways.possible.last(), Some(&DataPlane::Proxy));
            assert_eq!(ways.installer, Some("preseed"));
        }
    }

    #[test]
    fn what_stands_in_the_way_says_what_to_do() {
        let told = |initrd: &Initrd| {
            let ways = find(&kernel(), initrd, "quiet leaseboot.plane=tun", "/init");
            ways.obstacles
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(told(&initrd(OURS, Driver::Absent, Driver::Module)).contains("leaseboot.plane=tun"));
        assert!(told(&initrd("6.1.0-40-amd64", Driver::Module, Driver::Absent)).contains("same release"));
        let mut bare = initrd(OURS, Driver::Module, Driver::Absent);
        bare.has_init = false;
        bare.modules.get_mut(OURS).unwrap().lists = false;
        assert!(
            told(&bare).contains("no /init") && told(&bare).contains("modules.dep"),
            "{}",
            told(&bare)
        );
    }

    #[test]
    fn an_old_kernel_cannot_unpack_modules() {
        let mut old = kernel();
        old.release = Some("5.10.0-8-amd64".to_owned());
        let initrd = initrd("5.10.0-8-amd64", Driver::CompressedModule, Driver::Absent);
        let ways = find(&old, &initrd, "", "/init");
        assert_eq!(
            ways.obstacles,
            [Obstacle::Compressed("5.10.0-8-amd64".to_owned())]
        );
    }

    #[test]
    fn another_machine_and_a_long_command_line_are_obstacles() {
        let mut other = kernel();
        other.architecture = Some("riscv64".to_owned());
        let initrd = initrd(OURS, Driver::Module, Driver::Absent);
        let ways = find(&other, &initrd, &"x".repeat(1600), "/init");
        assert_eq!(ways.obstacles.len(), 2, "{:?}", ways.obstacles);
        other.architecture = Some("aarch64".to_owned());
        assert_eq!(find(&other, &initrd, "", "/init").obstacles, []);
    }
}
