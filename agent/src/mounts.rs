//! The kernel's own file systems. In stage 1 they stay; in stage 2 those that the wrapper mounted go again before the image's own
//! init runs, so that it finds the root as it expects it.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;

/// A mount failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {target}")]
pub(crate) struct MountError {
    kind: &'static str,
    target: &'static str,
    #[source]
    source: nix::Error,
}

struct FileSystem {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&'static str>,
}

const KERNEL: [FileSystem; 3] = [
    FileSystem {
        kind: "proc",
        target: "/proc",
        flags: RESTRICTED,
        options: None,
    },
    FileSystem {
        kind: "sysfs",
        target: "/sys",
        flags: RESTRICTED,
        options: None,
    },
    FileSystem {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID,
        options: Some("mode=0755"),
    },
];
const RUN: FileSystem = FileSystem {
    kind: "tmpfs",
    target: "/run",
    flags: MsFlags::from_bits_truncate(MsFlags::MS_NOSUID.bits() | MsFlags::MS_NODEV.bits()),
    options: Some("mode=0755"),
};
const RESTRICTED: MsFlags = MsFlags::from_bits_truncate(
    MsFlags::MS_NOSUID.bits() | MsFlags::MS_NODEV.bits() | MsFlags::MS_NOEXEC.bits(),
);

/// What was mounted and can be taken away again.
#[must_use]
pub(crate) struct KernelMounts(Vec<&'static str>);

impl KernelMounts {
    /// Mounts `/proc`, `/sys` and `/dev` where nothing is mounted yet.
    pub(crate) fn mount() -> Result<Self, MountError> {
        let mut done = Vec::new();
        for file_system in &KERNEL {
            if mount_one(file_system)? {
                done.push(file_system.target);
            }
        }
        Ok(Self(done))
    }

    /// Takes away what [`KernelMounts::mount`] mounted, even where a child still holds a file open.
    pub(crate) fn unmount(self) {
        for target in self.0.into_iter().rev() {
            let _ = umount2(target, MntFlags::MNT_DETACH);
        }
    }
}

/// Mounts the tmpfs on `/run` that every later init adopts.
pub(crate) fn mount_run() -> Result<(), MountError> {
    mount_one(&RUN).map(|_| ())
}

fn mount_one(file_system: &FileSystem) -> Result<bool, MountError> {
    let FileSystem {
        kind,
        target,
        flags,
        options,
    } = *file_system;
    if is_mount_point(target) {
        return Ok(false);
    }
    let made = std::fs::create_dir_all(target)
        .map_err(|error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    made.and_then(|()| mount(Some(kind), target, Some(kind), flags, options))
        .map_err(|source| MountError { kind, target, source })?;
    Ok(true)
}

fn is_mount_point(target: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    device(Path::new(target)).is_some_and(|there| device(Path::new("/")) != Some(there))
}
